"""What else has the name of a checkpoint: a run goes on, keeps its own, and says so once."""

import shutil

import pytest
from tiny import advance, finish

from npllm import checkpoint
from npllm.cli import main
from npllm.training import Run

STRAY, LAST = "checkpoint-99999999", "checkpoint-00000012"


def empty(path, link):
    path.mkdir()


def foreign(path, link):
    path.mkdir()
    (path / "thesis").write_text("years of work")


def file(path, link):
    path.write_text("years of work")


def link_to_a_checkpoint(path, link):
    shutil.copytree(checkpoint.latest_checkpoint(path.parent), path.parent.parent / "elsewhere")
    link(path, path.parent.parent / "elsewhere")


def link_to_nothing(path, link):
    link(path, path.parent / "missing")


KINDS = [empty, foreign, file, link_to_a_checkpoint, link_to_nothing]
kinds = pytest.mark.parametrize("stray", KINDS)


def content(*folders):
    return {p: p.is_file() and p.read_bytes() for folder in folders for p in folder.rglob("*")}


def weights(path):
    return {p.name: p.read_bytes() for p in path.iterdir() if p.suffix == ".safetensors"}


@kinds
def test_a_stray_costs_no_weights(create, finished, link, caplog, stray):
    run = create()
    training = run.train()
    next(training)
    stray(run.directory / STRAY, link)
    elsewhere = run.directory.parent / "elsewhere"
    before = content(elsewhere, run.directory / STRAY)
    list(training)
    assert {p.name for p in run.directory.glob("checkpoint-*")} == {LAST, STRAY}
    assert content(elsewhere, run.directory / STRAY) == before
    assert weights(run.directory / LAST).items() <= finished().items()
    assert checkpoint.latest_checkpoint(run.directory).name == LAST
    loaded, _ = checkpoint.load_model(run.directory)
    assert loaded.parameters.vector.tobytes() == run.model.parameters.vector.tobytes()
    assert Run.resume(run.directory, steps=14).step == 12
    (record,) = caplog.records  # of three savings
    assert f"{STRAY} was not written by this run and is left alone" in record.getMessage()


@kinds
def test_a_stray_in_the_way_is_set_aside(create, finished, link, caplog, stray):
    run = create()
    advance(run, 2)
    stray(run.directory / LAST, link)
    held = content(run.directory / LAST).values()
    finish(run)
    assert weights(run.directory / LAST).items() <= finished().items()
    (aside,) = run.directory.glob("*.aside")
    assert list(content(aside).values()) == list(held)
    assert aside.is_symlink() == stray.__name__.startswith("link")
    assert "was in the way" in caplog.records[-1].getMessage()
    assert aside.name in caplog.records[-1].getMessage()


def test_nothing_is_said_without_a_stray(create, caplog):
    """Negative control."""
    finish(create())
    assert not caplog.records


def test_a_later_checkpoint_that_appears_is_left_alone_and_wins(create, caplog):
    run, other = create(schedule="constant"), create(schedule="constant", steps=20)
    finish(other)
    training = run.train()
    next(training)
    later = shutil.copytree(
        other.directory / "checkpoint-00000020", run.directory / "checkpoint-00000020"
    )
    before = content(later)
    list(training)
    assert {p.name for p in run.directory.glob("checkpoint-*")} == {LAST, later.name}
    assert content(later) == before
    (record,) = caplog.records
    assert f"{later.name} was not written by this run" in record.getMessage()
    with pytest.raises(ValueError, match="or was in the meantime: resume it again"):
        next(run.train())
    assert {p.name for p in run.directory.glob("checkpoint-*")} == {LAST, later.name}
    assert Run.resume(run.directory).step == 20  # whoever put it there wants it


def test_a_checkpoint_under_a_later_step_s_name_is_refused(create):
    run = create()
    finish(run)
    shutil.copytree(run.directory / LAST, run.directory / STRAY)
    with pytest.raises(ValueError, match=f"{STRAY} does not fit the run: it is of step 12"):
        Run.resume(run.directory)
    shutil.rmtree(run.directory / STRAY)
    assert Run.resume(run.directory).step == 12


def test_what_diverges_names_the_run_s_own_checkpoint(create):
    run = create(lr=1e30, clip=0.0, optimizer="sgd")
    shutil.copytree(run.directory / "checkpoint-00000000", run.directory / "x")
    training = run.train()
    next(training)
    (run.directory / "x").rename(run.directory / STRAY)
    with pytest.raises(ValueError, match=r"the checkpoint \S*checkpoint-00000000 is good"):
        list(training)


def test_the_command_line_says_it_in_one_line(create, capsys):
    run = create()
    advance(run, 5)
    (run.directory / STRAY).mkdir()
    assert main(["train", "--resume", str(run.directory), "--sample", "0"]) == 0
    errors = capsys.readouterr().err
    assert errors.splitlines() == [
        f"{run.directory / STRAY} was not written by this run and is left alone: move it"
    ]


def another_run(create, directory, step):
    """A complete checkpoint of a run with another seed, under the name of a step."""
    other = create(seed=9)
    advance(other, 1)
    path = directory / f"checkpoint-{step:08d}"
    shutil.copytree(checkpoint.latest_checkpoint(other.directory), path)
    return path


def test_another_run_s_checkpoint_takes_no_step_s_place(create, finished, caplog):
    run = create()
    training = run.train()
    next(training)
    foreign = weights(another_run(create, run.directory, 12))
    list(training)
    assert weights(run.directory / LAST).items() <= finished().items()
    (aside,) = run.directory.glob("*.aside")
    assert weights(aside) == foreign
    assert {p.name for p in checkpoint.checkpoints(run.directory)} == {LAST}
    assert "was in the way" in caplog.records[-1].getMessage()


def test_what_is_not_only_a_run_s_is_not_removed(create, caplog):
    run = create()
    training = run.train()
    next(training)
    copy = another_run(create, run.directory, 1)
    (copy / "notes.txt").write_text("years of work")
    before = content(copy)
    list(training)
    assert content(copy) == before
    assert {p.name for p in checkpoint.checkpoints(run.directory)} == {copy.name, LAST}
    (record,) = caplog.records
    assert f"{copy.name} was not written by this run" in record.getMessage()
