"""The book's pages: both languages say the same, and each function has its derivation."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from docs.book.check import check, derived, slips, unnoticed
from docs.book.pages import DOCS, LANGUAGES, ROOT, cells, pages, source_of
from npllm import layers, optim

PAGES = [page for language in LANGUAGES for page in pages(language)]
NAMES = [f"{page.parent.name}/{page.stem}" for page in PAGES]
# what computes: a derivation is owed of each; the others are classes to inherit from, or a type
COMPUTES = {
    name
    for room in (layers, optim)
    for name in room.__all__
    if inspect.isfunction(getattr(room, name)) or inspect.isclass(getattr(room, name))
} - {"Optimizer", "Schedule"}


def meaning(source: str) -> str:
    """Return a cell without its comments and words, which are its language's."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


def equations(text: str) -> list[str]:
    """Return the displayed equations of a page without the words in them."""
    found = re.findall(r"^\$\$\n(.*?)^\$\$$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\\text\{[^}]*\}", "", equation) for equation in found]


@pytest.mark.parametrize("page", pages("en"), ids=lambda page: page.stem)
def test_both_languages_have_the_same_equations_and_cells(page: Path) -> None:
    english, chinese = (
        (DOCS / language / page.name).read_text(encoding="utf-8") for language in LANGUAGES
    )
    assert equations(english) == equations(chinese)
    ours, theirs = cells(english), cells(chinese)
    assert [cell.role for cell in ours] == [cell.role for cell in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert meaning(one.source) == meaning(other.source)


def test_languages_that_differ_are_told_apart() -> None:
    assert meaning("a = 1  # one\nprint('one')") == meaning("a = 1  # 一\nprint('一')")
    assert meaning("a = b + c") != meaning("a = b - c")
    assert equations("$$\na \\text{x}\n$$\n") == equations("$$\na \\text{y}\n$$\n")
    assert equations("$$\na\n$$\n") != equations("$$\n-a\n$$\n")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_function_that_computes_has_a_derivation(language: str) -> None:
    assert COMPUTES - derived(pages(language)) == set()
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"all {len(COMPUTES)} functions and optimizers" in contributing


def test_a_function_without_a_derivation_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    block = '<details class="{}"><summary>x</summary>\n\n```python\n{}\n```\n\n</details>\n'
    page.write_text(
        block.format("equation", "assert f(1) == h.k(g) + n") + block.format("", "assert k()")
    )
    assert derived([page]) == {"f", "g"}


@pytest.mark.book
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_cells_run_and_every_sign_counts(page: Path) -> None:
    # the cells are the same in both languages: their signs are changed once
    assert check(page, signs=page.parent.name == "en") == []


def test_a_changed_sign_that_no_assertion_notices_is_found() -> None:
    assert list(unnoticed("y = x + 0 * x\nassert y == x", {"x": 1})) == [
        "no assertion notices x + 0 * x"
    ]
    assert next(unnoticed("y = x + 1", {"x": 1})) == "an equation without an assertion"
    assert list(unnoticed("y = x - 1\nassert y == 0", {"x": 1})) == []
    signs = [changed for _, changed in slips("a = -b[-1] + c.sum(axis=-1) - 2 * -3")]
    assert len(signs) == 4
    assert all("[-1]" in changed and "axis=-1" in changed for changed in signs)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\nimport warnings\nwarnings.warn('x')\n```\n", "UserWarning"),
        ("```python\nprint('a 1.5e-16')\n```\n\n```text\nb 1.6e-16\n```\n", "other than the page"),
        ("```python\nprint('a 1.5')\n```\n\n```text\na 1.6\n```\n", "other than the page"),
        ("```python\n1\n```\n\n* a\n\n  ```python\n  1\n  ```\n", "that is no cell"),
        ('```python\nprint("ok")\n```\n<details class="answer">\n```python\n1\n```\n', "FAILED"),
    ],
)
def test_what_is_wrong_with_a_page_is_told(source: str, told: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(source)
    (wrong,) = check(page)
    assert told in wrong


def test_what_a_page_says_is_printed_may_differ_in_digits(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('a 1.5e-16')\n```\n\n```text\na 3e-17\n```\n")
    assert check(page) == []


def test_a_notebook_has_all_of_a_page() -> None:
    pytest.importorskip("nbclient")
    from docs.book.notebooks import notebook

    page = DOCS / "en" / "cross_entropy.md"
    found = notebook(page)
    sources = [cell.source for cell in found.cells if cell.cell_type == "code"]
    assert sources == [cell.source.rstrip("\n") for cell in cells(page.read_text("utf-8"))]
    prose = "\n".join(cell.source for cell in found.cells if cell.cell_type == "markdown")
    assert "**Answer**" in prose
    assert "details" not in prose
    assert "def cross_entropy_backward(" in prose  # in the place of its name


def test_a_source_is_told_without_its_docstring() -> None:
    text, path, line = source_of("npllm.layers.embedding", "one_hot")
    assert path == "npllm/layers/embedding.py"
    assert (ROOT / path).read_text(encoding="utf-8").splitlines()[line - 1] == text.splitlines()[0]
    assert '"""' not in text
    assert "np.put_along_axis" in text
