"""When training ends: after epochs, or where the validation loss no longer falls."""

import numpy as np
import pytest
from tiny import advance, finish

from npllm.checkpoint import load_model, model_directory
from npllm.training import Run
from npllm.training.language_modelling import LanguageModelling
from npllm.training.metrics import read_metrics

LOSSES = [3.0, 2.0, 2.5, 1.0, 1.5, 1.0, 1.25, 0.5]


@pytest.fixture
def losses(monkeypatch):
    """Let the validations give these losses, whatever the model is."""
    waiting = list(LOSSES)

    def evaluate(*_):
        loss = waiting.pop(0)
        return {"loss": loss, "perplexity": np.exp(loss), "bits_per_character": loss}

    monkeypatch.setattr(LanguageModelling, "evaluate", evaluate)


def test_an_epoch_shows_all_once(create):
    run = create(epochs=3, steps=800)
    assert run.options.steps == 3 * run.task.batches.steps_per_epoch
    assert run.options.epochs is None
    assert finish(create(steps=3))  # as ever
    resumed = Run.resume(run.directory, epochs=4)
    assert resumed.options.steps == 4 * run.task.batches.steps_per_epoch


def test_steps_and_epochs_are_not_both_taken(options):
    with pytest.raises(ValueError, match="epochs=2 takes the place of steps: leave out one"):
        options(epochs=2, steps=12)
    for name in ("epochs", "patience"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            options(**{name: 0})


@pytest.mark.parametrize(("patience", "validations", "best"), [(1, 3, 2), (2, 6, 4), (4, 8, 8)])
def test_it_ends_where_the_loss_has_not_fallen(create, losses, patience, validations, best):
    run = create(patience=patience, steps=16, eval_every=2, checkpoint_every=50)
    seen = [
        (step.step, run.model.parameters.vector.copy())
        for step in run.train()
        if step.record and step.record["val_loss"] is not None
    ]
    assert run.ended
    assert [step for step, _ in seen] == list(range(2, 2 * validations + 2, 2))
    assert [p.name for p in run.directory.glob("best-*")] == [f"best-{2 * best:08d}"]
    assert [p.name for p in run.directory.glob("checkpoint-*")] == [
        f"checkpoint-{2 * validations:08d}"
    ]
    model, _ = load_model(run.directory)
    assert np.array_equal(model.parameters.vector, seen[best - 1][1])


def test_without_patience_nothing_is_kept_aside(create, losses):
    run = create(steps=16, eval_every=2)
    finish(run)
    assert run.step == 16
    assert not list(run.directory.glob("best-*"))
    assert model_directory(run.directory).name == "checkpoint-00000016"


def test_a_resumed_run_ends_where_it_would_have(create, losses):
    run = create(patience=2, steps=16, eval_every=2, checkpoint_every=1)
    advance(run, 9)  # after the fourth validation, which is the best
    resumed = Run.resume(run.directory)
    finish(resumed)
    assert resumed.step == 12
    assert [line["val_loss"] for line in read_metrics(run.directory)][-1] == LOSSES[5]
    assert model_directory(run.directory).name == "best-00000008"
    assert Run.resume(run.directory).ended
    assert not Run.resume(run.directory, patience=3).ended


def test_what_was_kept_lasts_until_there_is_better(create, losses, monkeypatch):
    run = create(patience=2, steps=16, eval_every=2, checkpoint_every=1)
    advance(run, 7)
    assert model_directory(run.directory).name == "best-00000004"

    def full(*_):
        raise OSError("no space left on the device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="no space"):
        finish(run)
    assert model_directory(run.directory).name == "best-00000004"
    assert not list(run.directory.glob("*.tmp"))


def test_what_a_crash_left_of_it_is_tidied_up(create, losses):
    run = create(patience=2, steps=16, eval_every=2)
    advance(run, 2)
    left, other = run.directory / f"best-00000002.{'0' * 16}.tmp", run.directory / "best.tmp"
    for path in (left, other):
        path.mkdir()
    Run.resume(run.directory)
    assert not left.exists()
    assert other.exists()  # which is somebody's
