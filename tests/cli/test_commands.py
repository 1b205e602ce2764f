"""What each command does when all is well."""

import hashlib
import json
import sys

import numpy as np
import pytest
from left_out import need

from npllm import __version__, layers
from npllm.checkpoint import load_model
from npllm.evidence import CASES
from npllm.generation import generate
from npllm.sampling import Sampling
from npllm.text import split_text
from npllm.training import evaluate
from npllm.training.description import load_options
from npllm.training.metrics import read_metrics
from npllm.training.workers import Workers, usual_workers

pytest_plugins = ["tiny_run"]

COMMANDS = (
    *("train", "generate", "evaluate", "inspect", "export", "compare"),
    *("gradcheck", "certify", "atlas", "plot"),
)


def text_of(place):
    return (place / "text").read_bytes().decode()


def bits(run):
    (latest,) = run.glob("checkpoint-*")
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in latest.iterdir()}


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help(npllm, command):
    status, out, errors = npllm(*command, "--help")
    assert (status, errors) == (0, "")
    assert out.startswith("usage: npllm")
    assert "npllm " + (command or COMMANDS)[0] in out.split("options:")[0] + out  # an example
    for name in COMMANDS if not command else ("--seed", "--threads"):
        assert name in out


def test_version(npllm):
    assert npllm("--version") == (0, f"npllm {__version__}\n", "")


def test_train_writes_a_run(npllm, place, tiny):
    status, out, _ = npllm("train", "--data=text", "--out=new", *tiny, "--sample=20")
    assert status == 0
    assert {path.name for path in (place / "new").iterdir()} == {
        "checkpoint-00000006",
        "metrics.jsonl",
        "run.json",
        "run.lock",
    }
    assert [line["step"] for line in read_metrics("new")] == [2, 3, 4, 6]
    assert "1,620 tokens" in out or f"{len(text_of(place)) * 9 // 10:,}" in out
    assert out.count("validation loss") == 2
    assert "npllm generate new" in out
    assert bits(place / "new") == bits(place / "run")  # the same seed and text, the same bits


def test_train_finds_a_free_directory(npllm, place, tiny):
    for number in (1, 2):
        assert npllm("train", "--data=text", *tiny, "--sample=0")[0] == 0
        assert (place / "runs" / f"lstm-{number}" / "run.json").is_file()


def test_a_free_directory_that_is_taken_meanwhile_is_not(npllm, place, tiny, monkeypatch):
    assert npllm("train", "--data=text", *tiny, "--sample=0")[0] == 0
    named = [place / "runs" / f"lstm-{number}" for number in (1, 2)]
    monkeypatch.setattr("npllm.cli.train._free_directory", lambda _: named.pop(0))
    assert npllm("train", "--data=text", *tiny, "--sample=0")[0] == 0
    assert (place / "runs" / "lstm-2" / "run.json").is_file()


def test_a_run_goes_on_with_other_threads(npllm, place, tiny):
    train = ("train", "--resume=run", "--threads=2", "--accumulate=2", "--steps=8", "--sample=0")
    status, out, _ = npllm(*train)
    assert status == 0
    assert ", 2 threads\n" in out


def test_options_reach_the_run(npllm, place, tiny):
    status, *_ = npllm(
        *("train", "--data=text", "--out=new", *tiny, "--sample=0", "--layers=2", "--dropout=0.5"),
        *("--embed-size=6", "--tie-weights", "--tokenizer=word", "--vocab-size=60", "--seed=3"),
        *("--optimizer=sgd", "--momentum=0.5", "--nesterov", "--schedule=step", "--dtype=float64"),
        *("--windows=shuffled", "--held-out=0.3", "--clip=0"),
    )
    assert status == 0
    options, _ = load_options("new")
    assert (options.layers, options.dropout, options.embed_size, options.seed) == (2, 0.5, 6, 3)
    assert (options.tie_weights, options.nesterov, options.momentum) == (True, True, 0.5)
    assert (options.windows, options.held_out, options.clip) == ("shuffled", 0.3, 0)
    model, tokenizer = load_model("new")
    assert model.config["num_layers"] == 2
    assert model.config["tie_weights"] is True
    assert model.parameters.vector.dtype == np.float64
    assert tokenizer.kind == "word"
    assert len(tokenizer.vocabulary) <= 60


def test_resume_goes_on(npllm, place, tiny):
    assert npllm("train", "--resume=run", "--steps=9", "--sample=0")[0] == 0
    assert [line["step"] for line in read_metrics("run")] == [2, 3, 4, 6, 8, 9]
    assert (place / "run" / "checkpoint-00000009").is_dir()


@pytest.mark.parametrize("directory", ["run", "run/checkpoint-00000006"])
def test_generate_prints_what_the_model_writes(npllm, place, directory):
    model, tokenizer = load_model("run")
    status, out, errors = npllm(
        *("generate", directory, "--prompt=Zwölf 😀", "--tokens=30", "--seed=5"),
        *("--temperature=0.7", "--top-k=8", "--top-p=0.9"),
    )
    drawn = generate(
        *(model, tokenizer.encode("Zwölf 😀"), 30, np.random.default_rng(5)),
        Sampling(0.7, 8, 0.9),
    )
    assert (status, errors) == (0, "")
    assert out == "Zwölf 😀" + tokenizer.decode(drawn) + "\n"


def test_the_same_seed_writes_the_same_text(npllm, place):
    one, same, other = (
        npllm("generate", "run", "--tokens=40", f"--seed={seed}")[1] for seed in (1, 1, 2)
    )
    assert one == same != other
    cold = [
        npllm("generate", "run", f"--seed={n}", "--tokens=40", "--temperature=0") for n in (1, 2)
    ]
    assert cold[0] == cold[1]


@pytest.mark.parametrize("data", [None, "text"])
def test_evaluate_prints_what_the_trainer_measured(npllm, place, data):
    status, out, errors = npllm("evaluate", "run", *([f"--data={data}"] if data else []))
    assert (status, errors) == (0, "")
    model, tokenizer = load_model("run")
    text = text_of(place) if data else split_text(text_of(place))[1]
    # the same shares, to the last digit
    with Workers(model, count=usual_workers()).working() as workers:
        expected = evaluate(workers, tokenizer, tokenizer.encode(text))
    assert out.split()[2] == str(expected.tokens)
    assert f"{expected.loss:.6f} nats" in out
    assert f"{expected.perplexity:.6f}" in out
    assert f"{expected.bits_per_character:.6f}" in out
    if data is None:
        assert expected.loss == pytest.approx(read_metrics("run")[-1]["val_loss"], rel=1e-6)


def test_evaluate_of_a_changed_text_is_refused(refused, place):
    (place / "text").write_text(text_of(place)[::-1], "utf-8", newline="")
    described = json.loads((place / "run" / "run.json").read_text("utf-8"))
    described["options"]["data"] = str(place / "text")
    (place / "run" / "run.json").write_text(json.dumps(described), "utf-8")
    assert "changed" in refused("evaluate", "run")


@pytest.mark.parametrize("names", [["softmax"], ["linear", "cross_entropy"], ["dropout"]])
def test_gradcheck_proves_what_it_is_asked(npllm, names):
    status, out, errors = npllm("gradcheck", *names, "--seed=2")
    assert (status, errors) == (0, "")
    for name in CASES:
        assert (f"{name}: " in out) == (name in names)
    assert "all ok" in out


def wrong_linear(dy, cache):
    dx, dweight, *dbias = right_linear(dy, cache)
    return dx, dweight * 1.001, *dbias


right_linear = layers.linear_backward


@pytest.mark.parametrize(
    ("name", "function", "broken"),
    [
        ("linear", "linear_backward", wrong_linear),
        ("softmax", "softmax_backward", lambda dy, cache: cache[0] * dy),
        ("embedding", "embedding_backward", lambda dy, cache: np.zeros(cache[1])),
    ],
)
def test_gradcheck_tells_a_wrong_backward(npllm, monkeypatch, name, function, broken):
    monkeypatch.setattr(layers, function, broken)
    if name == "softmax":  # bound when the proofs were imported
        case = CASES[name]
        monkeypatch.setitem(
            CASES, name, lambda rng: (c._replace(backward=broken) for c in case(rng))
        )
    status, out, errors = npllm("gradcheck", name)
    assert (status, errors) == (1, "")
    assert "FAILED" in out


@pytest.mark.parametrize("out", [None, "curves of mine.png"])
def test_plot_draws_a_picture(npllm, place, out):
    need("matplotlib")
    path = place / (out or "run/curves.png")
    status, printed, errors = npllm("plot", "run", *([f"--out={out}"] if out else []))
    assert (status, errors) == (0, "")
    assert printed.strip() == (out or "run/curves.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size > 5_000


def test_plot_without_validation(npllm, place):
    need("matplotlib")
    metrics = place / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])
    assert npllm("plot", "run")[0] == 0


def test_plot_needs_no_measure_but_the_loss(npllm, place):
    need("matplotlib")
    metrics = place / "run" / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if not k.startswith("val_perp")} for line in lines]
    assert lines != kept
    metrics.write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert npllm("plot", "run")[0] == 0


def test_plot_without_matplotlib_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install matplotlib" in refused("plot", "run")
