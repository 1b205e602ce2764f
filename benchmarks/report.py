"""What the race found, as text, as Markdown, as JSON; and against an earlier one."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.race import AGREES, Cell, Ratio, Result

MB = 1e6


def seconds(value: float) -> str:
    """Return a time in the unit that fits.

    >>> seconds(0.0123), seconds(2.5), seconds(4e-5)
    ('12.3 ms', '2.50 s', '40.0 us')
    """
    if value >= 1:
        return f"{value:.2f} s"
    return f"{1e3 * value:.1f} ms" if value >= 1e-3 else f"{1e6 * value:.1f} us"


def speed(result: Result, contender: str) -> str:
    """Return how fast a contender was, in what the row is measured in."""
    time = result.seconds(contender)
    return f"{result.amount / time:.1f} {result.unit}/s" if result.unit else seconds(time)


def gflops(result: Result, contender: str) -> str:
    """Return the GFLOP/s; nothing where they are not known."""
    return f"{result.flops / result.seconds(contender) / 1e9:.0f}" if result.flops else ""


def memory(cell: Cell) -> str:
    """Return the peak memory in MB; nothing where it is not known."""
    return "" if cell.memory is None else f"{cell.memory / MB:.0f}"


def verdict(result: Result) -> str:
    """Return who wins a row, and by how much."""
    if result.refused:
        return f"refused: {result.refused}"
    first, second, *_ = (*result.timed, "")
    if result.winner:
        return f"{first} wins, {second} took {result.lead} times as long"
    if second:
        return f"level: {second} took {result.lead} times as long as {first}"
    return f"{first} is alone"


def text(result: Result) -> str:
    """Return the lines of a row on some cores: its verdict, and a line a contender."""
    lines = [f"{result.name}: {verdict(result)}"]
    for name, cell in result.cells.items():
        if not cell.seconds:
            state = "agrees, not timed" if cell.state == AGREES else cell.state
            lines.append(f"  {name:14} {state}: {cell.note}")
            continue
        parts = [f"{speed(result, name):>16}"]
        parts.append(f"{gflops(result, name):>5} GFLOP/s" if result.flops else " " * 13)
        if name != "npllm" and (found := result.ratio(name)):
            parts.append(f"npllm / {name} {found}")
        lines.append(f"  {name:14} {'  '.join(parts)}".rstrip())
    return "\n".join(lines)


def geometric_mean(results: Iterable[Result]) -> float | None:
    """Return that of npllm's time over torch's in the training rows; None without any."""
    found = [r.ratio("torch") for r in results if r.kind == "training"]
    medians = [ratio.median for ratio in found if ratio is not None]
    return statistics.geometric_mean(medians) if medians else None


def summary(results: Sequence[Result]) -> list[str]:
    """Return who won how many rows, and the means over the training rows."""
    lines = []
    for cores in sorted({result.cores for result in results}):
        own = [result for result in results if result.cores == cores and result.kind != "machine"]
        where = f"{cores} core{'s' if cores > 1 else ''}"
        wins = [result.winner or "level" for result in own if result.timed]
        counts = {name: wins.count(name) for name in dict.fromkeys(wins)}
        if counts:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            lines.append(f"{where}: rows won: {told}")
        if (mean := geometric_mean(own)) is not None:
            lines.append(
                f"{where}: geometric mean of npllm / torch over the training rows: {mean:.2f}"
            )
        lines += [f"{where}: {r.row} refused: {r.refused}" for r in own if r.refused]
    return lines


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """Return what is known of the machine."""
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    lines = [f"{machine['cpu']}, {machine['cores']} cores" + (f", {caches}" if caches else "")]
    lines.append(machine["system"])
    lines.append(", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    for name, found in machine["libraries"].items():
        for library in found:
            told = " ".join(
                str(library[key])
                for key in ("internal_api", "version", "architecture")
                if library.get(key)
            )
            lines.append(f"{name}: {told}")
    lines.append(f"load before the race: {machine['load']}")
    lines.append(f"peak memory: {machine['memory']}")
    return lines


def markdown(machine: dict[str, Any], results: Sequence[Result]) -> str:
    """Return tables, one a kind of row."""
    lines = [f"* {line}" for line in (*machine_lines(machine), *summary(results))]
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        names = list(dict.fromkeys(name for result in own for name in result.cells))
        head = ["row", "cores", *names]
        head += [f"npllm / {name} (spread)" for name in names if name != "npllm"]
        head += ["npllm, its rival GFLOP/s", "npllm, its rival MB", "first"]
        lines += ["", f"### {kind.capitalize()}", "", f"| {' | '.join(head)} |"]
        lines.append("|---" * len(head) + "|")
        lines += [f"| {' | '.join(cells_of(result, names))} |" for result in own]
    return "\n".join(lines) + "\n"


def cells_of(result: Result, names: Sequence[str]) -> list[str]:
    """Return the cells of a row of a table."""

    def of(name: str) -> str:
        cell = result.cells.get(name)
        if cell is None:
            return ""
        return speed(result, name) if cell.seconds else f"{cell.state}: {cell.note}"

    def ratio_of(name: str) -> str:
        found = result.ratio(name)
        return (
            "" if found is None else f"**{found.median:.2f}** ({found.low:.2f} to {found.high:.2f})"
        )

    def pair(tell: Callable[[str], str]) -> str:
        both = [tell(name) for name in ("npllm", result.rival) if name in result.timed]
        return ", ".join(filter(None, both))

    first = (result.winner or "level") if result.timed else f"refused: {result.refused}"
    return [
        result.row,
        str(result.cores),
        *(of(name) for name in names),
        *(ratio_of(name) for name in names if name != "npllm"),
        pair(lambda name: gflops(result, name)),
        pair(lambda name: memory(result.cells[name])),
        first,
    ]


def save(path: Path, machine: dict[str, Any], results: Sequence[Result]) -> None:
    """Write all that was found as JSON."""
    data = {"machine": machine, "results": [asdict(result) for result in results]}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[Result]:
    """Return the results that :func:`save` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["results"]
        cells = [{name: Cell(**cell) for name, cell in row["cells"].items()} for row in rows]
        return [Result(**{**row, "cells": own}) for row, own in zip(rows, cells, strict=True)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is no file that --json wrote") from None


def moved(old: Ratio, new: Ratio) -> bool:
    """Return whether a ratio moved beyond the noise: no round is within the other's spread.

    Of a single round the noise is not known.

    >>> moved(Ratio(1.0, 0.9, 1.1), Ratio(1.2, 1.15, 1.3))
    True
    >>> moved(Ratio(1.0, 0.9, 1.2), Ratio(1.2, 1.15, 1.3))
    False
    >>> moved(Ratio(1.0, 1.0, 1.0), Ratio(1.2, 1.15, 1.3))
    False
    """
    known = all(ratio.low < ratio.high for ratio in (old, new))
    return known and (old.high < new.low or new.high < old.low)


def compare(old: Iterable[Result], new: Iterable[Result]) -> list[str]:
    """Return a line for each row whose ratio of npllm to its rival moved beyond the noise."""
    before = {(result.row, result.cores): result for result in old}
    lines = []
    for result in new:
        earlier = before.get((result.row, result.cores))
        was = earlier.ratio(result.rival) if earlier else None
        now = result.ratio(result.rival)
        if was and now and moved(was, now):
            word = "faster" if now.median < was.median else "slower"
            told = f"npllm / {result.rival} was {was}, is {now}"
            lines.append(f"{result.name}: {word}: {told}")
    return lines or ["no row moved beyond the noise"]
