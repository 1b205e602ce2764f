"""Pictures of the chapter on speed."""

from __future__ import annotations

import re
from typing import NamedTuple

from matplotlib.figure import Figure

from docs.book.pages import ROOT
from docs.book.pictures import COLOURS, GREY

RATIO = re.compile(r"\*\*([\d.]+)\*\* \(([\d.]+) to ([\d.]+)\)")
KINDS = (
    (("lstm", "gpt", "llama"), COLOURS[0]),
    (("attention", "cross", "embedding", "layer", "rms", "gelu", "adamw"), COLOURS[1]),
    (("bpe", "write", "smollm2"), COLOURS[2]),
)


class Row(NamedTuple):
    """A row of the race: npllm's time over its rival's, median, least and largest."""

    name: str
    ratio: float
    least: float
    largest: float


def speed() -> Figure:
    """Draw the ratios of the race on one core, as benchmarks/README.md has them."""
    rows = _rows()[::-1]
    figure = Figure(figsize=(6.4, 0.17 * len(rows) + 0.6))
    axes = figure.subplots()
    for height, row in enumerate(rows):
        colour = next((c for kinds, c in KINDS if row.name.startswith(kinds)), GREY)
        axes.plot((row.least, row.largest), (height, height), color=colour, linewidth=1)
        axes.plot(row.ratio, height, "o", color=colour, markersize=4)
    axes.axvline(1, color=GREY, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(
        (0.125, 0.25, 0.5, 1, 2, 4, 8, 16), ("1/8", "1/4", "1/2", "1", "2", "4", "8", "16")
    )
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    return figure


def _rows() -> list[Row]:
    found = []
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 4 and cells[1] == "1" and (match := RATIO.fullmatch(cells[4])):
            found.append(Row(cells[0], *map(float, match.groups())))
    return found
