"""Tables in a terminal, aligned by the columns that characters take there."""

from __future__ import annotations

from collections.abc import Sequence

from wcwidth import wcswidth


def width(text: str) -> int:
    """Return how many columns a text takes: a Chinese character takes two.

    >>> width("word"), width("词")
    (4, 2)
    """
    found: int = wcswidth(text)
    return found if found >= 0 else len(text)  # a control character has none


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, the first column to the left, the others to the right.

    >>> table_lines([("词", "7"), ("word", "12")])
    ['词     7', 'word  12']
    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first + " " * (widths[0] - width(first))]
        cells += [" " * (w - width(c)) + c for c, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    print("\n".join(table_lines(rows)))
