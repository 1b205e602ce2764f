"""Runs: stopped anywhere they go on to the same bits; divergence leaves a good checkpoint."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import advance, finish, kinds, left_behind

from npllm import checkpoint, optim
from npllm.optim import clip_global_norm
from npllm.text import ContiguousBatches, split_text
from npllm.training import DivergedError, Run
from npllm.training.description import load_options
from npllm.training.metrics import read_metrics


@kinds
@pytest.mark.parametrize("stop", [4, 11])  # the last checkpoint is of step 0 and 10
def test_a_stopped_run_ends_as_if_it_had_not_been(create, finished, changes, stop):
    run = create(**changes)
    advance(run, stop)
    resumed = Run.resume(run.directory)
    assert resumed.step == 5 * (stop // 5)
    assert resumed.options == run.options
    assert left_behind(finish(resumed)) == finished(**changes)


@kinds
def test_a_run_may_be_stopped_at_every_step(create, finished, changes):
    run = create(**changes)
    for step in range(1, 13):
        advance(run, step)
        assert run.save().name == f"checkpoint-{step:08d}"
        run = Run.resume(run.directory)
        assert run.step == step
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


def test_a_run_goes_on_with_other_threads_and_parts(create):
    """As the line says that is printed where a worker was killed."""
    run = create(dtype="float64", threads=2)
    advance(run, 5)
    run.save()
    resumed = Run.resume(run.directory, threads=1, accumulate=3)
    assert (resumed.options.threads, resumed.options.accumulate) == (1, 3)
    finish(resumed)
    again, _ = load_options(run.directory)
    assert (again.threads, again.accumulate) == (1, 3)
    whole = create(dtype="float64")
    finish(whole)
    expected, actual = whole.model.parameters.vector, resumed.model.parameters.vector
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


def test_of_two_runs_started_at_once_one_is_told(create, options, monkeypatch):
    module = sys.modules["npllm.training.run"]
    describe, directory = module.describe, create().directory.with_name("both")

    def late(*arguments):
        monkeypatch.setattr(module, "describe", describe)
        Run.create(directory, options())
        describe(*arguments)

    monkeypatch.setattr(module, "describe", late)
    with pytest.raises(FileExistsError, match="both already holds a run: resume it, or choose"):
        Run.create(directory, options())
    assert Run.resume(directory).step == 0
    assert not [path for path in directory.parent.iterdir() if path.name.startswith((".", "both."))]


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

    def record(ids, targets, state=None, **options):
        result = loss_and_gradients(ids, targets, state, **options)
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
