"""Going on from the weights of a model, on another text."""

import numpy as np
import pytest
from tiny import TRANSFORMER, advance, finish, left_behind

from npllm.checkpoint import load_model
from npllm.training import LanguageModellingOptions, Run
from npllm.training.counting import count_run

MODELS = {
    "lstm": {},
    "gpt": {**TRANSFORMER, "model": "gpt"},
    "llama": {**TRANSFORMER, "model": "llama"},
}
# what a model has for itself is left out
OWN = {
    "embed_size": 256,
    "hidden_size": 256,
    "layers": 1,
    "width": 128,
    "heads": 4,
    "model": "lstm",
}


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other"
    path.write_bytes("Sylter Boxkämpfer jagen den Deich. ".encode() * 40)
    return str(path)


@pytest.fixture
def begun(create, other, request):
    """Make a run that begins with another's weights, on the other text."""

    def begin(kind, **changes):
        first = create(**MODELS[kind])
        finish(first)
        model = {**MODELS[kind], **OWN}
        changes = {**model, "data": other, "from_": str(first.directory), **changes}
        return first, create(**changes)

    return begin


@pytest.mark.parametrize("kind", MODELS)
def test_it_begins_with_the_weights_and_the_tokens(begun, other, kind):
    first, run = begun(kind, dropout=0.25)
    assert run.options.model == kind
    assert np.array_equal(run.model.parameters.vector, first.model.parameters.vector)
    assert run.model.config == {**first.model.config, "dropout": 0.25}
    assert run.task.vocabularies["tokenizer"].vocabulary == (
        first.task.vocabularies["tokenizer"].vocabulary
    )
    before = run.task.evaluate(run._workers)["loss"]
    finish(run)
    assert not np.array_equal(run.model.parameters.vector, first.model.parameters.vector)
    model, _ = load_model(run.directory)
    assert model.config == run.model.config
    assert run.task.evaluate(run._workers)["loss"] < before


@pytest.mark.parametrize("kind", MODELS)
def test_it_resumes_to_the_same_bits_without_the_first(begun, kind, monkeypatch):
    _, whole = begun(kind)
    _, stopped = begun(kind)
    finish(whole)
    advance(stopped, 7)
    stopped.save()

    def gone(*_):
        raise FileNotFoundError("the first is gone")

    monkeypatch.setattr("npllm.training.language_modelling.start_of", gone)
    resumed = Run.resume(stopped.directory)
    finish(resumed)
    assert left_behind(resumed.directory) == left_behind(whole.directory)


def test_another_precision(begun):
    first, run = begun("gpt", dtype="float64")
    assert run.model.parameters.vector.dtype == np.float64
    assert np.array_equal(run.model.parameters.vector, first.model.parameters.vector)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("layers", 3), ("embed_size", 7), ("hidden_size", 7), ("width", 12), ("heads", 2)],
        *[("kv_heads", 2), ("sliding_window", 5), ("tie_weights", True), ("vocab_size", 9)],
        ("tokenizer", "word"),
    ],
)
def test_what_the_model_has_for_itself_is_not_taken(name, value):
    with pytest.raises(ValueError, match=f"{name} must be left out: with from_ it is the model's"):
        LanguageModellingOptions(from_="run", **{name: value})


def test_what_does_not_fit_is_refused(begun, options, tmp_path, other):
    with pytest.raises(ValueError, match="context=99 is more than the 8 positions of"):
        begun("gpt", context=99)
    missing = options(**OWN, from_=str(tmp_path / "missing"), length=64)
    with pytest.raises(FileNotFoundError, match=r"there is no .*missing"):
        Run.create(tmp_path / "new", missing)
    counted = LanguageModellingOptions(data=other, model="ngram", order=2)
    count_run(tmp_path / "counted", counted)
    n_grams = options(**OWN, from_=str(tmp_path / "counted"), length=64)
    with pytest.raises(ValueError, match="is a model of n-grams, which cannot be trained further"):
        Run.create(tmp_path / "new", n_grams)
    assert not (tmp_path / "new").exists()
