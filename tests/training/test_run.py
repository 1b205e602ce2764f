"""Runs: stopped anywhere they go on to the same bits; what goes wrong leaves a good checkpoint."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from npllm import checkpoint, optim
from npllm.optim import clip_global_norm
from npllm.text import CharacterTokenizer, ContiguousBatches, WordTokenizer, split_text
from npllm.training import DivergedError, Options, Run
from npllm.training.run import load_options, read_metrics

TEXT = "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich. 😀\r\n" * 30
TINY = {
    "embed_size": 5,
    "hidden_size": 6,
    "layers": 2,
    "batch_size": 4,
    "length": 8,
    "held_out": 0.2,
    "steps": 12,
    "log_every": 3,
    "eval_every": 4,
    "checkpoint_every": 5,
    "threads": 1,
}


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_bytes(TEXT.encode())
    return path


@pytest.fixture(scope="module")
def options(text_file):
    """Make the options of a tiny run."""
    return lambda **changes: Options(**{**TINY, "data": str(text_file), **changes})


@pytest.fixture
def create(tmp_path, options):
    """Start tiny runs, each in a directory of its own."""
    started = []

    def create_run(**changes):
        started.append(Run.create(tmp_path / f"run{len(started)}", options(**changes)))
        return started[-1]

    return create_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory, options):
    """What a run that was never stopped leaves behind; each is trained once."""
    known = {}

    def finish(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            run = Run.create(tmp_path_factory.mktemp("finished") / "run", options(**changes))
            list(run.train())
            known[key] = left_behind(run.directory)
        return known[key]

    return finish


def left_behind(directory):
    """Every bit of a run that time does not change: its latest checkpoint and its metrics."""
    (latest,) = directory.glob("checkpoint-*")
    metrics = [
        {name: value for name, value in line.items() if name != "tokens_per_second"}
        for line in read_metrics(directory)
    ]
    return {
        "metrics": metrics,
        "name": latest.name,
        **{path.name: path.read_bytes() for path in sorted(latest.iterdir())},
    }


KINDS = {
    "contiguous": {},
    "contiguous, dropout, two threads": {"dropout": 0.3, "threads": 2},
    "shuffled": {"windows": "shuffled", "threads": 2},
    "shuffled, dropout": {"windows": "shuffled", "dropout": 0.3, "optimizer": "rmsprop"},
    "words": {"tokenizer": "word", "vocab_size": 50, "length": 3, "optimizer": "adamw"},
    "tied, float64": {"tie_weights": True, "embed_size": 6, "dtype": "float64"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "schedule": "step", "decay_every": 4},
}
kinds = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)


def advance(run, step):
    """Train up to a step and leave the rest."""
    for taken in run.train():
        if taken.step == step:
            break
    assert run.step == step


def finish(run):
    list(run.train())
    return run.directory


def change_json(path, change):
    described = json.loads(path.read_text("utf-8"))
    change(described)
    path.write_text(json.dumps(described), "utf-8")


@kinds
@pytest.mark.parametrize("saved", [False, True], ids=["left", "saved"])
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 11, 12])
def test_a_stopped_run_ends_as_if_it_had_not_been(create, finished, changes, stop, saved):
    run = create(**changes)
    advance(run, stop)
    if saved:
        assert run.save().name == f"checkpoint-{stop:08d}"
    resumed = Run.resume(run.directory)
    assert resumed.step == (stop if saved or stop == 12 else 5 * (stop // 5))
    assert resumed.options == run.options
    assert left_behind(finish(resumed)) == finished(**changes)


@kinds
def test_a_run_may_be_stopped_at_every_step(create, finished, changes):
    run = create(**changes)
    for step in range(1, 12):
        advance(run, step)
        run.save()
        run = Run.resume(run.directory)
    assert left_behind(finish(run)) == finished(**changes)


@kinds
def test_the_seed_determines_every_bit(create, finished, changes):
    assert left_behind(finish(create(**changes))) == finished(**changes)
    other = left_behind(finish(create(**changes, seed=1)))
    assert other["model.safetensors"] != finished(**changes)["model.safetensors"]


def test_metrics_written_after_the_checkpoint_are_dropped(create, finished):
    run = create()
    advance(run, 9)
    assert [line["step"] for line in read_metrics(run.directory)] == [3, 4, 6, 8, 9]
    with run.metrics_path.open("a") as file:
        file.write('{"step": 12, "train_lo')  # the crash came in the middle of a line
    assert [line["step"] for line in read_metrics(run.directory)] == [3, 4, 6, 8, 9]
    resumed = Run.resume(run.directory)
    assert [line["step"] for line in read_metrics(run.directory)] == [3, 4]
    assert run.metrics_path.read_text().endswith("}\n")
    assert left_behind(finish(resumed)) == finished()


@pytest.mark.parametrize("content", ["[]\n", "{}\n", '{"step": "1"}\n', '{"step": 1\n', "1\n"])
def test_foreign_metrics_are_refused(create, content):
    run = create()
    run.metrics_path.write_text(content)
    with pytest.raises(ValueError, match="is no metrics file of npllm"):
        Run.resume(run.directory)
    assert run.metrics_path.read_text() == content


def test_a_finished_run_takes_more_steps(create):
    run = create(schedule="constant")
    finish(run)
    resumed = Run.resume(run.directory, steps=15)
    assert [step.step for step in resumed.train()] == [13, 14, 15]
    assert [line["step"] for line in read_metrics(run.directory)][-2:] == [12, 15]
    longer = create(schedule="constant", steps=15)
    finish(longer)
    expected, actual = longer.model.parameters.vector, resumed.model.parameters.vector
    assert actual.tobytes() == expected.tobytes()


def test_more_steps_are_remembered(create):
    run = create()
    finish(run)
    longer = Run.resume(run.directory, steps=20)
    advance(longer, 14)
    longer.save()
    again = Run.resume(run.directory)  # as the line printed after Ctrl-C says
    assert (again.step, again.options.steps) == (14, 20)


def test_what_a_step_tells(create):
    steps = list(create().train())
    assert [step.step for step in steps] == list(range(1, 13))
    assert {step.tokens for step in steps} == {32}
    assert [s.step for s in steps if s.record] == [3, 4, 6, 8, 9, 12]
    for step in steps:
        assert np.isfinite(step.loss)
        if step.record:
            validated = step.step % 4 == 0
            assert (step.record["val_loss"] is not None) == validated
            if validated:
                perplexity = np.exp(step.record["val_loss"])
                assert step.record["val_perplexity"] == pytest.approx(perplexity, rel=1e-14)


def test_the_train_loss_is_the_mean_since_the_last_line(create):
    losses, record = [], None
    for step in create(log_every=5, eval_every=100).train():
        losses.append(step.loss)
        if step.record:
            np.testing.assert_allclose(step.record["train_loss"], np.mean(losses), rtol=1e-6)
            losses, record = [], step.record
    assert record["step"] == 12
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        ({"optimizer": "adam"}, lambda p: optim.Adam(p, 0.01, weight_decay=0.1)),
        ({"optimizer": "adamw"}, lambda p: optim.AdamW(p, 0.01, weight_decay=0.1)),
        (
            {"optimizer": "sgd", "momentum": 0.5, "nesterov": True},
            lambda p: optim.SGD(p, 0.01, 0.5, weight_decay=0.1, nesterov=True),
        ),
        (
            {"optimizer": "rmsprop", "momentum": 0.5},
            lambda p: optim.RMSprop(p, 0.01, momentum=0.5, weight_decay=0.1),
        ),
    ],
)
def test_the_five_steps_by_hand(create, optimizer, make):
    changes = {"lr": 0.01, "clip": 0.2, "weight_decay": 0.1, "schedule": "constant", "steps": 3}
    run = create(**optimizer, **changes)
    model, tokenizer = checkpoint.load_model(run.directory)
    text = Path(run.options.data).read_bytes().decode()
    batches = ContiguousBatches(tokenizer.encode(split_text(text, 0.2)[0]), 4, 8)  # step 1
    rule, state = make(model.parameters), None
    for step, taken in enumerate(run.train()):
        result = model.loss_and_gradients(*batches[step][:2], state)  # steps 2 to 4
        result.gradients.vector /= result.tokens
        norm, state = clip_global_norm(result.gradients, 0.2), result.state
        rule.step(result.gradients)  # step 5
        assert taken.loss == result.loss / 32
        assert norm > 0.2
        assert run.model.parameters.vector.tobytes() == model.parameters.vector.tobytes()


@pytest.mark.parametrize(
    ("changes", "make"),
    [
        ({"schedule": "constant"}, lambda: optim.constant(0.02)),
        ({"schedule": "step", "decay_every": 5}, lambda: optim.step_decay(0.02, 5, 0.1)),
        ({"schedule": "cosine"}, lambda: optim.warmup_cosine(0.02, 0, 12, 2e-4)),
        (
            {"schedule": "cosine", "warmup": 0.5},
            lambda: optim.warmup_cosine(0.02, 6, 12, 2e-4),
        ),
    ],
)
def test_the_schedule_sets_the_learning_rate(create, changes, make):
    run = create(lr=0.02, log_every=1, **changes)
    schedule = make()
    rates = [step.record["learning_rate"] for step in run.train()]
    assert rates == [schedule(step) for step in range(12)]
    assert len(set(rates)) > 1 or changes["schedule"] == "constant"


def test_training_learns(create):
    run = create(steps=150, lr=0.02, eval_every=150, log_every=10)
    records = [step.record for step in run.train() if step.record]
    assert records[-1]["train_loss"] < 0.7 * records[0]["train_loss"]


def test_carried_states_are_used_and_dropped_at_the_end_of_the_text(create):
    run = create(batch_size=1, length=300, steps=6)  # the text is four batches long
    seen = []
    loss_and_gradients = run.model.loss_and_gradients

    def record(ids, targets, state, rng):
        result = loss_and_gradients(ids, targets, state, rng)
        seen.append((state, result.state))
        return result

    run.model.loss_and_gradients = record
    finish(run)
    assert len(seen) == 6
    for n, (state, _) in enumerate(seen):
        if n in (0, 4):
            assert state is None
        else:
            np.testing.assert_array_equal(state, seen[n - 1][1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 1e30},
        {"lr": 1e38},
        {"lr": 1e300},
        {"optimizer": "adamw", "lr": 1e30, "weight_decay": 0.1},
        {"optimizer": "rmsprop", "lr": 1e300},
        {"optimizer": "sgd", "lr": 1e30, "clip": 0},
        {"optimizer": "sgd", "lr": 1e300},
        {"lr": 1e300, "log_every": 1, "eval_every": 1, "checkpoint_every": 1},
        {"lr": 1e300, "steps": 1},
    ],
)
def test_divergence_is_named_and_leaves_a_good_checkpoint(create, changes, threads):
    run = create(schedule="constant", threads=threads, **changes)
    with pytest.raises(DivergedError, match=r"diverged at step \d+, .* is good$") as error:
        finish(run)
    assert len(str(error.value).splitlines()) == 1
    kept = checkpoint.latest_checkpoint(run.directory)
    assert str(error.value).endswith(f"the checkpoint {kept} is good")
    model, _ = checkpoint.load_model(run.directory)
    assert np.isfinite(model.parameters.vector).all()
    assert Run.resume(run.directory).step == int(kept.name[-8:])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["embedding.weight", "rnn.weight_hh_l1", "fc.weight", "fc.bias"])
def test_broken_weights_are_named_and_never_saved(create, threads, broken, name):
    run = create(threads=threads)
    advance(run, 6)
    run.model.parameters[name].flat[0] = broken
    with pytest.raises(DivergedError, match=r"diverged at step 6, .* is good"):
        run.save()
    run.model.parameters[name] = broken
    before = [line["step"] for line in read_metrics(run.directory)]
    with pytest.raises(DivergedError, match=r"diverged at step 7, .*checkpoint-00000005 is good"):
        next(run.train())
    assert run.step == 6
    assert [line["step"] for line in read_metrics(run.directory)] == before
    assert np.isfinite(checkpoint.load_model(run.directory)[0].parameters.vector).all()


def test_a_changed_text_is_refused(tmp_path, options):
    text = tmp_path / "text"
    text.write_text("What is written is written. " * 40)
    run = Run.create(tmp_path / "run", options(data=str(text)))
    text.write_text("What is written is rewritten. " * 40)
    with pytest.raises(ValueError, match="the text of the run has changed since"):
        Run.resume(run.directory)
    text.unlink()
    with pytest.raises(FileNotFoundError, match="text"):
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
        (11, {"held_out": 0.2, "length": 9}, "training part .* 9 tokens, one window needs 10"),
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
    assert run.batch_size == Run.resume(run.directory).batch_size == 3
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
    assert ("--resume" in str(error.value)) == (existing == "run")
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


def test_there_may_be_no_run(tmp_path):
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match="holds no run"):
            Run.resume(place)


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_characters_of_the_held_out_text_are_known(tmp_path, options, kind):
    text = tmp_path / "text"
    text.write_text("abcd " * 50 + "😀xyz " * 10, "utf-8")
    run = Run.create(tmp_path / "run", options(data=str(text), tokenizer=kind.kind))
    assert run.validation.endswith("😀xyz ")
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
