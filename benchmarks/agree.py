"""Outputs and gradients compared at small sizes, nothing timed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.process import Process, processes
from benchmarks.race import AGREES, DIED, Cell, Result, agreement, prepare, refer, refusal
from benchmarks.row import Row


def agree(rows: Sequence[Row], names: Iterable[str], cores: int, folder: Path) -> int:
    """Compare all rows, a process a contender; return whether somebody does not agree."""
    found = []
    with processes(names, cores, folder) as contenders, processes(["npllm"], cores, folder) as own:
        for row in tqdm(rows, disable=None):
            found.append(one(row, contenders, own["npllm"], folder))
            for name, cell in found[-1].cells.items():
                tqdm.write(f"{row.name:20} {name:14} {cell.state}: {cell.note}")
    right = sum(cell.state == AGREES for r in found for cell in r.cells.values())
    wrong = sum(len(r.cells) for r in found) - right
    print(f"{right} passed, {wrong} failed")
    return int(wrong > 0)


def one(row: Row, contenders: dict[str, Process], reference: Process, folder: Path) -> Result:
    """Return a row's result, at its small sizes."""
    prepared = prepare(row, row.small or row.sizes, folder)
    refused = refer(prepared, reference)
    given = {name: process for name, process in contenders.items() if name in row.contenders}
    cells = {name: Cell(DIED, refused) for name in given}
    if not refused:
        cells = agreement(prepared, given)
    prepared.remove()
    return prepared.result(reference.cores, cells, refused or refusal(cells, row.rival))
