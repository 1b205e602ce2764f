"""``npllm gradcheck``."""

from __future__ import annotations

import argparse
import runpy
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np

from npllm.checking import GradcheckReport, gradcheck
from npllm.checking.methods import Method
from npllm.checking.report import finite
from npllm.cli.parser import (
    Commands,
    add_command,
    add_json,
    add_seed,
    add_threads,
    check_known,
    counted,
)
from npllm.evidence import CASES, Case
from npllm.files import write_json

_DESCRIPTION = """\
Prove hand-written gradients: those of npllm, every layer, every argument, every element; or yours.

Each backward pass is compared, under a random cotangent, with numeric derivatives of its forward
pass alone: the complex step, which is right to rounding (1e-12 passes), and the central difference
(1e-7 passes). Errors are relative to the argument's largest gradient. A row is an argument; below a
row that failed stands where, and, if the numbers show it, why. The exit status is 1 if one fails.

  npllm gradcheck
  npllm gradcheck attention lstm --seed 1
  npllm gradcheck my_layer.py --method richardson --json report.json

my_layer.py is a file of yours that defines cases(rng), which yields the layers to check, each as
(label, forward, backward, args), in the form that npllm.checking.gradcheck takes; a dict of its
options may stand behind: {"allow": ["aliased"]}, {"dtype": "float32"}, {"sizes": {"heads": 4}}.
"""

_OPTIONS = {"allow", "dtype", "methods", "sizes", "tolerances"}


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "gradcheck", "prove the gradients", _DESCRIPTION, _run)
    parser.add_argument(
        "names", nargs="*", metavar="NAME|FILE.py", help=f"a file, or of {', '.join(CASES)}"
    )
    parser.add_argument(
        "--method",
        action="append",
        choices=get_args(Method),
        help="may be repeated (default: complex and central)",
    )
    add_json(parser, "reports")
    add_seed(parser, "draws arguments and cotangents")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    names = options.names or list(CASES)
    layers = [name for name in names if not name.endswith(".py")]
    for name in layers:
        if name and name not in CASES and Path(name).exists():
            raise ValueError(f"{name} is no file of Python: its name must end in .py")
    check_known(layers, CASES, ", and files whose names end in .py")
    start = time.perf_counter()
    reports: list[tuple[str, GradcheckReport]] = []
    errors: list[tuple[str, str]] = []
    for name in names:
        with _importable(name):
            for case, extra in _cases(name, np.random.default_rng(options.seed)):
                chosen = {"sizes": case.sizes, **extra, "seed": options.seed}
                if options.method:
                    chosen["methods"] = options.method
                label = f"{name}: {case.label}"
                try:
                    with _told(name, f"{case.label}: "):
                        report = gradcheck(case.forward, case.backward, case.args, **chosen)
                except _CaseError as error:  # the other cases are checked all the same
                    print(f"{label}\n  ERROR: {error}\n", flush=True)
                    errors.append((label, str(error)))
                    continue
                print(f"{label}\n{_indented(str(report))}\n", flush=True)
                reports.append((label, report))
    if errors and not reports:
        raise ValueError(errors[0][1])
    arguments = [argument for _, report in reports for argument in report.arguments]
    failed = sum(not report.passed for _, report in reports)
    worst: dict[str, float] = {}
    for comparison in (c for argument in arguments for c in argument.comparisons):
        pair = worst.get(comparison.method, 0.0), comparison.error
        worst[comparison.method] = float(np.max(pair))  # NaN counts as the largest
    figures = ", ".join(f"{method} {error:.1e}" for method, error in worst.items()) or "none"
    verdict = f"{counted(failed, 'case')} FAILED" if failed else "all ok"
    if errors:
        rest = verdict.replace("all", "the others")
        verdict = f"{counted(len(errors), 'case')} could not be run, {rest}"
    cases = counted(len(reports) + len(errors), "case")
    print(f"{counted(len(arguments), 'argument')} in {cases}: {verdict}; worst errors: {figures}")
    print(f"{time.perf_counter() - start:.1f} s")
    if options.json:
        found = [{"case": label, **report.to_dict()} for label, report in reports]
        found += [{"case": label, "passed": False, "error": error} for label, error in errors]
        write_json(options.json, finite(found))
    return 1 if failed or errors else 0


def _cases(name: str, rng: np.random.Generator) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Yield the cases of a layer or a file, each with its own options of ``gradcheck``."""
    if name in CASES:
        yield from ((case, {}) for case in CASES[name](rng))
        return
    form = "cases(rng), yielding (label, forward, backward, args) or (..., args, options)"
    with _told(name):
        cases: Any = _loaded(name).get("cases")
        yielded = cases(rng) if callable(cases) else None
        found = list(yielded) if isinstance(yielded, Iterable) else None
    if found is None:
        got = f"; it returns {type(yielded).__name__}" if callable(cases) else ""
        raise ValueError(f"{name} must define {form}{got}")
    if not found:
        raise ValueError(f"{name}: its cases(rng) yields nothing to check")
    for case in found:
        what = f"a tuple of {len(case)}" if isinstance(case, tuple) else type(case).__name__
        if not isinstance(case, tuple) or not 4 <= len(case) <= 5:
            raise ValueError(f"{name} must define {form}; it yields {what}")
        for role, function in zip(("forward", "backward"), case[1:3], strict=True):
            if not callable(function):
                kind = type(function).__name__
                raise ValueError(f"{name}: the {role} of {case[0]} must be a function, got {kind}")
        extra = case[4] if len(case) == 5 else {}
        if not isinstance(extra, dict) or not set(extra) <= _OPTIONS:
            got = type(extra).__name__
            if isinstance(extra, dict):
                got = ", ".join(sorted(set(map(str, extra)) - _OPTIONS))
            known = ", ".join(sorted(_OPTIONS))
            raise ValueError(
                f"{name}: the options of {case[0]} must be a dict of {known}, got {got}"
            )
        yield Case(*case[:4]), extra


def _loaded(name: str) -> dict[str, object]:
    """Run a file as Python runs a script."""
    Path(name).read_bytes()  # what keeps the file from being read is said as Python says it
    return runpy.run_path(name)


@contextmanager
def _importable(name: str) -> Iterator[None]:
    """Let a file of the user's import what lies beside it."""
    if name in CASES:
        yield
        return
    folder = str(Path(name).resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


class _CaseError(ValueError):
    """What goes wrong in a file of the user's."""


@contextmanager
def _told(name: str, label: str = "") -> Iterator[None]:
    """Turn whatever goes wrong in a file of the user's into one line that says where."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if name in CASES or (isinstance(error, OSError) and error.filename == name):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise _CaseError(f"{name}: {label}{what}{_place(error, name)}") from error


def _place(error: BaseException, name: str) -> str:
    """Return the line in the user's file, or in a file that it uses, where it went wrong."""
    folder = Path(name).resolve().parent
    frames = []
    while error.__cause__ is not None:  # the checker's word for it has the user's error behind it
        error = error.__cause__
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_file() and folder in path.resolve().parents:
            inside = path.resolve() == Path(name).resolve()
            frames.append(f" ({'' if inside else path.name + ', '}line {frame.lineno})")
    return frames[-1] if frames else ""


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
