"""Runs that tell labels, and that translate: stopped anywhere, they end with the same bits."""

import numpy as np
import pytest
from tiny import advance, finish, left_behind

from npllm.checkpoint import load_model, load_model_and_vocabularies
from npllm.models import KINDS
from npllm.text.labelled import Labelled
from npllm.training import Run
from npllm.training.baselines import NaiveBayes, majority
from npllm.training.classification import (
    ClassificationOptions,
    Results,
    ids_of,
    log_probabilities,
    results,
    told,
)
from npllm.training.translation import TranslationOptions, translations
from npllm.training.workers import Workers

COMMON = {"steps": 12, "log_every": 3, "eval_every": 4, "checkpoint_every": 5, "threads": 1}
GOOD, BAD = ("good", "fine", "lovely"), ("bad", "dull", "awful")
SMALL = {"embed_size": 4, "hidden_size": 3, "batch_size": 5, "dropout": 0.2, "held_out": 0.2}
LABELS = {
    "bag": {**SMALL, "hidden_size": 128},
    "bilstm": {**SMALL, "model": "bilstm"},
    "encoder": {"model": "encoder", "width": 6, "heads": 2, "dropout": 0.2, "batch_size": 5},
}
PAIRS = {
    "transformer": {"width": 6, "heads": 2, "layers": 1, "batch_size": 5, "vocab_size": 270},
    "shared": {"width": 6, "heads": 2, "layers": 1, "batch_size": 5, "share_words": True},
    "lstm": {"model": "lstm", "embed_size": 4, "hidden_size": 3, "layers": 2, "batch_size": 5},
}
KIND_OF = {
    **dict.fromkeys(LABELS, ClassificationOptions),
    **dict.fromkeys(PAIRS, TranslationOptions),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = ["text\tlabel"]
    for n in range(60):
        words = rng.choice(GOOD if n % 2 else BAD, size=2 + n % 3)
        rows.append(f"It is {' and '.join(words)} {n}\t{'yes' if n % 2 else 'no'}")
    (folder / "labels.tsv").write_text("\n".join(rows), "utf-8")
    words = ["".join(rng.choice(list("abcd"), size=rng.integers(1, 6))) for _ in range(60)]
    (folder / "a.txt").write_text("\n".join(words), "utf-8")
    (folder / "b.txt").write_text("\n".join(w[::-1].upper() for w in words), "utf-8")
    return folder


@pytest.fixture
def options(files):
    def make(name, **changes):
        if name in LABELS:
            data = {"data": str(files / "labels.tsv"), "length": 12}
            return ClassificationOptions(**{**COMMON, **data, **LABELS[name], **changes})
        data = {"source": str(files / "a.txt"), "target": str(files / "b.txt"), "length": 12}
        if name != "transformer":
            data["tokenizer"] = "character"
        return TranslationOptions(**{**COMMON, **data, **PAIRS[name], **changes})

    return make


@pytest.mark.parametrize("name", [*LABELS, *PAIRS])
def test_a_stopped_run_ends_as_if_it_had_not_been(tmp_path, options, name):
    whole = left_behind(finish(Run.create(tmp_path / "whole", options(name))))
    for stop, saved in ((3, False), (7, True)):
        run = Run.create(tmp_path / f"stopped{stop}", options(name))
        advance(run, stop)
        if saved:
            run.save()
        resumed = Run.resume(run.directory)
        assert type(resumed.options) is KIND_OF[name]
        assert left_behind(finish(resumed)) == whole
    other = left_behind(finish(Run.create(tmp_path / "other", options(name, seed=1))))
    assert other["model.safetensors"] != whole["model.safetensors"]


@pytest.mark.parametrize("name", [*LABELS, *PAIRS])
def test_two_workers_take_the_steps_of_one(tmp_path, options, name):
    kept = []
    for threads in (1, 2):
        # not Adam: it divides the rounding of a key's bias, whose gradient is 0, by itself
        made = options(name, threads=threads, dtype="float64", optimizer="sgd", lr=0.5)
        run = Run.create(tmp_path / f"{threads}", made)
        finish(run)
        kept.append(run.model.parameters.vector)
    np.testing.assert_allclose(kept[1], kept[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*LABELS, *PAIRS])
def test_a_checkpoint_is_the_model(tmp_path, options, name):
    run = Run.create(tmp_path / "run", options(name))
    finish(run)
    model, vocabularies = load_model_and_vocabularies(run.directory)
    assert type(model) is type(run.model)
    np.testing.assert_array_equal(model.parameters.vector, run.model.parameters.vector)
    assert {n: t.vocabulary for n, t in vocabularies.items()} == {
        n: t.vocabulary for n, t in run.task.vocabularies.items()
    }
    use = "classify" if name in LABELS else "translate"
    with pytest.raises(ValueError, match=f"no language model: npllm {use} asks it"):
        load_model(run.directory)
    assert type(model) in KINDS.values()


@pytest.mark.parametrize("name", [*LABELS])
def test_labels_are_learned(tmp_path, options, name):
    made = options(name, steps=150, dropout=0.0, lr=0.02, eval_every=150, checkpoint_every=150)
    run = Run.create(tmp_path / "run", made)
    finish(run)
    _, _, test = run.task.parts
    classes = run.task.classes(test)
    texts = [run.task.encode(text) for text in test.texts]
    with Workers(run.model).working() as workers:
        found = results(workers, texts, classes)
    assert found.accuracy == found.f1 == 1.0
    always = told(np.tile(majority(classes, 2), (len(texts), 1)), classes)
    assert always.accuracy == 0.5  # the negative control: without a look at the text
    other = ids_of("It was ✗ lovely", run.task.tokenizer, 12)  # ✗ stands in no text
    assert log_probabilities(run.model, [other]).argmax() == 1


def test_reversed_words_are_learned(tmp_path, options):
    made = options(
        "lstm", steps=300, lr=0.02, hidden_size=24, dropout=0.0, label_smoothing=0.0, layers=1,
        batch_size=20, eval_every=300, checkpoint_every=300,
    )  # fmt: skip
    run = Run.create(tmp_path / "run", made)
    first = run.task.evaluate(Workers(run.model))["loss"]
    finish(run)
    assert run.task.evaluate(Workers(run.model))["loss"] < first / 2
    train = run.task.parts[0]
    found = translations(run.model, run.task.source, run.task.tokenizer, train.sources[:20], 2, 9)
    assert sum(a == b for a, b in zip(found, train.targets[:20], strict=True)) >= 18


def test_the_parts_have_nothing_in_common(options):
    for name in ("bag", "transformer"):
        task = options(name).make_task()
        texts = [set(getattr(part, part._fields[0])) for part in task.parts]
        whole = len(set().union(*texts))
        assert sum(map(len, texts)) >= whole > 0
        if name == "bag":
            assert sum(map(len, texts)) == whole
            for part in task.parts:
                assert part.labels.count("yes") == part.labels.count("no")
        else:
            read = options(name).read()
            assert [s for p in task.parts for s in p.sources] == list(dict.fromkeys(read.sources))
            assert sum(map(len, texts)) == whole < len(read.sources)
    with pytest.raises(ValueError, match="have changed since"):
        options("bag").read(digest="0" * 64)
    with pytest.raises(ValueError, match="have changed since"):
        options("lstm").read(digest="0" * 64)


def test_measures_by_hand():
    found = told(np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), np.array([0, 1, 1]))
    assert found.confusion.tolist() == [[1, 0], [1, 1]]
    assert found.accuracy == pytest.approx(2 / 3, rel=1e-15)
    assert found.f1 == pytest.approx((2 / 3 + 2 / 3) / 2, rel=1e-15)
    assert found.loss == pytest.approx(-np.log([0.9, 0.4, 0.8]).mean(), rel=1e-15)
    assert Results(0.0, np.array([[2, 0], [0, 0]])).f1 == 1.0  # a label that never occurs


def test_naive_bayes_by_hand():
    texts = [np.array([0, 1]), np.array([1, 1, 2]), np.array([2])]
    model = NaiveBayes(texts, np.array([0, 1, 1]), 3, 2)
    likelihood = [1 / 3 * (2 / 5) * (1 / 5), 2 / 3 * (1 / 7) * (3 / 7)]
    expected = np.log(np.array(likelihood) / sum(likelihood))
    np.testing.assert_allclose(model.log_probabilities([np.array([0, 2])])[0], expected, rtol=1e-14)
    assert not np.allclose(model.log_probabilities([np.array([2, 2])])[0], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": 0.0}, "must be above 0 and leave texts"),
        ({"test": 0.9}, "must be above 0 and leave texts"),
        ({"hidden_size": 5}, "hidden_size is for bilstm, and has no effect"),
        ({"heads": 2}, "heads is for encoder, and has no effect"),
        ({"tokenizer": "character", "vocab_size": 9}, "vocab_size is for"),
        ({"layers": 0}, "layers must be"),
    ],
)
def test_options_that_do_not_fit(options, changes, message):
    with pytest.raises(ValueError, match=message):
        options("bag", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "x.tsv"}, "data=x.tsv has both languages: leave it out, or source and target"),
        ({"target": None}, "source=FILE and target=FILE go together"),
        ({"source": None, "target": None}, "name a table or a data set, data=NAME, or two files"),
        ({"label_smoothing": 1.0}, "label_smoothing must"),
        ({"share_words": True}, "share_words is for transformer"),
    ],
)
def test_translation_options_that_do_not_fit(options, changes, message):
    with pytest.raises(ValueError, match=message):
        options("lstm", **changes).located()


def test_data_that_cannot_be_learned(tmp_path, options):
    table = tmp_path / "one.tsv"
    table.write_text("text\tlabel\n" + "\n".join(f"text {n}\tsame" for n in range(20)), "utf-8")
    with pytest.raises(ValueError, match="has one label only"):
        options("bag", data=str(table)).make_task()
    table.write_text("text\tlabel\na\tx\nb\ty\n", "utf-8")
    with pytest.raises(ValueError, match="there are no texts held out"):
        options("bag", data=str(table)).make_task()
    long = tmp_path / "long.txt"
    long.write_text("\n".join(["abcd" * 9] * 30), "utf-8")
    with pytest.raises(ValueError, match="there are no pairs to learn from of at most length=12"):
        options("lstm", source=str(long), target=str(long)).make_task()
    assert Labelled(["a"], ["b"]).rows([0]).texts == ["a"]
