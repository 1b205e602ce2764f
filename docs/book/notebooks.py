"""Each chapter as a notebook of Jupyter, made of the same file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from docs.book.pages import DOCS, LANGUAGES, SOURCE, cells, pages, source_of, without_line_ends

LINK = re.compile(r"\]\((\w+)\.md(#[^)]*)?\)")  # to a chapter, which is a notebook, too
OUTSIDE = re.compile(r"(?<!!)\[([^\]]*)\]\(\.\./[^)]*\)")  # a file that no notebook has beside it
NEEDS = {
    "en": "*This notebook needs npllm, installed from its checkout: `pip install .`*",
    "zh": "*本笔记本需要 npllm，请在它的代码目录里安装* `pip install .`",  # noqa: RUF001
}
FOLDED = re.compile(r"</?details[^>]*>\n*|<summary>(.*?)</summary>")


def notebook(page: Path) -> nbformat.NotebookNode:
    """Return a page as a notebook: what is folded is open there, and a source stands in full."""
    text = page.read_text(encoding="utf-8")
    found, at = [], 0
    for cell in [*cells(text), None]:
        prose = _prose(text[at : None if cell is None else cell.start], page.parent.name == "zh")
        if prose:
            found.append(new_markdown_cell(prose))
        if cell is not None:
            found.append(new_code_cell(cell.source.rstrip("\n")))
            at = cell.end
    found.insert(0, new_markdown_cell(NEEDS[page.parent.name]))
    for number, one in enumerate(found):
        one["id"] = f"cell-{number}"  # the same file each time
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=found, metadata=kernel)


def _prose(text: str, chinese: bool) -> str:
    def full(match: re.Match[str]) -> str:
        source = source_of(match["module"], match["name"])
        return f"{match[0]}\n\n```python\n{source.text}```"

    if chinese:
        text = without_line_ends(text)
    text = SOURCE.sub(full, text)
    text = LINK.sub(lambda m: f"]({m[1]}.ipynb{m[2] or ''})", text)
    text = OUTSIDE.sub(r"\1", text)
    unfolded = FOLDED.sub(lambda m: f"**{m[1]}**" if m[1] else "", text)
    return unfolded.strip()


def write(out: Path) -> list[Path]:
    """Write the notebooks of all pages; return their paths."""
    written = []
    for language in LANGUAGES:
        for page in pages(language):
            path = out / language / f"{page.stem}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook(page), path)
            written.append(path)
    shutil.copytree(DOCS / "figures", out / "figures", dirs_exist_ok=True)
    print(f"{out}: {len(written)} notebooks")
    return written


def execute(path: Path) -> None:
    """Run a notebook from its first cell to its last; an error in one is raised."""
    read = nbformat.read(path, as_version=4)
    # a warning in a chapter is an error, as in its other tests
    read.cells.insert(0, new_code_cell("import warnings; warnings.simplefilter('error')"))
    resources = {"metadata": {"path": str(path.parent)}}
    for attempt in range(3):
        try:
            NotebookClient(read, timeout=300, resources=resources).execute()
            return
        except RuntimeError as error:  # another process took a port that was chosen for the kernel
            if attempt == 2 or "before replying" not in str(error):
                raise
