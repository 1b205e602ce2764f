"""A chapter is a file of Markdown: here it is taken apart and put together for its other uses.

A block of Python is a cell; the cells of a page run in order in one namespace. What encloses a cell
says what it is for: ``<details class="equation">`` holds an equation in NumPy, which ends in
assertions that compare it with npllm's own functions, ``<details class="answer">`` the answer to
an exercise. A block of text right after a cell is what the cell prints. A line that is nothing
but a link named ``module:function`` stands for that function's source.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import linecache
import re
import textwrap
from collections.abc import Callable
from contextlib import redirect_stdout
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
LANGUAGES = ("en", "zh")
BLOCK = re.compile(
    r"^(?P<open><details class=\"(?P<role>\w+)\">)|^(?P<close></details>)"
    r"|^```python\n(?P<source>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
SOURCE = re.compile(
    r"^\[`(?P<module>npllm[\w.]*):(?P<name>[\w.]+)`\]\((?P<path>[^)]+)\)$", re.MULTILINE
)

# an end of a line between two Chinese characters, or after a mark, that begins no list or table
LINE_END = re.compile(
    r"(?<=[\u4e00-\u9fff])\n *(?=[\u4e00-\u9fff\uff08\u201c])"
    r"|(?<=[\u3001\u3002\uff01\uff09\uff0c\uff1a\uff1b\uff1f\u201d])\n *(?=[^\s*|#<`\d\-[!])"
)


class Cell(NamedTuple):
    """A block of Python on a page.

    Attributes:
        source: the Python.
        role: "equation", "answer", or "" for any other.
        output: what the page says that it prints; None where it says nothing.
        start: where the block begins in the page's text, and
        end: where it ends, with its output.
    """

    source: str
    role: str
    output: str | None
    start: int
    end: int


class Source(NamedTuple):
    """The source of a function, its docstring left out.

    Attributes:
        text: the lines.
        path: of the file, from the repository's root.
        line: the number of the first.
    """

    text: str
    path: str
    line: int


def pages(language: str) -> list[Path]:
    """Return the pages of a language."""
    return sorted((DOCS / language).glob("*.md"))


def cells(text: str) -> list[Cell]:
    """Return the cells of a page, in order."""
    found, role = [], ""
    for match in BLOCK.finditer(text):
        if match["open"]:
            role = match["role"]
        elif match["close"]:
            role = ""
        else:
            found.append(Cell(match["source"], role, match["output"], *match.span()))
    return found


def without_line_ends(text: str) -> str:
    r"""Return a Chinese page without the line ends that a browser would show as spaces.

    >>> ascii(without_line_ends("\u7532\n\u4e59\u3002\n$x$\n\n* \u7532"))
    "'\\u7532\\u4e59\\u3002$x$\\n\\n* \\u7532'"
    """
    blocks = re.split(r"(^```.*?^```$|^\$\$$.*?^\$\$$)", text, flags=re.MULTILINE | re.DOTALL)
    blocks[::2] = [LINE_END.sub("", block) for block in blocks[::2]]
    return "".join(blocks)


class Teller(io.TextIOBase):
    """A stream that hands on what is written."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell

    def write(self, text: str) -> int:
        """Hand it on."""
        self._tell(text)
        return len(text)


def run(source: str, scope: dict[str, Any], name: str, tell: Callable[[str], object]) -> None:
    r"""Run a cell in ``scope``; ``tell`` is given what it prints, and a last expression's value.

    >>> printed = []
    >>> run("a = 1\nprint(a)\na + 1", {}, "<cell>", printed.append)
    >>> "".join(printed)
    '1\n2\n'
    """
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(Teller(tell)):
        exec(compile(tree, name, "exec"), scope)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), scope)
            if value is not None:
                print(repr(value))


def source_of(module: str, name: str) -> Source:
    """Return the source of a function, a class or a method, its docstring left out."""
    thing = inspect.unwrap(attrgetter(name)(importlib.import_module(module)))
    lines, first = inspect.getsourcelines(thing)
    text = textwrap.dedent("".join(lines))
    body = ast.parse(text).body[0]
    assert isinstance(body, ast.FunctionDef | ast.ClassDef)
    if ast.get_docstring(body) is not None:
        kept = text.splitlines(keepends=True)
        del kept[body.body[0].lineno - 1 : body.body[0].end_lineno]
        text = "".join(kept)
    path = Path(inspect.getsourcefile(thing) or "").resolve().relative_to(ROOT)
    return Source(text, path.as_posix(), first)
