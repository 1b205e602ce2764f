"""A run unpacked from an archive may hold links: nothing outside it is written or removed."""

import shutil

import pytest
from tiny import advance, finish

from npllm.training import Run
from npllm.training.metrics import read_metrics


def content(folder):
    return {p: p.is_file() and p.read_bytes() for p in sorted(folder.rglob("*"))}


@pytest.fixture
def outside(tmp_path):
    place = tmp_path / "outside"
    place.mkdir()
    (place / "precious").write_text("precious")
    return place


@pytest.fixture
def stopped(create):
    """The directory of a run that was stopped after its fifth step."""
    run = create()
    advance(run, 5)
    return run.directory


@pytest.mark.parametrize("name", ["metrics.jsonl.tmp", "run.json.tmp"])
def test_a_link_beside_the_run_s_files_is_left_alone(stopped, outside, link, name):
    before = content(outside)
    link(stopped / name, outside / "precious")
    finish(Run.resume(stopped))
    assert content(outside) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.json"])
def test_a_link_in_place_of_a_file_is_replaced(stopped, outside, link, name):
    shutil.move(stopped / name, outside / name)
    link(stopped / name, outside / name)
    before = content(outside)
    finish(Run.resume(stopped, steps=14))
    assert content(outside) == before
    assert not (stopped / name).is_symlink()
    assert [line["step"] for line in read_metrics(stopped)] == [3, 4, 6, 8, 9, 12, 14]
    assert Run.resume(stopped).options.steps == 14


@pytest.mark.parametrize("target", ["precious", "missing"])
def test_a_lock_that_is_a_link_is_refused(stopped, outside, link, target):
    before = content(outside)
    (stopped / "run.lock").unlink()
    link(stopped / "run.lock", outside / target)
    with pytest.raises(ValueError, match=r"^\S+run\.lock is a link, and .*: remove it$"):
        Run.resume(stopped)
    assert content(outside) == before
    (stopped / "run.lock").unlink()
    finish(Run.resume(stopped))


def test_metrics_that_become_a_link_are_not_written_to(stopped, outside, link):
    before = content(outside)
    training = Run.resume(stopped).train()
    next(training)
    (stopped / "metrics.jsonl").unlink()
    link(stopped / "metrics.jsonl", outside / "precious")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is a link"):
        list(training)
    assert content(outside) == before
