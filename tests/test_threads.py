"""BLAS is held to the threads that someone asked for, to one otherwise, and let go again."""

import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import npllm.threads
from npllm.checking import gradcheck
from npllm.cli import main
from npllm.threads import available_cores, blas_held

COMMANDS = {
    "train": [],
    "generate": ["run"],
    "evaluate": ["run"],
    "inspect": ["run", "--text=x", "--out=page.html"],
    "gradcheck": [],
    "certify": [],
    "atlas": [],
    "plot": ["run"],
}


def blas():
    """Return how many threads the BLAS libraries have; nothing where none can be told."""
    return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}


@pytest.fixture
def three(monkeypatch):
    """BLAS as someone may have it who holds nothing: with three threads."""
    monkeypatch.setattr(npllm.threads, "_HOLDS", {})
    monkeypatch.setattr(npllm.threads, "_BEFORE", [])
    with threadpool_limits(3, "blas"):
        if blas() != {3}:
            pytest.skip("NumPy's BLAS is none whose threads can be set")
        yield


def seen_by_gradcheck():
    seen = set()

    def forward(x):
        seen.update(blas())
        return x * x, x

    assert gradcheck(forward, lambda dy, x: 2 * x * dy, np.array([1.0, 3.0]))
    return seen


def test_there_is_at_least_one_core():
    assert available_cores() >= 1


def test_a_hold_ends(three):
    with blas_held():
        assert blas() == {1}
    assert blas() == {3}
    with pytest.raises(ZeroDivisionError), blas_held(2):
        raise ZeroDivisionError
    assert blas() == {3}


def test_the_last_word_counts_and_none_is_no_word(three):
    with blas_held(2):
        with blas_held():
            assert blas() == {2}
            with blas_held(1):
                assert blas() == {1}
                with blas_held():
                    assert blas() == {1}
            assert blas() == {2}
        assert blas() == {2}
    assert blas() == {3}


def test_holds_may_end_in_any_order(three):
    first, second, third = blas_held(2), blas_held(1), blas_held()
    for hold, threads in ((first, 2), (second, 1), (third, 1)):
        hold.__enter__()
        assert blas() == {threads}
    for hold, threads in ((second, 1), (first, 1), (third, 3)):
        hold.__exit__(None, None, None)
        assert blas() == {threads}
    with blas_held(2):
        assert blas() == {2}
    assert blas() == {3}


@pytest.mark.parametrize("threads", [0, -1])
def test_there_is_no_hold_below_one(threads):
    with (
        pytest.raises(ValueError, match=f"threads must be at least 1, got {threads}"),
        blas_held(threads),
    ):
        pass


def test_the_checker_holds_blas_unless_its_caller_does(three):
    assert seen_by_gradcheck() == {1}
    with blas_held(2):
        assert seen_by_gradcheck() == {2}
    assert blas() == {3}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("option", "expected"), [([], 1), (["--threads=2"], 2)])
def test_every_command_holds_blas(three, monkeypatch, command, option, expected):
    seen = []
    monkeypatch.setattr(f"npllm.cli.{command}._run", lambda options: seen.append(blas()) or 0)
    assert main([command, *COMMANDS[command], *option]) == 0
    assert seen == [{expected}]
    assert blas() == {3}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_no_threads(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([command, *COMMANDS[command], "--threads=0"])
    assert "argument --threads: must be an integer, 1 or more" in capsys.readouterr().err


def test_the_tests_hold_blas():
    assert blas() <= {1}


@pytest.mark.parametrize(("given", "told"), [(None, "21"), ("26", "26")])
@pytest.mark.parametrize("module", ["npllm", "npllm.cli", "benchmarks"])
def test_openblas_is_told_not_to_wait_long_before_it_is_loaded(module, given, told):
    program = f"""
import os, sys
import {module.split(".")[0]}
assert "numpy" not in sys.modules
import {module}
print(os.environ["OPENBLAS_THREAD_TIMEOUT"])
"""
    variables = {name: value for name, value in os.environ.items() if "OPENBLAS" not in name}
    if given is not None:
        variables["OPENBLAS_THREAD_TIMEOUT"] = given
    ran = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == told
