"""Change npllm.layers, ngram and optim by one slip at a time: some test must fail each time.

    pip install torch==2.13.0 && pip install -e '.[test,oracle,mutation]'
    python tests/mutation/mutate.py

The slips are those of mutmut and of ``slips.py``. Each is run against the tests below tests/layers,
tests/ngram and tests/optim that reach the function it sits in. ``equivalents.toml`` lists the
mutants that no test can tell from the source, each with its reason. The exit status is 0 if these
are the ones that survive, no more and no fewer. All of it happens in a temporary copy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
[mutmut]
source_paths = npllm
only_mutate =
    npllm/layers/*
    npllm/ngram/*
    npllm/optim/*
pytest_add_cli_args_test_selection =
    tests/layers
    tests/ngram
    tests/optim
"""
ENVIRONMENT = {
    "NPLLM_REQUIRE_ORACLE": "1",
    "HYPOTHESIS_PROFILE": "ci",  # the same examples each time
    "OPENBLAS_NUM_THREADS": "1",  # mutants run side by side
    "OMP_NUM_THREADS": "1",
}

# A mutant by what it changes: the function, the lines before, and the lines after.
Change = tuple[str, str, str]


def mutate(room: Path, jobs: int, patterns: list[str]) -> None:
    """Run mutmut in a copy of the checkout; its results lie in the copy's ``mutants``."""
    for folder in ("npllm", "tests"):
        shutil.copytree(ROOT / folder, room / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", room)
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    (room / "setup.cfg").write_text(setup + CONFIGURATION, encoding="utf-8")
    slips = Path(__file__).with_name("slips.py")
    command = [sys.executable, str(slips), "run", "--max-children", str(jobs), *patterns]
    log = room / "log"
    with log.open("w", encoding="utf-8") as file:
        status = subprocess.run(
            command,
            cwd=room,
            env={**os.environ, **ENVIRONMENT},
            stdout=None if sys.stdout.isatty() else file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status:
        print(log.read_text(encoding="utf-8")[-5000:])
        sys.exit("mutmut could not run")


def results(patterns: list[str]) -> dict[str, str]:
    """Return the status of each mutant of the copy in the working directory."""
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.file_utils import walk_mutatable_files

    found = {}
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        found |= {name: status_by_exit_code[code] for name, code in data.exit_code_by_key.items()}
    wanted = patterns or ["*"]
    return {n: s for n, s in found.items() if any(fnmatch(n, pattern) for pattern in wanted)}


def place(mutant: str) -> tuple[str, str]:
    """Return the module and the function that a mutant changes."""
    module, _, mangled = mutant.partition("__mutmut_")[0].rpartition(".")
    return module, mangled[2:].replace("ǁ", ".")  # from x_function, or xǁClassǁmethod


def change(mutant: str) -> Change:
    """Return what a mutant of the copy in the working directory changes."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(mutant).splitlines()[2:]
    before, after = (
        "\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )
    return ".".join(place(mutant)), before, after


def equivalents() -> Counter[Change]:
    """Return what ``equivalents.toml`` lists."""
    import tomllib

    text = Path(__file__).with_name("equivalents.toml").read_text(encoding="utf-8")
    return Counter(
        (entry["where"], entry["before"].strip(), after.strip())
        for entry in tomllib.loads(text)["equivalent"]
        if entry["why"]
        for after in entry["after"]
    )


def show(title: str, changes: Counter[Change]) -> None:
    """Print each of the changes under a title."""
    for (where, before, after), count in sorted(changes.items()):
        print(f"\n{title}{f' ({count} times)' if count > 1 else ''}: {where}")
        for sign, lines in (("-", before), ("+", after)):
            print(*(f"  {sign} {line}" for line in lines.splitlines()), sep="\n")


def main() -> int:
    """Run, print the verdict, and return 0 where it is a pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help='only these, say "npllm.optim.clip.*"'
    )
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as room:
        mutate(Path(room), options.jobs, options.patterns)
        os.chdir(room)
        statuses = results(options.patterns)
        alive = {mutant: s for mutant, s in statuses.items() if s not in ("killed", "timeout")}
        survivors = Counter(map(change, alive))
        hanging = Counter(change(mutant) for mutant, s in statuses.items() if s == "timeout")
        os.chdir(ROOT)

    functions = {".".join(place(mutant)) for mutant in statuses}
    listed = equivalents()
    if options.patterns:
        listed = Counter({c: n for c, n in listed.items() if c[0] in functions})
    surviving, stale = survivors - listed, listed - survivors
    show("killed by a timeout", hanging)
    show("survives", surviving)
    show("listed as equivalent, but killed or gone", stale)

    rows = [("module", "mutants", "killed", "timed out", "equivalent or surviving")]
    for module in sorted({place(mutant)[0] for mutant in statuses}):
        own = Counter(s for mutant, s in statuses.items() if place(mutant)[0] == module)
        rest = own.total() - own["killed"] - own["timeout"]
        rows.append((module, *map(str, (own.total(), own["killed"], own["timeout"], rest))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]))

    killed = len(statuses) - len(alive)
    print(f"\nmutants     {len(statuses)}")
    print(f"killed      {killed}, {hanging.total()} of them by a timeout")
    print(f"equivalent  {(survivors & listed).total()}, listed in equivalents.toml")
    print(f"surviving   {surviving.total()}")
    print(f"stale       {stale.total()}")
    print(f"score       {killed / max(1, killed + surviving.total()):.2%} of those not equivalent")
    print(f"minutes     {(time.monotonic() - start) / 60:.1f}")
    return 1 if surviving or stale or not statuses else 0


if __name__ == "__main__":
    sys.exit(main())
