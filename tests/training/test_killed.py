"""Processes killed without warning: what they leave goes on to the bits of a run never killed."""

import subprocess
import sys
import time

import numpy as np
import pytest

from npllm.training import Run
from npllm.training.metrics import read_metrics


def start(*arguments, stdout=subprocess.DEVNULL):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "npllm", "train", "--sample=0", *arguments],
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )


def left_behind(directory):
    """Every bit of a run that time does not change."""
    (latest,) = directory.glob("checkpoint-*[0-9]")
    metrics = [
        {**line, "tokens_per_second": None, "seconds": None} for line in read_metrics(directory)
    ]
    weights = {p.name: p.read_bytes() for p in latest.iterdir() if p.suffix == ".safetensors"}
    assert len(weights) == 2
    return metrics, latest.name, weights


def test_a_killed_process_is_resumed(tmp_path):
    text = tmp_path / "text"
    text.write_text("What is written is written. " * 60)
    options = [
        f"--data={text}",
        "--embed-size=5",
        "--hidden-size=6",
        "--batch-size=4",
        "--length=8",
    ]
    options += ["--steps=400", "--eval-every=30", "--log-every=7", "--checkpoint-every=20"]
    options += ["--dropout=0.2", "--threads=1"]
    process = start(f"--out={tmp_path / 'killed'}", *options, stdout=subprocess.PIPE)
    assert any(line.startswith("step ") for line in process.stdout)
    process.kill()
    process.communicate()
    assert process.returncode != 0
    resumed = Run.resume(tmp_path / "killed")
    assert 20 <= resumed.step < 400
    list(resumed.train())
    whole = Run.create(tmp_path / "whole", resumed.options)
    list(whole.train())
    assert left_behind(resumed.directory) == left_behind(whole.directory)


KINDS = {
    "gpt": ["--model=gpt", "--width=16", "--heads=2", "--context=16"],
    "llama": ["--model=llama", "--width=16", "--heads=2", "--context=16"],
    "bag": ["--task=classification", "--data=labels.tsv", "--embed-size=8"],
    "bilstm": ["--task=classification", "--data=labels.tsv", "--model=bilstm", "--embed-size=8"],
    "encoder": ["--task=classification", "--data=labels.tsv", "--model=encoder", "--width=16"],
    "transformer": ["--task=translation", "--source=a", "--target=b", "--width=16"],
    "translating lstm": ["--task=translation", "--source=a", "--target=b", "--model=lstm"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_killed_and_resumed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    words = [f"{'good' if n % 2 else 'bad'} {n}" for n in range(80)]
    rows = ["text\tlabel", *(f"{word}\t{n % 2}" for n, word in enumerate(words))]
    (tmp_path / "labels.tsv").write_text("\n".join(rows), "utf-8")
    (tmp_path / "a").write_text("\n".join(words), "utf-8")
    (tmp_path / "b").write_text("\n".join(word.upper() for word in words), "utf-8")
    options = [*KINDS[name], "--dropout=0.2", "--threads=1", "--batch-size=8", "--steps=120"]
    options += ["--log-every=3", "--eval-every=40", "--checkpoint-every=7"]
    process = start("--out=killed", *options, stdout=subprocess.PIPE)
    assert any(line.startswith("step ") for line in process.stdout)
    process.kill()
    process.communicate()
    assert process.returncode != 0
    resumed = Run.resume(tmp_path / "killed")
    assert 35 <= resumed.step < 120
    list(resumed.train())
    assert start("--out=whole", *options).wait() == 0
    assert left_behind(resumed.directory) == left_behind(tmp_path / "whole")


@pytest.mark.slow
def test_counting_that_is_killed_leaves_no_half_run(tmp_path):
    begun = time.perf_counter()
    whole = tmp_path / "whole"
    assert start(f"--out={whole}", "--model=ngram").wait() == 0
    life = time.perf_counter() - begun
    outcomes = set()
    for n in range(10):
        directory = tmp_path / f"killed{n}"
        process = start(f"--out={directory}", "--model=ngram")
        try:
            process.wait(timeout=life * (n + 2) / 11)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if directory.exists():
            (latest,) = directory.glob("checkpoint-*[0-9]")
            (expected,) = whole.glob("checkpoint-*[0-9]")
            name = "model.safetensors"
            assert (latest / name).read_bytes() == (expected / name).read_bytes()
        outcomes.add(directory.exists())
    assert False in outcomes


@pytest.mark.slow
def test_ten_processes_killed_at_any_moment(tmp_path):
    options = ["--embed-size=12", "--hidden-size=16", "--layers=2", "--dropout=0.2", "--threads=1"]
    options += ["--batch-size=8", "--length=16", "--steps=200", "--log-every=3"]
    options += ["--eval-every=60", "--checkpoint-every=7"]
    begun = time.perf_counter()
    assert start(f"--out={tmp_path / 'whole'}", *options).wait() == 0
    life = time.perf_counter() - begun
    whole = left_behind(tmp_path / "whole")
    killed = 0
    for n, u in enumerate(np.random.default_rng(2024).random(10)):
        directory = tmp_path / f"killed{n}"
        process = start(f"--out={directory}", *options)
        try:
            process.wait(timeout=life * (n + u) / 10)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() != 0
        if not directory.exists():
            assert start(f"--out={directory}", *options).wait() == 0
        elif not (directory / "checkpoint-00000200").exists():
            assert start(f"--resume={directory}").wait() == 0
        assert left_behind(directory) == whole, f"killed after {(n + u) / 10:.0%} of its life"
    assert killed > 0
