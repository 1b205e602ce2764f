"""What the commands' parsers share."""

from __future__ import annotations

import argparse
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
    """Add a command with its help and the function that runs it; every command has a seed."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, formatter_class=formatter
    )
    parser.set_defaults(run=run)
    return parser


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--seed`` to a command."""
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help=f"{what} (default: 0)")


def seed(text: str) -> int:
    """Return a seed, an integer that is not negative."""
    return _at_least(text, 0)


def positive(text: str) -> int:
    """Return an integer above zero."""
    return _at_least(text, 1)


def _at_least(text: str, low: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if number < low:
        raise argparse.ArgumentTypeError(f"must be an integer, {low} or more, got {text!r}")
    return number
