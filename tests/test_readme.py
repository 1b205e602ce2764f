"""What README and docs say is true: their Python runs, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from npllm.cli import make_parser
from npllm.evidence import MISTAKES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"(?:^|/bin/)npllm ([^#\n]*)", SHELL, re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    (page, target)
    for page in PAGES
    for target in sorted(set(re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))))
]


@pytest.mark.parametrize("source", PYTHON)
def test_python_runs(source: str) -> None:
    assert "npllm" in source
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    assert callable(make_parser().parse_args(shlex.split(command)).run)


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_somewhere(page: Path, target: str) -> None:
    assert (page.parent / target).exists()


def test_the_page_on_gradient_checking_runs_and_shows_what_it_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (ROOT / "docs" / "gradient_checking.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|text)\n(.*?)```", page, re.DOTALL)
    scope: dict[str, object] = {"__name__": "page"}
    number = re.compile(r"[-+]?\d[\d.]*(e[-+]\d+)?")
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, "gradient_checking.md", "exec"), scope)
        else:  # the words are those of the page; the last digits of an error are the machine's
            assert number.sub("#", capsys.readouterr().out) == number.sub("#", text)
    assert len(blocks) >= 8


def test_the_number_of_mistakes_is_that_of_the_atlas() -> None:
    assert re.findall(r"(\d+) wrong backward passes", README) == [str(len(MISTAKES))]


def test_the_opening_commands_are_the_ones_that_set_up_and_run() -> None:
    assert [line for line in SHELL.splitlines() if "venv" in line] == [
        "python3 -m venv .venv && .venv/bin/python -m pip install -q . && .venv/bin/npllm train",
        "python3 -m venv .venv && .venv/bin/python -m pip install -q -e '.[test]' "
        "&& .venv/bin/python -m pytest",
    ]
    assert len(PYTHON) >= 4
    assert len(COMMANDS) >= 7
