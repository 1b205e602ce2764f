"""The command line in this process, and one tiny trained run for all its tests."""

import shutil
from pathlib import Path

import pytest

from npllm.cli import main

TEXT = "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich. 😀\r\n" * 30
SIZES = {
    "embed-size": 5,
    "hidden-size": 6,
    "batch-size": 4,
    "length": 8,
    "steps": 6,
    "log-every": 2,
    "eval-every": 3,
    "checkpoint-every": 2,
    "threads": 1,
}
TINY = [f"--{name}={size}" for name, size in SIZES.items()]


@pytest.fixture(scope="session")
def tiny():
    """The options of a tiny run, but for its text."""
    return TINY


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A directory with the text and the run; only to be copied."""
    place = tmp_path_factory.mktemp("trained")
    (place / "text").write_bytes(TEXT.encode())
    arguments = ["train", f"--data={place / 'text'}", f"--out={place / 'run'}", *TINY]
    assert main([*arguments, "--sample=0"]) == 0
    return place


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of that directory, which is also the current one."""
    copy = tmp_path / "place"
    shutil.copytree(trained, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def npllm(capsys):
    """Run a command; return its exit status, output and errors."""

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def refused(npllm, place):
    """Run a command that must fail with one line, and change nothing; return the line."""

    def content():
        return {p: p.read_bytes() if p.is_file() else None for p in Path(place).rglob("*")}

    def run(*arguments):
        before = content()
        status, _, errors = npllm(*arguments)
        assert status == 2
        (line,) = errors.splitlines()
        assert line.startswith("npllm")
        assert "error: " in line
        assert content() == before
        return line

    return run
