"""What README and docs say is true: their Python runs, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from npllm import layers
from npllm.cli import make_parser
from npllm.inspection import MOST_TOKENS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    language: (ROOT / "docs" / language / "sections.md").read_text(encoding="utf-8")
    for language in ("en", "zh")
}
PYTHON = re.findall(r"```python\n(.*?)```", "\n".join([README, *SECTIONS.values()]), re.DOTALL)
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
CHINESE = (ROOT / "README.zh.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").rglob("*.md"))]
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


def slugs(text: str) -> set[str]:
    """Return the anchors of a page's headings, as a code host makes them of their words."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def leads_somewhere(page: Path, target: str) -> bool:
    """Return whether a link's file is there, and its anchor in the file."""
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    if not file.exists() or not anchor:
        return file.exists()
    text = file.read_text(encoding="utf-8")
    return anchor in parts(text) or anchor in slugs(text)


def anchor_of(name: str) -> str:
    """Return the anchor of a section by its name in README: "section 4.2", or "3, step 1"."""
    return "-".join(["section", *re.findall(r"\d+|step", name)])


def without_link(text: str) -> list[str]:
    """Return README's mentions of a section, in words or in a table, that do not link to it."""
    definition = re.compile(r"^\[(.+)\]: docs/en/sections\.md#(.+)\n", re.MULTILINE)
    linked = {name.lower(): anchor for name, anchor in definition.findall(text)}
    right = {
        name
        for name, anchor in linked.items()
        if anchor == anchor_of(name) and anchor in parts(SECTIONS["en"])
    }
    words = re.sub(r"```.*?```", "", definition.sub("", text), flags=re.DOTALL)
    rest = re.sub(r"\[(.+?)\]", lambda m: "" if m[1].lower() in right else m[1], words)
    return re.findall(r"\bsections?\s\d[.\d]*|(?<=^\| )\d.*?(?= \|)", rest, re.MULTILINE | re.I)


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


def test_links_lead_somewhere() -> None:
    assert [(page, target) for page, target in LINKS if not leads_somewhere(page, target)] == []


def test_links_that_lead_nowhere_are_found() -> None:
    page = ROOT / "docs" / "en" / "sections.md"
    text = "[a](b.md), [4.2](#section-4-2), [4](#4-the-equations), [4](#4-equations)\n\n"
    text += "[c]: ../zh/sections.md#section-9\n[d]: sections.md\n"
    targets = {
        "b.md",
        "#section-4-2",
        "#4-the-equations",
        "#4-equations",
        "../zh/sections.md#section-9",
        "sections.md",
    }
    assert links(text) == targets
    assert {target for target in targets if leads_somewhere(page, target)} == {
        "#section-4-2",
        "#4-the-equations",
        "sections.md",
    }


def test_the_sections_are_the_same_in_both_languages() -> None:
    english, chinese = map(parts, SECTIONS.values())
    assert list(english) == list(chinese)
    for anchor, part in english.items():
        assert links(part) == links(chinese[anchor]), anchor
        assert re.findall(r"`npllm [^`]*`", part) == re.findall(r"`npllm [^`]*`", chinese[anchor])


def frame(text: str) -> tuple[list[str], list[str]]:
    """Return the levels of a page's headings, in order, and its blocks of code."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    code = re.findall(r"```.*?```", text, re.DOTALL)
    return re.findall(r"^#+(?= )", prose, re.MULTILINE), code


def test_the_readmes_have_the_same_headings_and_code() -> None:
    assert frame(README) == frame(CHINESE)
    assert frame(README) != frame(README.replace("npllm train", "npllm learn"))
    assert frame(README) != frame(README.replace("### The commands", "#### The commands"))
    ours, theirs = (
        {link.replace("/zh/", "/en/") for link in links(page)} for page in (README, CHINESE)
    )
    assert ours ^ theirs == {"README.md", "README.zh.md"}
    words = [len(re.sub(r"```.*?```|\s", "", p, flags=re.DOTALL)) for p in (README, CHINESE)]
    assert words[1] > words[0] / 3  # a Chinese character says as much as some letters


def test_every_use_has_its_page_in_both_languages() -> None:
    for page in sorted((ROOT / "docs" / "en").glob("*.md")):
        other = ROOT / "docs" / "zh" / page.name
        assert other.is_file(), page.name
        one, two = (frame(p.read_text("utf-8")) for p in (page, other))
        assert one[0] == two[0], page.name
        assert len(one[1]) == len(two[1]), page.name


@pytest.mark.parametrize("text", SECTIONS.values(), ids=SECTIONS)
def test_every_section_names_its_code_its_test_and_a_command(text: str) -> None:
    lacking = {anchor: lacks(part) for anchor, part in parts(text).items()}
    assert {anchor: names for anchor, names in lacking.items() if names} == {}


def test_every_section_in_readme_is_a_link_to_it() -> None:
    assert without_link(README) == []
    assert len(re.findall(r"\[section [\d.]+\]", README)) >= 5


def test_a_section_without_its_link_is_found() -> None:
    text = """\
[Section 5] and section 4.2 of [section 4.3], sections
2 and 3; a (cross) section is none.

| section | code |
|---|---|
| [4.1] | a |
| 4.2 | b |
| [3, step 1] | c |
| [3, step 9] | 1 |

[section 5]: docs/en/sections.md#section-5
[section 4.3]: docs/en/sections.md#section-4-2
[4.1]: docs/en/sections.md#section-4-1
[3, step 1]: docs/en/sections.md#section-3-step-1
[3, step 9]: docs/en/sections.md#section-3-step-9
"""
    expected = ["section 4.2", "section 4.3", "sections\n2", "4.2", "3, step 9"]
    assert without_link(text) == expected


def test_help_and_the_layers_say_where_the_sections_are() -> None:
    for text in (make_parser().format_help(), layers.__doc__ or ""):
        assert "docs/en/sections.md" in text


def test_the_files_of_readme_s_table_are_those_of_the_sections() -> None:
    rows = re.findall(r"^\| \[(\d.*?)\] \| (.*)$", README, re.MULTILINE)
    assert len(rows) >= 10
    for name, row in rows:
        part = parts(SECTIONS["en"])[anchor_of(name)]
        assert {f"../../{path}" for path in links(row)} <= links(part), name


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


def test_the_number_is_that_of_the_code() -> None:
    assert re.findall(r"public models, up to (\d+) tokens", README) == [str(MOST_TOKENS)]


def test_the_opening_commands_are_the_ones_that_set_up_and_run() -> None:
    assert [line for line in SHELL.splitlines() if "venv" in line] == [
        "python3 -m venv .venv && .venv/bin/python -m pip install -q . && .venv/bin/npllm train",
        "python3 -m venv .venv && .venv/bin/python -m pip install -q -e '.[test]' "
        "&& .venv/bin/python -m pytest -n auto",
        ".venv/bin/python -m pip install -q -e '.[test,oracle]' "
        "&& .venv/bin/python -m pytest -n auto",
    ]
    assert len(PYTHON) >= 16
    assert min(len(IN_A_LINE), len(IN_A_BLOCK)) >= 15
