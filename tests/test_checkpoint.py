"""Checkpoints: bits there and back, refusals in one line, and a crash loses nothing."""

import json
import os
import pathlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import npllm
from npllm import checkpoint
from npllm.models import LSTMLanguageModel
from npllm.text import CharacterTokenizer, WordTokenizer

TEXT = "to be\r\nor not to be 😀"
FILES = ("model.json", "model.safetensors", "training.json", "training.safetensors")
VALUES = {"seen": 17, "loss_sum": 0.1, "generator": {"state": 2**127 + 1}}


def make(tokenizer=None, seed=0, dtype=np.float32, **sizes):
    """A model and its tokenizer."""
    tokenizer = tokenizer or CharacterTokenizer.train(TEXT)
    sizes = {"embed_size": 3, "hidden_size": 4, **sizes}
    return LSTMLanguageModel(len(tokenizer.vocabulary), **sizes, seed=seed, dtype=dtype), tokenizer


def save(directory, step, pair=None):
    """Save a checkpoint in which everything depends on the step."""
    model, tokenizer = pair or make(seed=step)
    return checkpoint.save_checkpoint(
        directory,
        step,
        model=model,
        vocabularies={"tokenizer": tokenizer},
        arrays={"mean": np.full(5, step, np.float32), "h": np.ones((1, 2, 4))},
        values=VALUES,
    )


@pytest.fixture
def saved(tmp_path):
    return save(tmp_path, 1)


def assert_refused(load, path, *fragments):
    """Loading raises a ValueError of one line that names the file."""
    with pytest.raises(ValueError, match=r"^.+$") as error:
        load(path.parent)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    for fragment in (str(path), *fragments):
        assert fragment in message
    assert len(message) < 500


def loader(name):
    return checkpoint.load_model if name.startswith("model") else checkpoint.load_training


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_everything_comes_back(tmp_path, dtype, tie_weights, kind):
    sizes = {"embed_size": 4, "num_layers": 2, "dropout": 0.25, "tie_weights": tie_weights}
    model, tokenizer = make(kind.train(TEXT), dtype=dtype, **sizes)
    path = save(tmp_path, 12, (model, tokenizer))
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    for directory in (tmp_path, path, str(tmp_path)):
        loaded, words = checkpoint.load_model(directory)
        assert loaded.config == model.config
        assert loaded.parameters.vector.dtype == dtype
        assert loaded.parameters.vector.tobytes() == model.parameters.vector.tobytes()
        assert type(words) is kind
        assert words.vocabulary == tokenizer.vocabulary
        arrays, values = checkpoint.load_training(directory)
        assert {name: (a.dtype.name, a.shape) for name, a in arrays.items()} == {
            "mean": ("float32", (5,)),
            "h": ("float64", (1, 2, 4)),
        }
        assert (arrays["mean"] == 12).all()
        assert values.items() >= {**VALUES, "step": 12}.items()


def test_sizes_may_be_numpy_integers(tmp_path):
    model, tokenizer = make(hidden_size=np.int64(4), num_layers=np.int32(1))
    save(tmp_path, 1, (model, tokenizer))
    assert checkpoint.load_model(tmp_path)[0].config == model.config


def test_weights_need_not_be_contiguous(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    given = {"a": array.T, "b": array[:, ::2], "c": array[::-1]}
    checkpoint.save_weights(tmp_path / "weights", given)
    for name, loaded in checkpoint.load_weights(tmp_path / "weights").items():
        np.testing.assert_array_equal(loaded, given[name])


def test_the_latest_checkpoint_is_kept(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 20)
    latest = save(tmp_path, 3)  # a run that goes on from an earlier step never does this
    assert latest.name == "checkpoint-00000003"
    assert checkpoint.latest_checkpoint(tmp_path).name == "checkpoint-00000020"
    save(tmp_path, 100)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-00000100"]
    (tmp_path / "checkpoint-00000200.tmp").mkdir()
    assert checkpoint.latest_checkpoint(tmp_path).name == "checkpoint-00000100"


def test_what_fails_leaves_nothing(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(TypeError):
        checkpoint.save_checkpoint(
            tmp_path,
            2,
            model=make()[0],
            vocabularies={},
            arrays={},
            values={"bad": object()},
        )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001"]


def test_only_what_is_npllm_s_is_removed(tmp_path, link):
    run, outside = tmp_path / "run", tmp_path / "outside"
    for folder in (run, outside):
        folder.mkdir()
        save(folder, 1)
    unfinished = ("checkpoint-00000004.tmp", "checkpoint-00000004.0123456789abcdef.tmp")
    kept = ("checkpoint-00000002", "checkpoint-x.tmp", "checkpoint-00000001-good", "checkpoint-9")
    for name in (*unfinished, *kept):
        (run / name).mkdir()
        (run / name / "model.json").write_text("{}")
    linked = ("checkpoint-00000003", "checkpoint-00000003.tmp")
    for name in linked:
        link(run / name, outside / "checkpoint-00000001")
    save(run, 5)
    assert {path.name for path in run.iterdir()} == {*kept, *linked, "checkpoint-00000005"}
    assert len(list((outside / "checkpoint-00000001").iterdir())) == len(FILES)
    assert checkpoint.step_of(checkpoint.latest_checkpoint(run)) == 5


def test_what_lacks_a_file_is_no_checkpoint(tmp_path):
    save(tmp_path, 1)
    for name in FILES:
        later = tmp_path / "checkpoint-00000002"
        shutil.copytree(tmp_path / "checkpoint-00000001", later)
        assert checkpoint.step_of(checkpoint.latest_checkpoint(tmp_path)) == 2  # as it is whole
        (later / name).unlink()
        assert checkpoint.step_of(checkpoint.latest_checkpoint(tmp_path)) == 1
        assert checkpoint.load_training(tmp_path)[1]["step"] == 1
        shutil.rmtree(later)
    (tmp_path / "checkpoint-00000001" / "model.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"00001 is no checkpoint: it lacks model\.json"):
        checkpoint.load_model(tmp_path)


def test_the_same_step_is_saved_once(tmp_path):
    first = save(tmp_path, 1)
    before = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    assert save(tmp_path, 1) == first
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == before


def test_the_same_step_saved_again_tidies_up_too(tmp_path):
    pair = make(seed=0)
    first = save(tmp_path, 1, pair)
    kept = shutil.copytree(first, tmp_path / "kept")
    second = save(tmp_path, 2, pair)
    kept.rename(first)  # what a crash leaves between writing the one and removing the other
    assert save(tmp_path, 2, pair) == second
    assert checkpoint.checkpoints(tmp_path) == [second]


def test_a_run_whose_checkpoint_has_gone_is_called_one(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="is a run without a checkpoint: start another one"):
        checkpoint.latest_checkpoint(tmp_path)


@pytest.mark.parametrize("load", [checkpoint.load_model, checkpoint.load_training])
def test_there_may_be_none(tmp_path, load):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint of npllm: name a directory"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*missing: name a directory"):
        load(tmp_path / "missing")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 1, 7, 8, 40, 0.5, 0.9, -2])
def test_truncated_files_are_refused(saved, name, length):
    path = saved / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * length) if 0 < length < 1 else length])
    assert_refused(loader(name), path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"\x80\x04\x95", b"\xff" * 99, b"{}", b"[1]", b"null", b"PK"])
def test_foreign_files_are_refused(saved, name, content):
    (saved / name).write_bytes(content)
    assert_refused(loader(name), saved / name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match="checkpoint"):
        loader(name)(saved.parent)


@pytest.mark.parametrize("name", ["model.json", "training.json"])
@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"version": 2}, "has version 2, this npllm reads version 1"),
        ({"version": None}, "has version None"),
        ({"format": "another"}, "was not written by npllm"),
    ],
)
def test_other_formats_and_versions_are_refused(saved, name, change, fragment):
    path = saved / name
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    assert_refused(loader(name), path, fragment)


def drop(key):
    return lambda described: described.pop(key)


def put(value, *keys):
    def change(described):
        *outer, last = keys
        for key in outer:
            described = described[key]
        described[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(drop(key) for key in ("model", "config", "dtype", "tokenizer")),
        put("gpt", "model"),
        put(["lstm"], "model"),
        put("float7", "dtype"),
        put("int32", "dtype"),
        put("object", "dtype"),
        put(None, "config"),
        put(0, "config", "hidden_size"),
        put("4", "config", "hidden_size"),
        put(10**7, "config", "hidden_size"),  # 1.6 PB
        put(1.5, "config", "dropout"),
        put("x", "config", "dropout"),
        put(1, "config", "colour"),
        put(9, "tokenizer", "version"),
        put("foreign", "tokenizer", "format"),
        put(["a", "b"], "tokenizer", "vocabulary"),
        put(["a", "a"], "tokenizer", "vocabulary"),
    ],
)
def test_inconsistent_descriptions_are_refused(saved, change):
    path = saved / "model.json"
    described = json.loads(path.read_text("utf-8"))
    change(described)
    path.write_text(json.dumps(described), "utf-8")
    assert_refused(checkpoint.load_model, path)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda weights: weights.pop("fc.bias"), "lack fc.bias"),
        (lambda weights: weights.update(more=np.zeros(2)), "hold more"),
        (lambda weights: weights.update({"fc.bias": np.zeros(3)}), "fc.bias must have shape"),
        (lambda weights: weights.clear(), "lack embedding.weight"),
    ],
)
def test_weights_of_another_model_are_refused(saved, change, fragment):
    path = saved / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    assert_refused(checkpoint.load_model, path, fragment)


class CrashError(BaseException):
    """Nothing may catch it, like a power cut."""


class Crash:
    """Patches every file operation of a checkpoint: from the n-th one on each raises."""

    def __init__(self, monkeypatch, n, when):
        self.n, self.when, self.calls, self.last = n, when, 0, False
        kept = getattr(pathlib, "_normal_accessor", None)  # where Python 3.10 keeps its own
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "open"):
            operation = getattr(os, name)
            crashing = self.crashing(operation)
            monkeypatch.setattr(os, name, crashing)
            if getattr(kept, name, None) is operation:
                monkeypatch.setattr(kept, name, crashing)
        for name in ("save_weights", "write_json"):
            whole = self.crashing(getattr(checkpoint, name), written=0)
            monkeypatch.setattr(checkpoint, name, whole)

    def crashing(self, operation, written=None):
        """Wrap an operation; ``written`` is the argument that names a file it may leave torn."""

        def wrapped(*args, **kwargs):
            self.calls += 1
            if self.calls - 1 < self.n or self.last:
                return operation(*args, **kwargs)
            if self.calls - 1 > self.n:  # and nothing works any more: no tidying up either
                raise CrashError
            if self.when == "after" or (self.when == "midway" and written is not None):
                self.last = True
                operation(*args, **kwargs)
                self.last = False
            if self.when == "midway" and written is not None:
                os.truncate(args[written], os.path.getsize(args[written]) // 2)
            raise CrashError

        return wrapped


@pytest.mark.parametrize("when", ["before", "midway", "after"])
def test_a_crash_at_any_point_leaves_a_good_checkpoint(tmp_path, monkeypatch, when):
    crashes, found = 0, set()
    while True:
        directory = tmp_path / f"{crashes}"
        directory.mkdir()
        save(directory, 1)
        with monkeypatch.context() as patched:
            Crash(patched, crashes, when)
            try:
                save(directory, 2)
                break
            except CrashError:
                crashes += 1
        values = checkpoint.load_training(directory)[1]
        found.add(values["step"])
        model = checkpoint.load_model(directory)[0]
        expected = make(seed=values["step"])[0]
        assert model.parameters.vector.tobytes() == expected.parameters.vector.tobytes()
        for step in (2, 3):  # the next ones go on as if nothing had happened
            save(directory, step)
            assert checkpoint.load_training(directory)[1]["step"] == step
        assert [path.name for path in directory.iterdir()] == ["checkpoint-00000003"]
    # a directory, four files, flushes, renames, the old one's removal; Windows flushes no directory
    assert crashes >= (20 if os.name == "nt" else 24)
    assert found == {1, 2}


def test_nothing_is_pickled(saved):
    sources = list(Path(npllm.__file__).parent.rglob("*.py"))
    assert len(sources) > 30
    for source in sources:
        text = source.read_text("utf-8")
        for forbidden in (
            "import pickle",
            "allow_pickle=True",
            "np.load(",
            "import dill",
            "joblib",
        ):
            assert forbidden not in text, source
    for path in saved.iterdir():
        assert path.read_bytes()[:1] not in (b"\x80", b"(", b"c"), path  # how pickles begin
