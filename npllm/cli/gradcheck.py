"""``npllm gradcheck``."""

from __future__ import annotations

import argparse
import time

import numpy as np

from npllm.checking import GradcheckReport, gradcheck
from npllm.cli.parser import Commands, add_command, add_seed
from npllm.proofs import CASES

_DESCRIPTION = """\
Prove the hand-written gradients of npllm: every layer, every argument, every element.

Each backward pass is compared with two numeric derivatives of its forward pass alone, under a
random cotangent: the complex step, which is right to rounding (1e-12 passes), and the central
difference (1e-7 passes). Errors are relative to the argument's largest gradient. A row is an
argument; the exit status is 1 if one fails.

  npllm gradcheck
  npllm gradcheck attention lstm --seed 1

To check a layer of your own, see npllm.checking.gradcheck.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "gradcheck", "prove the gradients", _DESCRIPTION, _run)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    add_seed(parser, "draws arguments and cotangents")


def _run(options: argparse.Namespace) -> int:
    if unknown := [name for name in options.names if name not in CASES]:
        raise ValueError(f"there is no {', '.join(unknown)}; there are {', '.join(CASES)}")
    start = time.perf_counter()
    reports: list[GradcheckReport] = []
    for name in options.names or CASES:
        for case in CASES[name](np.random.default_rng(options.seed)):
            report = gradcheck(case.forward, case.backward, case.args, seed=options.seed)
            print(f"{name}: {case.label}\n{_indented(str(report))}\n", flush=True)
            reports.append(report)
    arguments = [argument for report in reports for argument in report.arguments]
    failed = sum(not argument.passed for argument in arguments)
    worst: dict[str, float] = {}
    for comparison in (c for argument in arguments for c in argument.comparisons):
        worst[comparison.method] = max(worst.get(comparison.method, 0.0), comparison.error)
    figures = ", ".join(f"{method} {error:.1e}" for method, error in worst.items())
    verdict = f"{failed} FAILED" if failed else "all ok"
    print(
        f"{len(arguments)} arguments in {len(reports)} cases: {verdict}; worst errors: {figures};"
    )
    print(f"{time.perf_counter() - start:.1f} s")
    return 1 if failed else 0


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
