"""A run that leaves tests out says so in a line a reason, and how to get what is missing."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from left_out import BY_ITSELF, EXTRAS, left_out, need

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parent
FILE = """
import pytest

@pytest.mark.parametrize("n", range(3))
def test_that_needs_something(oracle, n):
    oracle("no_such_package")

@pytest.mark.skipif(True, reason="root may read anything")
def test_of_rights():
    pass

@pytest.mark.xfail(strict=True)
def test_that_fails():
    raise ValueError

def test_that_passes():
    pass
"""
WHOLE_FILE = """
from left_out import need
need("no_such_package")
"""


def report(reason: str, when: str) -> pytest.TestReport | pytest.CollectReport:
    longrepr = ("tests/test_some.py", 7, f"Skipped: {reason}")
    if when == "collect":
        return pytest.CollectReport("tests/test_some.py", "skipped", longrepr, [])
    return pytest.TestReport("test_some", longrepr, {}, "skipped", longrepr, when)


def test_a_reason_has_a_line() -> None:
    reports = [report("b is missing", "setup"), report("a is missing", "collect")]
    reports += [report("a is missing", when) for when in ("setup", "call") for _ in range(600)]
    assert left_out(reports) == [
        "left out: 1,200 tests, a is missing",
        "left out: 1 file, a is missing",
        "left out: 1 test, b is missing",
    ]


def test_nothing_is_said_where_nothing_is_left_out() -> None:
    assert left_out([]) == []


@pytest.mark.parametrize("options", [["-qq"], ["-n2"]])
def test_a_run_ends_with_the_lines(
    options: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("xdist")
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")
    monkeypatch.delenv("NPLLM_REQUIRE_ORACLE", raising=False)
    pytester.makeconftest((TESTS / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(test_some=FILE, test_whole=WHOLE_FILE)
    result = pytester.runpytest_subprocess(*options)
    assert result.ret == pytest.ExitCode.OK
    assert [line for line in result.outlines if line.startswith("left out")] == [
        f"left out: 3 tests, no_such_package is missing: {EXTRAS}",
        f"left out: 1 file, no_such_package is missing: {EXTRAS}",
        "left out: 1 test, root may read anything",
    ]


@pytest.mark.parametrize(
    ("package", "how"), [*BY_ITSELF.items(), ("torch", "pip install -e '.[test,oracle]'")]
)
def test_what_is_missing_skips_and_says_how_to_get_it(
    package: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("NPLLM_REQUIRE_ORACLE", raising=False)
    with pytest.raises(pytest.skip.Exception) as skipped:
        need(package)
    assert str(skipped.value) == f"{package} is missing: {how}"


def test_what_is_required_or_there_does_not_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPLLM_REQUIRE_ORACLE", raising=False)
    try:
        need("numpy")
        monkeypatch.setenv("NPLLM_REQUIRE_ORACLE", "1")
        need("no_such_package")
    except pytest.skip.Exception as skipped:  # else this test would only be skipped
        pytest.fail(f"skipped: {skipped}")


@pytest.mark.parametrize("how", BY_ITSELF.values())
@pytest.mark.parametrize("file", ["CONTRIBUTING.md", ".ci/run"])
def test_the_versions_are_those_that_are_set_up(how: str, file: str) -> None:
    assert how.split()[-1] in (TESTS.parent / file).read_text(encoding="utf-8").split()
