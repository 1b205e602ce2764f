"""Bad input: status 2, one line, and nothing on disk has changed."""

import json
import os
import shutil

import numpy as np
import pytest
from left_out import need
from safetensors.numpy import load_file, save_file

from npllm.checkpoint import load_model
from npllm.training.metrics import read_metrics

pytest_plugins = ["tiny_run"]

SIZES = (
    *("vocab-size", "embed-size", "hidden-size", "layers", "batch-size", "length", "steps"),
    *("threads", "log-every", "eval-every", "checkpoint-every", "decay-every"),
)


@pytest.fixture
def train(refused, tiny):
    """Train a tiny model, which is refused."""
    return lambda *arguments: refused("train", "--data=text", "--out=new", *tiny, *arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"good\xff", "not UTF-8 (byte 4 is 0xff)"),
        (b"short", "use a longer text"),
        (b"0123456789", "use a longer text or a larger --held-out"),
    ],
)
def test_a_text_that_cannot_be_learned(train, place, content, message):
    (place / "data").write_bytes(content)
    line = train("--data=data")
    assert message in line


def test_a_text_that_cannot_be_read(train, refused, place):
    assert "missing: No such file" in train("--data=missing")
    assert "run: " in train("--data=run")
    assert "missing: No such file" in refused("evaluate", "run", "--data=missing")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read anything")
def test_a_text_that_may_not_be_read(train, place, npllm):
    (place / "secret").write_text("secret")
    (place / "secret").chmod(0)
    status, _, errors = npllm("train", "--data=secret", "--out=new")
    assert status == 2
    assert errors.splitlines() == ["npllm: error: secret: Permission denied"]
    assert not (place / "new").exists()


@pytest.mark.parametrize("content", [b"", b"\xff", b"x", b"\xe2\x98\x83 unknown"])
def test_a_text_that_cannot_be_scored(refused, place, content):
    (place / "data").write_bytes(content)
    refused("evaluate", "run", "--data=data")


@pytest.mark.parametrize("option", SIZES)
@pytest.mark.parametrize("size", ["0", "-1", "1.5"])
def test_sizes_are_positive(train, option, size):
    assert f"argument --{option}: " in train(f"--{option}={size}")


@pytest.mark.parametrize(
    ("argument", "fragment"),
    [
        *(
            (f"--{name}={value}", f"error: --{name} must be 0 or more, and finite, got ")
            for name in ("lr", "clip", "momentum", "weight-decay", "decay")
            for value in ("-1", "nan", "inf")
        ),
        ("--lr=fast", "--lr"),
        ("--dropout=1", "error: --dropout must lie in [0, 1), got 1.0"),
        ("--warmup=1", "error: --warmup must lie in [0, 1), got 1.0"),
        ("--held-out=0", "error: --held-out must lie "),
        ("--held-out=1", "error: --held-out must lie "),
        ("--held-out=nan", "error: --held-out must lie "),
        ("--seed=-1", "--seed"),
        ("--sample=-1", "--sample"),
        ("--model=perceptron", "--model"),
        ("--tie-weights", "--tie-weights needs --embed-size = --hidden-size, got 5 and 6"),
        ("--hidden-size=10000000", "memory"),
        ("--unknown", "--unknown"),
        ("--tokenizer=word --vocab-size=3", "a vocabulary of 3 cannot hold"),
        ("--tokenizer=bpe --vocab-size=10", "let it have 256 or more"),
        ("--model=gpt --no-tie-weights", "leave out --no-tie-weights"),
        ("--optimizer=sgd --nesterov", "--nesterov needs a momentum"),
    ],
)
def test_other_values_out_of_range(train, argument, fragment):
    assert fragment in train(*argument.split()).lower().replace("allocate", "memory")


def test_a_directory_that_holds_a_run(refused, tiny):
    line = refused("train", "--data=text", "--out=run", *tiny)
    assert "run already holds a run: go on with --resume run, or choose another --out" in line


def test_a_directory_that_holds_files(refused, place, tiny):
    (place / "mine").mkdir()
    (place / "mine" / "thesis").write_text("years of work")
    assert "mine already holds files" in refused("train", "--data=text", "--out=mine", *tiny)
    assert "text already " in refused("train", "--data=text", "--out=text", *tiny)


@pytest.mark.parametrize("out", ["text/new", "text/deep/new"])
def test_a_directory_that_cannot_be_made(refused, tiny, out):
    assert "text" in refused("train", "--data=text", f"--out={out}", *tiny)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written(refused, place, tiny):
    (place / "locked").mkdir(mode=0o500)
    assert "Permission denied" in refused("train", "--data=text", "--out=locked/new", *tiny)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lr", ["1e30", "1e300"])
def test_a_loss_that_is_no_number(npllm, place, tiny, lr, threads):
    arguments = [f"--lr={lr}", "--schedule=constant", f"--threads={threads}"]
    status, _, errors = npllm("train", "--data=text", "--out=new", *tiny, *arguments)
    assert status == 2
    (line,) = errors.splitlines()
    assert line.startswith("npllm: error: training diverged at step ")
    model, _ = load_model("new")
    assert np.isfinite(model.parameters.vector).all()
    assert all(np.isfinite(record["train_loss"]) for record in read_metrics("new"))


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--resume=missing"], "missing holds no run"),
        (["--resume=."], "holds no run"),
        (["--resume=text"], "text holds no run"),
        (["--resume=run"], "has taken 6 steps, of 6: --steps sets more"),
        (["--resume=run", "--steps=3"], "has taken 6 steps, of 3: --steps sets more"),
        (
            ["--resume=run", "--steps=9", "--hidden-size=7"],
            "with --hidden-size=6, not 7: leave out --hid",
        ),
        (["--resume=run", "--steps=9", "--dropout=0.5"], "--dropout=0.0, not 0.5"),
        (["--resume=run", "--steps=9", "--tie-weights"], "--tie-weights=False, not True"),
        (["--resume=run", "--steps=9", "--data=other"], "leave out --data"),
        (["--resume=run", "--steps=9", "--out=new"], "leave out --out"),
        (["--resume=run", "--steps=0"], "--steps"),
    ],
)
def test_what_cannot_be_resumed(refused, arguments, fragment):
    assert fragment in refused("train", *arguments)


def test_the_same_command_may_resume(npllm, place, tiny):
    # 1,620 characters make 200 windows of 8: the batch is smaller than asked for
    command = ["train", "--data=text", *tiny, "--batch-size=500", "--sample=0"]
    assert npllm(*command, "--out=new")[0] == 0
    assert npllm(*command, "--resume=new", "--steps=8")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--prompt="], "--prompt must hold at least one token"),
        (["--prompt=snowman ☃ and \udcff"], "the vocabulary lacks "),
        (["--tokens=0"], "--tokens"),
        (["--tokens=-5"], "--tokens"),
        (["--temperature=-1"], "error: --temperature must be 0 or more, and finite, got -1.0"),
        (["--temperature=nan"], "temperature"),
        (["--temperature=hot"], "--temperature"),
        (["--top-k=0"], "--top-k"),
        (["--top-p=0"], "error: --top-p must lie in (0, 1], got 0.0"),
        (["--top-p=1.5"], "error: --top-p must"),
        (["--top-p=nan"], "error: --top-p must"),
        (["--seed=x"], "--seed"),
    ],
)
def test_what_cannot_be_written(refused, arguments, fragment):
    assert fragment in refused("generate", "run", *arguments)


COMMANDS = [
    ("generate", "run"),
    ("evaluate", "run", "--data=text"),
    ("evaluate", "run"),
    ("train", "--resume=run", "--steps=9"),
]
commands = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
CHECKPOINT = "run/checkpoint-00000006"


def spoil(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":
        path.write_bytes(b'{"from": "elsewhere"}')
    elif how == "pickled":
        path.write_bytes(b"\x80\x04\x95\x08\x00\x00\x00\x00\x00\x00\x00\x8c\x04none\x94.")
    elif how == "missing":
        path.unlink()
    elif how == "future":
        path.write_text(json.dumps({**json.loads(content), "version": 2}), "utf-8")


def broken(*names):
    """Parametrize over files and what may have happened to them."""
    ways = ("truncated", "empty", "foreign", "pickled", "missing", "future")
    pairs = [(name, how) for name in names for how in ways]
    return pytest.mark.parametrize(
        ("name", "how"), [pair for pair in pairs if pair[0].endswith("json") or pair[1] != "future"]
    )


@commands
@broken("model.json", "model.safetensors")
def test_a_broken_checkpoint(refused, place, command, name, how):
    spoil(place / CHECKPOINT / name, how)
    line = refused(*command)
    assert ("checkpoint" in line) if how == "missing" else (name in line)
    if how == "future":
        assert "version 2" in line


@broken("run.json", "training.json", "training.safetensors")
def test_a_broken_run_is_not_resumed(refused, place, name, how):
    spoil(place / ("run" if name == "run.json" else CHECKPOINT) / name, how)
    line = refused("train", "--resume=run", "--steps=9")
    assert name in line or (how == "missing" and "holds no run" in line) or "does not fit" in line


@pytest.mark.parametrize("command", [["plot", "run"], ["train", "--resume=run", "--steps=9"]])
@pytest.mark.parametrize("content", [b"\xff\n", b"[1]\n", b"{}\n", b"words\n"])
def test_foreign_metrics(refused, place, command, content):
    (place / "run" / "metrics.jsonl").write_bytes(content)
    assert "metrics.jsonl" in refused(*command)


def test_metrics_without_measures(refused, place):
    (place / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
    assert "metrics.jsonl" in refused("plot", "run")


@commands
def test_the_weights_of_another_model(refused, place, npllm, tiny, command):
    assert npllm("train", "--data=text", "--out=b", *tiny, "--hidden-size=7", "--sample=0")[0] == 0
    weights = "checkpoint-00000006/model.safetensors"
    shutil.copy(place / "b" / weights, place / "run" / weights)
    line = refused(*command)
    assert "model.safetensors does not fit: " in line
    assert "must have shape" in line


def test_the_whole_checkpoint_of_another_model(refused, place, npllm, tiny):
    assert npllm("train", "--data=text", "--out=b", *tiny, "--hidden-size=7", "--sample=0")[0] == 0
    shutil.rmtree(place / CHECKPOINT)
    shutil.copytree(place / "b" / "checkpoint-00000006", place / CHECKPOINT)
    assert "checkpoint-00000006" in refused("train", "--resume=run", "--steps=9")


def test_weights_that_are_no_numbers(refused, place):
    path = place / CHECKPOINT / "model.safetensors"
    weights = load_file(path)
    weights["fc.bias"][0] = np.nan
    save_file(weights, path)
    assert "NaN" in refused("generate", "run")


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_a_loss_beyond_all_bounds_is_told(npllm, place, scale):
    path = place / CHECKPOINT / "model.safetensors"
    weights = load_file(path)
    weights["fc.bias"][:] = scale * np.arange(len(weights["fc.bias"]))
    save_file(weights, path)
    status, out, errors = npllm("evaluate", "run")
    told = errors if status else out
    assert status in (0, 2)
    assert len(errors.splitlines()) == (status == 2)
    assert "loss" in told or "perplexity" in told


@pytest.mark.parametrize("command", ["generate", "evaluate", "plot"])
@pytest.mark.parametrize("directory", ["missing", "text", "."])
def test_there_is_no_run(refused, command, directory):
    refused(command, directory)


def test_a_file_is_no_run_to_plot(refused):
    assert "text has no metrics.jsonl, as a run of npllm train has" in refused("plot", "text")


@pytest.mark.parametrize("out", ["missing/curves.png", "run", "text/curves.png"])
def test_a_picture_that_cannot_be_written(refused, out):
    need("matplotlib")
    refused("plot", "run", f"--out={out}")


def test_a_run_without_metrics_has_no_picture(refused, place):
    (place / "run" / "metrics.jsonl").write_bytes(b"")
    assert "no metrics yet" in refused("plot", "run")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([], "COMMAND"),
        (["summarize"], "there is no summarize; there are train, generate, "),
        (["trian"], "argument COMMAND: there is no trian: did you mean train? "),
        (["Train"], "there is no Train: did you mean train?"),
        (
            ["train", "--modle=gpt"],
            "npllm train: error: there is no --modle: did you mean --mo",
        ),
        (["train", "--model=gtp"], "argument --model: there is no gtp: did you mean gpt?"),
        (["train", "--model=perceptron"], "there is no perceptron; there are lstm, gpt, llama"),
        (["train", "--no-tie-weigths"], "did you mean --no-tie-weights?"),
        (["generate", "run", "--tmperature", "1"], "--tmperature: did you mean --temperature?"),
        (["generate", "run", "--zzz", "--sede=1"], "there is no --sede: did you mean --seed?"),
        (["inspect", "run", "--txt", "x"], "there is no --txt: did you mean --text?"),
        (["train", "--step=60"], "there is no --step: did you mean --steps?"),
        (["train", "--lr=fast"], "argument --lr: must be a number, got 'fast'"),
        (["train", "--optimizer=sgd", "--nesterov"], "--nesterov needs a momentum above 0"),
        (["generate", ""], "the name of the model is empty"),
        (["gradcheck", ""], "there is no ''; there are attention"),
        (["train", "--steps", "x", "--mdel=gpt"], "there is no --mdel: did you mean --model?"),
        (["generate", "run", "--zzz"], "unrecognized arguments: --zzz (see npllm generate --help)"),
        (["gradcheck", "linear", "atention"], "there is no atention: did you mean attention?"),
        (["gradcheck", "gpt"], "there is no gpt: did you mean GPT?"),
        (["gradcheck", "linear", "--method=complx"], "no complx: did you mean complex?"),
        (["atlas", "sofmax"], "there is no sofmax: did you mean softmax?"),
        (["atlas", "perceptron"], "there is no perceptron; there are "),
        (["certify", "lstn"], "there is no lstn: did you mean lstm?"),
        (["certify", "perceptron"], "there is no perceptron; there are lstm, gpt, llama"),
        (["plot", "gradcheck", "--layer=tahn"], "argument --layer: there is no tahn: did you mean"),
        (["gradcheck", "perceptron", "linear"], "there is no perceptron; there are attention"),
        (["gradcheck", "--seed=-1"], "--seed"),
        (["generate"], "DIR"),
        (["generate", "run", "one\ntwo"], "one"),
        (["evaluate", "miss\ning"], "there is no miss"),
        (["evaluate", "run", "--data=miss\ning"], "No such file"),
    ],
)
def test_words_that_make_no_command(refused, arguments, fragment):
    assert fragment in refused(*arguments)
