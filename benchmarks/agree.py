"""Outputs and gradients compared at small sizes, nothing timed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.process import ContenderError, Process
from benchmarks.race import AGREES, Result, agreement, processes, refer, refusal, result
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
    sizes = row.small or row.sizes
    inputs = folder / f"{row.name}.npz"
    np.savez(inputs, **row.inputs(sizes))
    given = {name: process for name, process in contenders.items() if name in row.contenders}
    try:
        expected = refer(row, sizes, inputs, reference)
    except ContenderError as error:
        return result(row, sizes, 0, {}, f"the reference failed: {error}")
    cells = agreement(row, sizes, inputs, expected, given)
    for path in (inputs, expected):
        path.unlink()
    return result(row, sizes, reference.cores, cells, refusal(cells, row.rival))
