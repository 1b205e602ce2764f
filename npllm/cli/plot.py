"""``npllm plot``."""

from __future__ import annotations

import argparse
from pathlib import Path

from npllm.cli.parser import Commands, add_command, add_seed, add_threads, new_file, no_such
from npllm.evidence import CASES
from npllm.evidence.step_errors import plot_gradcheck
from npllm.training.curves import plot_run

_DESCRIPTION = """\
Draw a picture, as PNG: the curves of a run (training and validation loss, and perplexity, over the
steps), or, with the word gradcheck, the error of each way to take a derivative over its step, on a
real layer: forward, central and fourth-order difference, and the complex step.

Needs matplotlib: pip install '.[plot]' in npllm's checkout, or pip install matplotlib.

  npllm plot runs/lstm-1
  npllm plot runs/lstm-1 --out curves.png
  npllm plot gradcheck --layer attention --out v.png
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "plot", "draw a picture", _DESCRIPTION, _run)
    parser.add_argument(
        "what", metavar="DIR|gradcheck", help="a run of npllm train, or the word gradcheck"
    )
    parser.add_argument(
        "--out",
        type=new_file(".png"),
        metavar="FILE",
        help="PNG to write (default: DIR/curves.png, gradcheck.png)",
    )
    parser.add_argument(
        "--layer", choices=CASES, metavar="NAME", help="for gradcheck (default: lstm)"
    )
    add_seed(parser, "for gradcheck: draws arguments and directions")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    proofs = options.what == "gradcheck"
    if options.layer and not proofs:
        raise ValueError("--layer goes with npllm plot gradcheck")
    if not proofs and not Path(options.what).exists():
        raise ValueError(no_such(options.what, ["gradcheck"], " and the runs of npllm train"))
    out = options.out or Path("gradcheck.png" if proofs else Path(options.what) / "curves.png")
    if proofs:
        plot_gradcheck(out, options.layer or "lstm", options.seed)
    else:
        plot_run(options.what, out)
    print(out)
    return 0
