"""What the commands' parsers share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

formatter = argparse.RawDescriptionHelpFormatter

Commands = Any  # argparse's own name for it is private


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message on one line and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def add_command(
    commands: Commands, name: str, summary: str, description: str, run: Any
) -> argparse.ArgumentParser:
    """Add a command with its help and the function that runs it.

    Every command has a seed and threads.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, formatter_class=formatter
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--seed`` to a command."""
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help=f"{what} (default: 0)")


def add_threads(parser: argparse.ArgumentParser, shards: str = "") -> None:
    """Add ``--threads`` to a command: how many cores it may use.

    Args:
        parser: the command's.
        shards: what it works on in shards, one a core, each with one thread of BLAS. Without any
            the cores are for BLAS, which needs one: more slow it down beside other work, and may
            change the last bits of a result.
    """
    what, default = "for the products of matrices", "1, which other work slows down least"
    if shards:
        what, default = f"{shards}, each on its thread", "all, at most 4"
    parser.add_argument(
        "--threads",
        type=positive,
        default=None if shards else 1,
        metavar="N",
        help=f"cores to use: {what} (default: {default})",
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--json`` to a command."""
    parser.add_argument(
        "--json", type=new_file(".json"), metavar="FILE", help=f"write the {what} there too"
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "case"), counted(2, "case")
    ('1 case', '2 cases')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def seed(text: str) -> int:
    """Return a seed, an integer that is not negative."""
    return _at_least(text, 0)


def positive(text: str) -> int:
    """Return an integer above zero."""
    return _at_least(text, 1)


def new_file(suffix: str) -> Callable[[str], Path]:
    """Return what makes a path of an option: of a file to write, which must end in a suffix."""

    def checked(text: str) -> Path:
        path = Path(text)
        if path.suffix != suffix:
            raise argparse.ArgumentTypeError(f"must name a file that ends in {suffix}, got {text}")
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"{text} is a folder, not a file to write")
        if not path.resolve().parent.is_dir():
            raise argparse.ArgumentTypeError(f"{text}: its folder does not exist")
        return path

    return checked


def _at_least(text: str, low: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if number < low:
        raise argparse.ArgumentTypeError(f"must be an integer, {low} or more, got {text!r}")
    return number
