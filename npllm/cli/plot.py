"""``npllm plot``."""

from __future__ import annotations

import argparse
from pathlib import Path

from npllm.cli.parser import Commands, add_command, add_seed
from npllm.plotting import plot_run

_DESCRIPTION = """\
Draw the curves of a run: training and validation loss, and perplexity, over the steps.

Needs matplotlib: pip install '.[plot]' in npllm's checkout, or pip install matplotlib.

  npllm plot runs/lstm-1
  npllm plot runs/lstm-1 --out curves.png
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "plot", "draw the curves of a run", _DESCRIPTION, _run)
    parser.add_argument("directory", metavar="DIR", help="a run of npllm train")
    parser.add_argument("--out", metavar="FILE", help="PNG to write (default: DIR/curves.png)")
    add_seed(parser, "for symmetry with the other commands: drawing curves draws nothing at random")


def _run(options: argparse.Namespace) -> int:
    out = Path(options.out or Path(options.directory) / "curves.png")
    plot_run(options.directory, out)
    print(out)
    return 0
