"""``npllm certify``."""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import asdict
from typing import TypedDict

import numpy as np

import npllm
from npllm.checking.report import aligned, finite
from npllm.cli.parser import (
    Commands,
    add_command,
    add_json,
    add_seed,
    add_threads,
    check_known,
    counted,
)
from npllm.evidence.certificate import (
    CONFIGURATIONS,
    STEPS,
    TOLERANCE,
    Row,
    Section,
    certify,
    has_torch,
)
from npllm.files import write_json

_DESCRIPTION = f"""\
Prove every parameter of every model, element by element.

Each configuration (odd sizes, dropout, masked targets, unequal lengths, tied weights) takes two
steps of training in a row. After each, every gradient is compared with the complex step and, where
torch is installed, with torch in float64. A row is a parameter: its largest error relative to its
largest gradient, and in units of the last place (ulps) of that gradient. {TOLERANCE:.0e} passes;
the exit status is 1 if a row does not. Nothing is stored: the table is computed when you ask.

  npllm certify                        all models
  npllm certify lstm --json lstm.json  one, the table as JSON too
  npllm certify --quick                one small configuration of each
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "certify", "prove every model", _DESCRIPTION, _run)
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"of {', '.join(CONFIGURATIONS)}")
    add_json(parser, "table")
    parser.add_argument("--quick", action="store_true", help="one small configuration of each")
    add_seed(parser, "draws parameters and batches")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    check_known(options.names, CONFIGURATIONS)
    start = time.perf_counter()
    sections: list[Section] = []
    for name in options.names or CONFIGURATIONS:
        for section in certify(name, quick=options.quick, seed=options.seed):
            print(f"{name}: {section.label}\n{_table(section)}\n", flush=True)
            sections.append(section)
    seconds = time.perf_counter() - start
    summary = _summary(sections)
    verdict = "all ok" if summary["passed"] else f"{summary['failed']} FAILED"
    print(
        f"{summary['parameters']} parameters, {summary['elements']} numbers, after each of {STEPS} "
        f"steps, in {counted(len(sections), 'configuration')}: {verdict}"
    )
    print(f"worst errors: {_worst('complex step', summary['complex_step'])}, {_torch(summary)}")
    print(f"{seconds:.1f} s")
    if options.json:
        report = {
            "npllm": npllm.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "tolerance": TOLERANCE,
            "seed": options.seed,
            **summary,
            "sections": [asdict(section) for section in sections],
        }
        write_json(options.json, finite(report))
    return 0 if summary["passed"] else 1


def _table(section: Section) -> str:
    rows = [("parameter", "numbers", "complex step", "ulps", "torch", "ulps", "verdict")]
    for row in section.rows:
        theirs = ("-", "-") if row.torch is None else (f"{row.torch:.1e}", f"{row.torch_ulps:.1f}")
        verdict = "ok" if row.passed else "FAILED"
        ours = f"{row.complex_step:.1e}", f"{row.complex_ulps:.1f}"
        rows.append((row.parameter, str(row.elements), *ours, *theirs, verdict))
    symmetry = "symmetric" if section.symmetric else "NOT SYMMETRIC"
    lines = [*aligned(rows), f"derivative of the gradients: {symmetry} ({section.asymmetry:.1e})"]
    if section.results is not None:
        verdict = "ok" if section.results <= TOLERANCE else "FAILED"
        lines.append(f"loss and final state beside torch: {section.results:.1e} {verdict}")
    return "\n".join(f"  {line}" for line in lines)


class _Summary(TypedDict):
    passed: bool
    failed: int
    parameters: int
    elements: int
    complex_step: dict[str, float]
    torch: dict[str, float] | None
    results: float | None
    asymmetry: float


def _summary(sections: list[Section]) -> _Summary:
    rows: list[Row] = [row for section in sections for row in section.rows]
    theirs = [row for row in rows if row.torch is not None]
    return {
        "passed": all(section.passed for section in sections),
        "failed": sum(not section.passed for section in sections),
        "parameters": len(rows),
        "elements": sum(row.elements for row in rows),
        "complex_step": _largest(rows, "complex_step", "complex_ulps"),
        "torch": _largest(theirs, "torch", "torch_ulps") if has_torch() else None,
        "results": float(np.max([s.results for s in sections])) if has_torch() else None,
        "asymmetry": float(np.max([section.asymmetry for section in sections])),
    }


def _largest(rows: list[Row], *names: str) -> dict[str, float]:
    relative, ulps = (float(np.max([getattr(row, name) for row in rows])) for name in names)
    return {"relative": relative, "ulps": ulps}


def _worst(method: str, errors: dict[str, float]) -> str:
    return f"{method} {errors['relative']:.1e} ({errors['ulps']:.1f} ulps)"


def _torch(summary: _Summary) -> str:
    if summary["torch"] is None:
        return "torch is not installed"
    results = f"loss and final state {summary['results']:.1e}"
    return f"{_worst('torch', summary['torch'])}, {results}"
