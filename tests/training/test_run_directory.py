"""What a run needs of its directory: what is foreign, broken or there already is refused."""

import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import KINDS, advance, change_json, finish, left_behind

from npllm import checkpoint
from npllm.text import CharacterTokenizer, WordTokenizer
from npllm.training import Run
from npllm.training.description import load_options


def test_a_changed_text_is_refused(tmp_path, options):
    text = tmp_path / "text"
    text.write_text("What is written is written. " * 40)
    run = Run.create(tmp_path / "run", options(data=str(text)))
    text.write_text("What is written is rewritten. " * 40)
    with pytest.raises(ValueError, match="the text of the run has changed since"):
        Run.resume(run.directory)
    text.unlink()
    with pytest.raises(FileNotFoundError, match=r"text of the run has gone \(.*text\): rest"):
        Run.resume(run.directory)


def test_a_run_finds_its_text_from_anywhere(tmp_path, monkeypatch, options):
    (tmp_path / "text").write_text("What is written is written. " * 40)
    monkeypatch.chdir(tmp_path)
    Run.create("run", options(data="text"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Run.resume(tmp_path / "run").step == 0


@pytest.mark.parametrize(
    ("length", "changes", "message"),
    [
        (
            11,
            {"held_out": 0.2, "length": 9},
            "training part .* 9 tokens, .* length=9 needs 10",
        ),
        (11, {"held_out": 0.05, "length": 2}, "held-out part .* 1 tokens, and 2 are needed"),
        (100, {"held_out": 0.0}, "held_out"),
        (100, {"held_out": 1.0}, "held_out"),
        (100, {"held_out": float("nan")}, "held_out"),
        (100, {"tokenizer": "word", "vocab_size": 1}, "cannot hold the text's 2 characters"),
        (100, {"tie_weights": True}, "embed_size = hidden_size"),
        (100, {"nesterov": True, "optimizer": "sgd"}, "nesterov|momentum"),
    ],
)
def test_an_impossible_run_leaves_nothing(tmp_path, options, length, changes, message):
    text = tmp_path / "text"
    text.write_text("ab" * (length // 2) + "a" * (length % 2))
    with pytest.raises(ValueError, match=message):
        Run.create(tmp_path / "runs" / "one", options(data=str(text), **changes))
    assert [path.name for path in tmp_path.rglob("*")] == ["text"]


def test_a_short_text_makes_smaller_batches(tmp_path, options):
    text = tmp_path / "text"
    text.write_text("ab" * 20)
    run = Run.create(tmp_path / "run", options(data=str(text), length=10, batch_size=32))
    assert run.task.batch_size == Run.resume(run.directory).task.batch_size == 3
    assert Run.resume(run.directory).options == run.options
    finish(run)


@pytest.mark.parametrize("existing", ["run", "files", "file"])
def test_what_exists_is_never_overwritten(tmp_path, create, options, existing):
    place = tmp_path / "place"
    if existing == "run":
        place = create().directory
    elif existing == "files":
        place.mkdir()
        (place / "thesis").write_text("years of work")
    else:
        place.write_text("years of work")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    message = "already is a file" if existing == "file" else "already holds"
    with pytest.raises(FileExistsError, match=message) as error:
        Run.create(place, options())
    assert ("resume it" in str(error.value)) == (existing == "run")
    assert before == {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}


def test_an_empty_directory_is_used(tmp_path, options):
    place = tmp_path / "place"
    place.mkdir()
    Run.create(place, options())
    assert {path.name for path in place.iterdir()} == {
        "checkpoint-00000000",
        "metrics.jsonl",
        "run.json",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_run_may_be_moved(create, finished):
    run = create()
    advance(run, 7)
    moved = run.directory.with_name("moved")
    run.directory.rename(moved)
    assert left_behind(finish(Run.resume(moved))) == finished()


class CrashError(BaseException):
    """Like a power cut."""


def test_a_crash_while_it_starts_leaves_a_run_or_nothing(tmp_path, options, monkeypatch, finished):
    operations = ["mkdir", "rename", "rmdir", "fsync", "open", "unlink"]
    crashes, found = 0, set()
    while True:
        place, calls = tmp_path / str(crashes), []

        def crashing(operation, calls=calls, last=crashes):
            def wrapped(*args, **kwargs):
                calls.append(operation)
                if len(calls) > last:  # and nothing works any more: no tidying up either
                    raise CrashError
                return operation(*args, **kwargs)

            return wrapped

        with monkeypatch.context() as patched:
            for name in operations:
                patched.setattr(os, name, crashing(getattr(os, name)))
            try:
                Run.create(place, options())
                break
            except CrashError:
                crashes += 1
        found.add(place.exists())
        run = Run.resume(place) if place.exists() else Run.create(place, options())
        if crashes % 5 == 0:
            assert left_behind(finish(run)) == finished()
    assert crashes >= 12
    assert False in found


@pytest.mark.parametrize("length", [0, 1, 20, -2])
def test_a_truncated_description_is_refused(create, length):
    path = create().directory / "run.json"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"run\.json is no complete JSON file"):
        Run.resume(path.parent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "has version 2, this npllm reads version 1"),
        (lambda d: d.update(format="other"), "was not written by npllm"),
        (lambda d: d.pop("options"), "does not describe a run"),
        (lambda d: d.pop("text_sha256"), "does not describe a run"),
        (lambda d: d.update(options=None), "does not describe a run"),
        (lambda d: d["options"].update(colour="red"), "does not describe a run"),
        (lambda d: d["options"].update(steps=0), "does not describe a run"),
        (lambda d: d["options"].update(steps="many"), "does not describe a run"),
        (lambda d: d["options"].update(model="gpt-9"), "does not describe a run"),
    ],
)
def test_a_foreign_description_is_refused(create, change, message):
    run = create()
    change_json(run.directory / "run.json", change)
    with pytest.raises(ValueError, match=f"run.json {message}"):
        Run.resume(run.directory)
    with pytest.raises(ValueError, match=message):
        load_options(run.directory)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("generator"),
        lambda d: d.pop("step"),
        lambda d: d.update(step="seven"),
        lambda d: d.update(step=None),
        lambda d: d.update(step=-1),
        lambda d: d.update(generator={}),
        lambda d: d.update(generator=None),
        lambda d: d["generator"]["state"].update(state="x"),
        lambda d: d["generator"]["state"].update(state=2**200),
        lambda d: d["generator"].update(bit_generator="MT19937"),
        lambda d: d.update(optimizer_steps=None),
        lambda d: d.update(optimizer_steps="seven"),
        lambda d: d.update(loss_sum="much"),
        lambda d: d.update(loss_tokens=None),
    ],
)
def test_a_state_that_does_not_fit_is_refused(create, change):
    run = create()
    advance(run, 5)
    change_json(checkpoint.latest_checkpoint(run.directory) / "training.json", change)
    with pytest.raises(ValueError, match=r"checkpoint-00000005.* does not fit the run"):
        Run.resume(run.directory)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("optimizer.mean"),
        lambda arrays: arrays.update({"optimizer.mean": np.zeros(3, np.float32)}),
        lambda arrays: arrays.update({"optimizer.buffer": np.zeros(3, np.float32)}),
        lambda arrays: arrays.pop("state.c"),
        lambda arrays: arrays.pop("state.h"),
        lambda arrays: arrays.update({"state.h": np.zeros((2, 4, 7), np.float32)}),
        lambda arrays: arrays.update({"state.c": np.zeros((2, 5, 6), np.float32)}),
    ],
)
def test_arrays_that_do_not_fit_are_refused(create, change):
    run = create()
    advance(run, 5)
    path = checkpoint.latest_checkpoint(run.directory) / "training.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    with pytest.raises(ValueError, match=r"checkpoint-00000005.* does not fit the run"):
        Run.resume(run.directory)


def test_a_run_from_before_there_were_tasks_goes_on(create, finished):
    run = create()
    advance(run, 5)
    change_json(run.directory / "run.json", lambda d: d.pop("task"))
    again = Run.resume(run.directory)
    list(again.train())
    assert left_behind(run.directory) == finished()


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 7},
        {"layers": 1},
        {"dtype": "float64"},
        {"dropout": 0.5},
        {"optimizer": "sgd"},
    ],
)
def test_the_checkpoint_of_another_run_is_refused(create, changes):
    run, other = create(), create(**changes)
    latest = checkpoint.latest_checkpoint(run.directory)
    shutil.rmtree(latest)
    shutil.copytree(checkpoint.latest_checkpoint(other.directory), latest)
    with pytest.raises(ValueError, match="checkpoint-00000000"):
        Run.resume(run.directory)


def test_the_checkpoint_of_a_model_with_another_option_is_refused(create):
    run = create(**KINDS["llama, bpe"])
    path = checkpoint.latest_checkpoint(run.directory) / "model.json"
    change_json(path, lambda described: described["config"].update(window=3))  # the run has none
    with pytest.raises(ValueError, match=r"does not fit the run: its model is .*'window': 3"):
        Run.resume(run.directory)


def test_a_checkpoint_that_has_gone_is_written_again(create):
    run = create()
    advance(run, 5)
    saved = run.save()
    shutil.rmtree(saved)
    assert run.save() == saved
    assert Run.resume(run.directory).step == 5


def test_there_may_be_no_run(tmp_path):
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match="holds no run"):
            Run.resume(place)


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_characters_of_the_held_out_text_are_known(tmp_path, options, kind):
    text = tmp_path / "text"
    text.write_text("abcd " * 50 + "😀xyz " * 10, "utf-8")
    run = Run.create(tmp_path / "run", options(data=str(text), tokenizer=kind.kind))
    assert run.task.validation.endswith("😀xyz ")
    finish(run)


def test_no_file_of_a_run_is_a_pickle(create):
    run = create()
    advance(run, 7)
    run.save()
    files = [path for path in run.directory.rglob("*") if path.is_file()]
    assert len(files) == 7
    for path in files:
        assert path.suffix in {".json", ".jsonl", ".lock", ".safetensors"}
        assert path.read_bytes()[:1] not in (b"\x80", b"(", b"c"), path  # how pickles begin


def test_a_run_is_trained_by_one_process_at_a_time(create):
    run = create()
    training = run.train()
    next(training)
    with pytest.raises(ValueError, match="is being trained by another process"):
        Run.resume(run.directory)
    training.close()
    late = Run.resume(run.directory)
    finish(run)
    with pytest.raises(ValueError, match="or was in the meantime"):
        next(late.train())
