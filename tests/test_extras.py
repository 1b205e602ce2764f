"""What is said of a missing package names an extra that installs it."""

import ast
import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def calls():
    """The calls of ``missing`` in npllm, with their files."""
    for path in sorted((ROOT / "npllm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "missing":
                yield pytest.param(node, id=path.stem)


def extras():
    """The packages of each extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    return {
        extra: {re.split(r"[>=<;]", line)[0] for line in lines.splitlines() if line}
        for extra, lines in config["options.extras_require"].items()
    }


@pytest.mark.parametrize("call", [*calls()])
def test_the_extra_installs_what_is_missing(call):
    _, packages, extra = call.args
    assert extra.value in extras()
    if isinstance(packages, ast.Constant):
        assert set(packages.value.split()) <= extras()[extra.value]


def test_the_readers_of_data_sets_are_in_their_extra():
    from npllm.datasets import CATALOGUE

    needed = {data_set.needs for data_set in CATALOGUE.values()} - {None}
    assert needed == extras()["data"]


def raised(source):
    """The texts of what a source raises as a ValueError."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            parts = [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
            yield "".join(part for part in parts if isinstance(part, str))


def test_no_other_message_says_it():
    sources = [p.read_text("utf-8") for p in (ROOT / "npllm").rglob("*.py")]
    assert not [text for source in sources for text in raised(source) if "pip install" in text]


def test_a_message_that_says_it_otherwise_is_found():
    source = 'raise ValueError(f"{name} needs x: pip install x") from None'
    assert list(raised(source)) == [" needs x: pip install x"]
