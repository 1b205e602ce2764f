"""The race as pictures: a bar a row and contender, one picture a number of cores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.race import Result
from npllm.figures import new_figure, save_figure

TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def plot(results: Sequence[Result], path: Path) -> list[Path]:
    """Draw npllm's time over everyone else's, and return the files.

    Args:
        results: of all cores.
        path: of the picture; where there are several, each has its cores in its name.

    Raises:
        ValueError: matplotlib is missing.
        OSError: a file cannot be written.
    """
    counts = sorted({result.cores for result in results})
    paths = []
    for cores in counts:
        own = [result for result in results if result.cores == cores and result.timed]
        where = path.with_stem(f"{path.stem}-{cores}") if len(counts) > 1 else path
        draw(own, f"{cores} core{'s' if cores > 1 else ''}", where)
        paths.append(where)
    return paths


def draw(results: Sequence[Result], title: str, path: Path) -> None:
    """Draw one picture: left of 1 npllm is faster."""
    others = list(dict.fromkeys(n for r in results for n in r.timed if n != "npllm"))
    figure = new_figure(9, 1 + 0.22 * sum(len(result.timed) for result in results))
    axes = figure.subplots()
    place, ticks = 0.0, []
    for result in results:
        rivals = [name for name in others if name in result.timed]
        for name in rivals:
            found = result.ratio(name)
            assert found is not None
            spread = [[found.median - found.low], [found.high - found.median]]
            colour = f"C{others.index(name)}"
            axes.barh(place, found.median - 1, left=1, color=colour, xerr=spread, height=0.9)
            place += 1
        ticks.append((place - (len(rivals) + 1) / 2, result.row))
        place += 0.6
    for name in others:
        axes.barh([], [], color=f"C{others.index(name)}", label=f"npllm / {name}")
    axes.set(xscale="log", xlabel="npllm's time over the other's: left of 1 npllm is faster")
    axes.set_xticks([], minor=True)
    low, high = axes.get_xlim()
    marks = [tick for tick in TICKS if low / 2 < tick < 2 * high]
    axes.set_xticks(marks, [f"{tick:g}" for tick in marks])
    axes.set_title(title)
    axes.set_yticks([y for y, _ in ticks], [row for _, row in ticks])
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=1)
    axes.legend()
    save_figure(figure, path)
