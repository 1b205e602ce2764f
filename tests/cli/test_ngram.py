"""Models of n-grams: the commands that count them, and those that use them like any other."""

import json

import numpy as np
import pytest

from npllm.checkpoint import load_model
from npllm.loading import load
from npllm.ngram.arpa import spelled
from npllm.training.metrics import read_metrics

pytest_plugins = ["tiny_run"]


@pytest.fixture
def counted(npllm, place):
    """A run of n-grams in the place's text."""
    status, out, errors = npllm("train", "--data=text", "--model=ngram", "--order=3", "--out=new")
    assert (status, errors) == (0, "")
    return out


def test_train_counts_in_one_pass(counted, place):
    assert {path.name for path in (place / "new").iterdir()} == {
        "checkpoint-00000001",
        "metrics.jsonl",
        "run.json",
    }
    (record,) = read_metrics("new")
    model, tokenizer = load_model("new")
    assert model.order == 3
    assert f"validation loss {record['val_loss']:.4f}" in counted
    assert f"perplexity {record['val_perplexity']:.3f}" in counted
    assert f"bits per character {record['val_bits_per_character']:.4f}" in counted
    assert f"vocabulary {len(tokenizer.vocabulary)}" in counted
    assert counted.rstrip().endswith("npllm generate new --tokens 500")


def test_evaluate_measures_what_train_did(counted, npllm, place):
    (record,) = read_metrics("new")
    status, out, errors = npllm("evaluate", "new")
    assert (status, errors) == (0, "")
    assert f"loss                {record['val_loss']:.6f} nats" in out
    (place / "other").write_bytes((place / "text").read_bytes())
    _, whole, _ = npllm("evaluate", "new", "--data=other")
    assert f"tokens scored       {len((place / 'text').read_bytes().decode()) - 1}" in whole


def test_generate_inspect_and_plot(counted, npllm, place):
    first, again = (npllm("generate", "new", "--tokens=30", "--seed=3") for _ in range(2))
    assert first == again
    assert first[0] == 0
    assert len(first[1]) >= 30
    assert npllm("generate", "new", "--tokens=5", "--beams=2")[0] == 0
    assert npllm("inspect", "new", "--text=abc", "--out=page.html")[0] == 0
    page = (place / "page.html").read_text("utf-8")
    assert "NgramLanguageModel" in page
    assert "n-grams to order 3, kneser-ney" in page
    pytest.importorskip("matplotlib")
    assert npllm("plot", "new")[0] == 0
    assert (place / "new" / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_export_and_read_again(npllm, place):
    lines = "the cat sat\nthe cat ran\na dog sat\n" * 20
    (place / "lines").write_text(lines, encoding="utf-8")
    arguments = ("--data=lines", "--model=ngram", "--tokenizer=whitespace", "--order=3")
    assert npllm("train", *arguments, "--out=new", "--sample=0")[0] == 0
    assert npllm("export", "new", "--out=model.arpa") == (0, "model.arpa\n", "")
    (place / "other").write_text("the dog sat\na bird sat\n", encoding="utf-8")
    own = npllm("evaluate", "new", "--data=other")
    assert own[0] == 0
    assert "tokens scored       8" in own[1]  # three words and the end of each line
    assert npllm("evaluate", "--model=model.arpa", "--data=other")[1] == own[1]
    status, out, _ = npllm("generate", "--model=model.arpa", "--prompt=the", "--tokens=8")
    assert status == 0
    assert out.startswith("the")


def test_what_an_arpa_file_of_characters_scores(counted, npllm, place):
    assert npllm("export", "new", "--out=model.arpa")[0] == 0
    model, tokenizer, *_ = load(place / "model.arpa")
    original, characters = load_model("new")
    text = "".join(characters.vocabulary[i] for i in [1, 2, 3, 1, 2])
    ids = characters.encode(text)
    given, _ = original.log_probabilities(ids[None, :-1], ids[None, 1:])
    names = spelled(characters)
    same = np.array([tokenizer.vocabulary.index(names[i]) for i in ids])
    state = np.full((1, 2), -1)
    found, _ = model.log_probabilities(same[None, :-1], same[None, 1:], state)
    assert found == pytest.approx(given, rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=ngram", "--lr=0.1"], "--lr is for lstm and gpt and llama, and has no effect"),
        (["--model=ngram", "--layers=2"], "--layers is for lstm and gpt and llama"),
        (["--model=ngram", "--threads=2"], "--threads is for lstm and gpt and llama"),
        (["--model=ngram", "--order=0"], "--order: must be an integer, 1 or more"),
        (["--model=ngram", "--k=2"], "k is for add-k, and has no effect with kneser-ney"),
        (["--model=ngram", "--smoothing=add-k", "--k=-1"], "k must be positive and finite, got -1"),
        (["--model=ngram", "--smoothing=kneser"], "did you mean kneser-ney?"),
        (["--order=3"], "--order is for ngram, and has no effect with lstm"),
        (["--smoothing=add-k"], "--smoothing is for ngram, and has no effect with lstm"),
    ],
)
def test_options_that_do_not_fit(refused, arguments, message):
    assert message in refused("train", "--data=text", "--out=new", *arguments)


def test_what_cannot_be_done_with_n_grams(counted, refused, npllm, place):
    assert "there is nothing to go on with" in refused("train", "--resume=new")
    assert "already holds a run" in refused("train", "--data=text", "--model=ngram", "--out=new")
    assert "is no model of n-grams" in refused("export", "run", "--out=model.arpa")
    assert "must name a file that ends in .arpa" in refused("export", "new", "--out=model")
    npllm("train", "--data=text", "--model=ngram", "--smoothing=add-k", "--out=k", "--sample=0")
    assert "cannot say add-k" in refused("export", "k", "--out=model.arpa")
    (place / "bad.arpa").write_text("\\data\\\n")
    assert "bad.arpa, line 1: the file ends here" in refused("generate", "--model=bad.arpa")


def test_a_checkpoint_that_is_broken(counted, refused, place):
    weights = place / "new" / "checkpoint-00000001" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert "model.safetensors is truncated" in refused("evaluate", "new")


def test_a_checkpoint_whose_parts_do_not_fit(counted, refused, place):
    described = place / "new" / "checkpoint-00000001" / "model.json"
    saved = json.loads(described.read_text("utf-8"))
    for order in (4, "3", None):
        saved["config"]["order"] = order
        described.write_text(json.dumps(saved), encoding="utf-8")
        assert "does not fit" in refused("evaluate", "new")


def test_nothing_is_left_of_a_run_that_fails(npllm, place, monkeypatch):
    def broken(*_, **__):
        raise OSError("the disk is full")

    before = {path.name for path in place.iterdir()}
    monkeypatch.setattr("npllm.checkpoint.save_checkpoint", broken)
    status, _, errors = npllm("train", "--data=text", "--model=ngram", "--out=new")
    assert (status, errors) == (2, "npllm: error: the disk is full\n")
    assert {path.name for path in place.iterdir()} == before
