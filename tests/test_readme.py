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
SECTIONS = {
    language: (ROOT / "docs" / language / "sections.md").read_text(encoding="utf-8")
    for language in ("en", "zh")
}
PYTHON = re.findall(r"```python\n(.*?)```", "\n".join([README, *SECTIONS.values()]), re.DOTALL)
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IN_A_LINE = [c for page in PAGES for c in re.findall(r"`npllm ([^`]*)`", page.read_text("utf-8"))]
IN_A_BLOCK = re.findall(r"(?:^|/bin/)npllm ([^#\n]*)", SHELL, re.MULTILINE)
COMMANDS = sorted({command.strip() for command in IN_A_LINE + IN_A_BLOCK})


def links(text: str) -> set[str]:
    """Return the targets of a page's links, those in the text and those that have a name."""
    found = re.findall(r"\]\(([^)]+)\)|^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    return {target for pair in found for target in pair if target}


def parts(text: str) -> dict[str, str]:
    """Return what follows each anchor of a page, up to the next, by the anchor's name."""
    pieces = re.split(r'<a id="([^"]+)"></a>', text)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def leads_somewhere(page: Path, target: str) -> bool:
    """Return whether a link's file is there, and its anchor in the file."""
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    return file.exists() and (not anchor or anchor in parts(file.read_text(encoding="utf-8")))


def lacks(part: str) -> list[str]:
    """Return what a section does not name: its code, its test, or a command that shows it."""
    wanted = {"code": "](../../npllm/", "test": "](../../tests/", "command": "`npllm "}
    return [name for name, start in wanted.items() if start not in part]


LINKS = [(page, link) for page in PAGES for link in sorted(links(page.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("source", PYTHON)
def test_python_runs(source: str) -> None:
    assert "npllm" in source
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    assert callable(make_parser().parse_args(shlex.split(command)).run)


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_somewhere(page: Path, target: str) -> None:
    assert leads_somewhere(page, target)


def test_links_that_lead_nowhere_are_found() -> None:
    page = ROOT / "docs" / "en" / "sections.md"
    text = "[a](b.md), [4.2](#section-4-2)\n\n[c]: ../zh/sections.md#section-9\n[d]: sections.md\n"
    targets = {"b.md", "#section-4-2", "../zh/sections.md#section-9", "sections.md"}
    assert links(text) == targets
    assert {target for target in targets if leads_somewhere(page, target)} == {
        "#section-4-2",
        "sections.md",
    }


def test_the_sections_are_the_same_in_both_languages() -> None:
    english, chinese = map(parts, SECTIONS.values())
    assert list(english) == list(chinese)
    for anchor, part in english.items():
        assert links(part) == links(chinese[anchor]), anchor
        assert re.findall(r"`npllm [^`]*`", part) == re.findall(r"`npllm [^`]*`", chinese[anchor])


@pytest.mark.parametrize("text", SECTIONS.values(), ids=SECTIONS)
def test_every_section_names_its_code_its_test_and_a_command(text: str) -> None:
    lacking = {anchor: lacks(part) for anchor, part in parts(text).items()}
    assert {anchor: names for anchor, names in lacking.items() if names} == {}


def test_what_a_section_lacks_is_found() -> None:
    assert lacks("[a](../../npllm/files.py) · `npllm train`") == ["test"]
    assert lacks("[a](../../tests/test_files.py)") == ["code", "command"]


@pytest.mark.parametrize("text", SECTIONS.values(), ids=SECTIONS)
def test_an_anchor_stands_above_the_heading_of_its_number(text: str) -> None:
    headings = re.findall(r"^##.*$", text, re.MULTILINE)
    assert len(headings) == len(set(parts(text))) == text.count("<a id=")
    for (anchor, part), heading in zip(parts(text).items(), headings, strict=True):
        assert part.startswith(f"\n{heading}\n")
        number = anchor.removeprefix("section-").removeprefix("3-step-")
        assert "-".join(re.findall(r"\d+", heading)) == number


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
    assert len(PYTHON) >= 16
    assert min(len(IN_A_LINE), len(IN_A_BLOCK)) >= 15
