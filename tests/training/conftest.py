"""Tiny runs for every test of training."""

import json

import pytest
from tiny import TEXT, TINY, left_behind

from npllm.training import LanguageModellingOptions, Run


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_bytes(TEXT.encode())
    return path


@pytest.fixture(scope="module")
def options(text_file):
    """Make the options of a tiny run."""
    return lambda **changes: LanguageModellingOptions(**{**TINY, "data": str(text_file), **changes})


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
