"""What the README says is true: its Python runs, its commands parse, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from npllm.cli import make_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"(?:^|/bin/)npllm ([^#\n]*)", SHELL, re.MULTILINE)


@pytest.mark.parametrize("source", PYTHON)
def test_python_runs(source: str) -> None:
    assert "npllm" in source
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    assert callable(make_parser().parse_args(shlex.split(command)).run)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_opening_commands_are_the_ones_that_set_up_and_run() -> None:
    assert [line for line in SHELL.splitlines() if "venv" in line] == [
        "python3 -m venv .venv && .venv/bin/python -m pip install -q . && .venv/bin/npllm train",
        "python3 -m venv .venv && .venv/bin/python -m pip install -q -e '.[test]' "
        "&& .venv/bin/python -m pytest",
    ]
    assert len(PYTHON) >= 4
    assert len(COMMANDS) >= 7
