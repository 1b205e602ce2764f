"""The race itself: contenders agree with the reference first, then take turns.

The reference is npllm in float64, from the same weights: what its certificate proves. A contender
whose outputs or gradients are further from it than float32 explains is wrong, and not timed; where
that is npllm or its rival, nobody is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.process import ContenderError, Process, processes
from benchmarks.row import TOLERANCE, Row, Sizes, worst

AGREES, WRONG, DIED = "agrees", "wrong", "died"
ENOUGH, FEWEST = 3, 2  # rounds, where they take long, and very long
LONG = 45.0  # seconds


class Plan(NamedTuple):
    """How long there is for a row.

    Attributes:
        rounds: in each, every contender has its turn.
        patience: seconds after which three rounds are enough; two after ``LONG``.
        seconds: of a turn, at least.
        least: how many repetitions a turn has, at least, besides the one that wakes it up.
        memory: whether the memory is looked at too.
    """

    rounds: int = 5
    patience: float = 2.0
    seconds: float = 0.25
    least: int = 1
    memory: bool = True


class Ratio(NamedTuple):
    """A ratio of every round: its median, and its least and largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass
class Cell:
    """What came of a contender in a row.

    Attributes:
        state: whether it agrees with the reference, is wrong, or died.
        note: what is wrong, or its last words.
        seconds: the median of each round; none where it was not timed.
        memory: the most bytes it held; None where that is not known.
    """

    state: str
    note: str = ""
    seconds: list[float] = field(default_factory=list)
    memory: int | None = None


@dataclass
class Result:
    """A row on a number of cores.

    Attributes:
        refused: why nothing was timed; empty where it was.
        flops: of a repetition; 0 where it is not known.
        amount: of the unit, in a repetition; 0 where time is shown.
    """

    row: str
    kind: str
    cores: int
    rival: str
    flops: float
    amount: float
    unit: str
    cells: dict[str, Cell]
    refused: str = ""

    @property
    def name(self) -> str:
        """The row and its cores."""
        return f"{self.row}, {self.cores} core{'s' if self.cores > 1 else ''}"

    def seconds(self, contender: str) -> float:
        """Return the median of the rounds' medians."""
        return statistics.median(self.cells[contender].seconds)

    def ratio(self, contender: str, other: str = "npllm") -> Ratio | None:
        """Return npllm's time, or another's, over a contender's; None where one was not timed."""
        theirs, ours = (self.cells.get(name, Cell(DIED)).seconds for name in (contender, other))
        return ratio(ours, theirs) if ours and theirs else None

    @property
    def timed(self) -> list[str]:
        """Who was timed, the fastest first."""
        return sorted((n for n, cell in self.cells.items() if cell.seconds), key=self.seconds)

    @property
    def lead(self) -> Ratio | None:
        """The time of the second over that of the fastest; None where there are no two."""
        first, second, *_ = (*self.timed, "", "")
        return self.ratio(first, second)

    @property
    def winner(self) -> str:
        """The fastest; nobody where the second was as fast in some round, or where it is alone."""
        return self.timed[0] if self.lead and self.lead.low > 1 else ""


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> Ratio:
    """Return the ratio of two contenders, round by round.

    >>> ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    Ratio(median=2.0, low=1.0, high=3.0)
    """
    found = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


def turns(names: list[str], rounds: int) -> list[list[str]]:
    """Return whose turn it is in each round: A B, B A, A B, ...

    >>> turns(["a", "b"], 3)
    [['a', 'b'], ['b', 'a'], ['a', 'b']]
    """
    return [names[::-1] if number % 2 else names for number in range(rounds)]


class Prepared(NamedTuple):
    """A row with its files.

    Attributes:
        sizes: the row's own or its small ones.
        inputs: the file of its arrays.
        expected: the file of the reference's answer.
        amount: see :class:`benchmarks.row.Row`.
    """

    row: Row
    sizes: Sizes
    inputs: Path
    expected: Path
    amount: float

    def result(self, cores: int, cells: dict[str, Cell], refused: str = "") -> Result:
        """Return what came of it."""
        row = self.row
        flops = row.flops(self.sizes) if row.flops else 0.0
        rest = (flops, self.amount, row.unit, cells, refused)
        return Result(row.name, row.kind, cores, row.rival, *rest)

    def remove(self) -> None:
        """Remove the files."""
        for path in (self.inputs, self.expected):
            path.unlink(missing_ok=True)


def prepare(row: Row, sizes: Sizes, folder: Path) -> Prepared:
    """Write a row's arrays."""
    inputs, expected = (folder / f"{row.name}{end}" for end in (".npz", ".expected.npz"))
    arrays = row.inputs(sizes)
    np.savez(inputs, **arrays)
    return Prepared(row, sizes, inputs, expected, row.amount(arrays))


def refer(prepared: Prepared, process: Process) -> str:
    """Have npllm compute the answer in float64; return why it could not, or nothing."""
    try:
        process.load(prepared.row.name, prepared.sizes, prepared.inputs, "float64")
        process.receive()
        process.ask(do="answer", out=str(prepared.expected))
    except ContenderError as error:
        return f"the reference died: {error}"
    return ""


def answer(process: Process, expected: Path) -> Cell:
    """Receive a contender that was loaded, and compare its answer with the reference."""
    out = process.folder / f"{process.name}-{process.cores}.npz"
    try:
        process.receive()
        process.ask(do="answer", out=str(out))
    except ContenderError as error:
        return Cell(DIED, str(error))
    with np.load(out) as given, np.load(expected) as reference:
        difference = worst(given, reference)
    out.unlink()
    return Cell(WRONG if difference.distance > TOLERANCE else AGREES, str(difference))


def agreement(prepared: Prepared, contenders: Mapping[str, Process]) -> dict[str, Cell]:
    """Have every contender load a row and answer; return what came of each."""
    cells: dict[str, Cell] = {}
    for name, process in contenders.items():
        try:
            process.load(prepared.row.name, prepared.sizes, prepared.inputs)
        except ContenderError as error:
            cells[name] = Cell(DIED, str(error))
    for name, process in contenders.items():
        if name not in cells:
            cells[name] = answer(process, prepared.expected)
    return {name: cells[name] for name in contenders}


def refusal(cells: Mapping[str, Cell], rival: str) -> str:
    """Return why a row is not to be timed; nothing where it is."""
    for name in ("npllm", rival):
        if name not in cells:
            return f"{name} is not among the contenders"
        if cells[name].state != AGREES:
            return (
                f"{name} {'is wrong' if cells[name].state == WRONG else 'died'}: {cells[name].note}"
            )
    return ""


def clock(contenders: Mapping[str, Process], cells: Mapping[str, Cell], plan: Plan) -> None:
    """Time those who agree, in turns."""
    running = [name for name in contenders if cells[name].state == AGREES]
    start = time.monotonic()
    for number, order in enumerate(turns(running, plan.rounds)):
        taken = time.monotonic() - start
        if number >= (ENOUGH if taken < LONG else FEWEST) and taken > plan.patience:
            break
        for name in order:
            if cells[name].state != AGREES:
                continue
            try:
                found = contenders[name].ask(do="repeat", seconds=plan.seconds, least=plan.least)
                cells[name].seconds.append(statistics.median(found))
            except ContenderError as error:
                cells[name].state, cells[name].note = DIED, str(error)
                cells[name].seconds = []


def weigh(prepared: Prepared, name: str, cores: int) -> int | None:
    """Return the peak memory of a contender that works alone; None where it is not known."""
    with processes([name], cores, prepared.inputs.parent) as started:
        process = started[name]
        process.load(prepared.row.name, prepared.sizes, prepared.inputs)
        try:
            process.receive()
            return process.peak_memory()
        except ContenderError:
            return None


def race(prepared: Prepared, cores: int, contenders: Mapping[str, Process], plan: Plan) -> Result:
    """Run a row on some cores, with contenders that have as many."""
    row = prepared.row
    cells = agreement(prepared, contenders)
    refused = refusal(cells, row.rival)
    if not refused:
        clock(contenders, cells, plan)
        refused = refusal(cells, row.rival)
    if refused:
        for cell in cells.values():
            cell.seconds = []
    return prepared.result(cores, cells, refused)
