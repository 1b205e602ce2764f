"""The command line as a process: interrupted, cut off, and called as a module."""

import os
import signal
import subprocess
import sys

import pytest

from npllm.training.metrics import read_metrics

pytest_plugins = ["tiny_run"]

ENVIRONMENT = {**os.environ, "PYTHONUTF8": "1"}


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "npllm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=ENVIRONMENT,
    )


@pytest.mark.parametrize(
    ("arguments", "status", "out", "errors"),
    [
        (["--help"], 0, "usage: npllm", ""),
        (["generate", "run", "--tokens=5", "--prompt=Zwölf 😀"], 0, "Zwölf 😀", ""),
        (["generate", "missing"], 2, "", "npllm: error: there is no missing: name a run"),
        (["generate", "run", "--prompt=\udcff"], 2, "", "npllm: error: the vocabulary lacks"),
        ([], 2, "", "npllm: error: the following arguments are required: COMMAND"),
    ],
)
def test_a_module_that_runs(place, arguments, status, out, errors):
    process = start(*arguments)
    printed = process.communicate(timeout=60)
    assert process.returncode == status
    for text, beginning in zip(printed, (out, errors), strict=True):
        assert text.startswith(beginning)
        assert bool(text) == bool(beginning)
    assert len(printed[1].splitlines()) == (status == 2)


def test_ctrl_c_while_it_is_imported_is_no_traceback():
    code = (
        "import signal, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'npllm.cli': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from npllm.__main__ import start\n"
        "sys.exit(start())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_saves_and_says_how_to_go_on(npllm, place, tiny, number):
    arguments = ["train", "--data=text", *tiny, "--schedule=constant", "--sample=0"]
    process = start(*arguments, "--out=new", "--steps=1000000")
    first = next(line for line in process.stdout if line.startswith("step "))
    assert "validation loss" in first
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    words = out.splitlines()[-1].split()
    assert words[:3] == ["stopped", "at", "step"]
    assert " ".join(words[4:]) == "go on with: npllm train --resume new"
    taken = int(words[3].rstrip(";"))
    assert 3 <= taken < 1_000_000
    assert npllm(*words[-3:], f"--steps={taken + 5}", "--sample=0")[0] == 0
    assert npllm(*arguments, "--out=whole", f"--steps={taken + 5}")[0] == 0
    for name in ("model.safetensors", "training.safetensors"):
        stopped, whole = (
            place / run / f"checkpoint-{taken + 5:08d}" / name for run in ("new", "whole")
        )
        assert stopped.read_bytes() == whole.read_bytes()
    assert [line["train_loss"] for line in read_metrics("new")] == [
        line["train_loss"] for line in read_metrics("whole")
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes")
def test_a_reader_may_leave(place):
    process = start("generate", "run", "--tokens=1000000")
    assert process.stdout.read(5)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141
    process.stderr.close()
