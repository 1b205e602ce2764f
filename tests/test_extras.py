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
        extra: {re.split(r"[>=<;]", line)[0] for line in lines.split()}
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


def test_no_other_message_says_it():
    sources = {path.stem: path.read_text("utf-8") for path in (ROOT / "npllm").rglob("*.py")}
    raising = {name for name, source in sources.items() if "raise missing(" in source}
    assert len(raising) == len([*calls()])
    for name in raising:
        assert "pip install" not in sources[name]
