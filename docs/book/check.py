"""What must hold of a page: cells that run, equations that are npllm's, exercises to be failed."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

from docs.book.pages import Cell, cells, run

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?")


def check(page: Path, signs: bool = True) -> list[str]:
    """Return what is wrong with a page: nothing, where all is well.

    Args:
        page: its file.
        signs: whether to change each sign of each equation.
    """
    found: list[str] = []
    text = page.read_text(encoding="utf-8")
    if len(cells(text)) != len(re.findall(r"^ *`{3,}python", text, re.MULTILINE)):
        found.append(f"{page.parent.name}/{page.name}: a block of python that is no cell")
    scope: dict[str, Any] = {"__name__": page.stem}
    before: tuple[Cell, str] | None = None
    for number, cell in enumerate(cells(text)):
        name = f"{page.parent.name}/{page.name}, cell {number}"
        if cell.role == "equation" and signs:
            found += [f"{name}: {slip}" for slip in unnoticed(cell.source, scope)]
        printed: list[str] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                run(cell.source, scope, f"<cell {number}>", printed.append)
        except Exception as error:
            return [*found, f"{name}: {type(error).__name__}: {error}\n{cell.source}"]
        output = "".join(printed)
        if cell.output is not None and not alike(cell.output, output):
            found.append(f"{name} prints, other than the page says:\n{output}")
        if cell.role == "answer" and (before is None or "FAILED" not in before[1]):
            found.append(f"{name}: the exercise before this answer does not print that it FAILED")
        if cell.role == "answer" and "FAILED" in output:
            found.append(f"{name}: the answer prints that it FAILED")
        if cell.role != "equation":
            before = (cell, output)
    return found


def alike(said: str, printed: str) -> bool:
    """Return whether the words are the same, and the numbers but for their last digits.

    What is below 1e-9 is rounding, and may be any number as small.

    >>> alike("error 1.5e-16 of 0.25", "error 0.0e+00 of 0.2500001"), alike("a 1", "a 2")
    (True, False)
    """
    if NUMBER.sub("#", said.strip()) != NUMBER.sub("#", printed.strip()):
        return False
    # of errors that are alike everywhere, which one a report names is the machine's
    one, other = (
        NUMBER.findall("\n".join(line for line in text.splitlines() if "index [" not in line))
        for text in (said, printed)
    )
    pairs = zip(one, other, strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=1e-4, abs_tol=1e-9) for a, b in pairs)


def unnoticed(source: str, scope: dict[str, Any]) -> Iterator[str]:
    """Yield the changed signs in an equation after which its assertions still hold.

    Args:
        source: the equation's cell, in which assertions follow what they are about.
        scope: what the cells before it left behind.
    """
    if not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source))):
        yield "an equation without an assertion"
    for slip, changed in slips(source):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run(changed, {k: copy(v) for k, v in scope.items()}, "<slip>", lambda _: None)
        except Exception:
            continue
        yield f"no assertion notices {slip}"


def slips(source: str) -> Iterator[tuple[str, str]]:
    r"""Yield what is changed and the changed source, for each sign of a cell.

    A sum becomes a difference and back, a negative number loses its sign.

    >>> [changed for _, changed in slips("y = -a + 2\nassert y")]
    ['y = -a - 2\nassert y', 'y = +a + 2\nassert y']
    """
    count = len(_signs(ast.parse(source)))
    for number in range(count):
        tree = ast.parse(source)
        node = _signs(tree)[number]
        before = ast.unparse(node)
        if isinstance(node, ast.UnaryOp):
            node.op = ast.UAdd()
        else:
            node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield before, ast.unparse(tree)


def _signs(tree: ast.Module) -> list[ast.BinOp | ast.AugAssign | ast.UnaryOp]:
    """Return what adds, subtracts or negates; not an axis or an index counted from the end."""
    counted = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.keyword):
            inside = node.slice if isinstance(node, ast.Subscript) else node.value
            counted |= {id(one) for one in ast.walk(inside) if _negates_a_number(one)}
    return [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub))
        or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub))
        if id(node) not in counted
    ]


def _negates_a_number(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)


def derived(pages: Iterable[Path]) -> set[str]:
    """Return the names of what an assertion of some equation calls, or hands to what it calls."""
    found = set()
    for page in pages:
        for cell in cells(page.read_text(encoding="utf-8")):
            if cell.role != "equation":
                continue
            for claim in ast.walk(ast.parse(cell.source)):
                if isinstance(claim, ast.Assert):
                    calls = [node for node in ast.walk(claim) if isinstance(node, ast.Call)]
                    names = [name for call in calls for name in (call.func, *call.args)]
                    found |= {name.id for name in names if isinstance(name, ast.Name)}
    return found
