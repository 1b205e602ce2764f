"""What the commands' parsers share."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import NoReturn, TypeAlias

formatter = argparse.RawDescriptionHelpFormatter

# argparse's own name for it is private
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace], int]  # a command, of its options


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and say what may have been meant."""

    def error(self, message: str) -> NoReturn:
        """Print the message on one line and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")

    # argparse asks this of commands and choices alike; its own words change with Python's version
    def _check_value(self, action: argparse.Action, value: str) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, no_such(value, action.choices))


class CommandParser(Parser):
    """A command's parser, which tells of a misspelt flag before all that is missing or wrong."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does; but a flag that is close to one of the command's is an error."""
        for word in takewhile("--".__ne__, args or ()):
            flag = word.partition("=")[0]
            flags = self._option_string_actions
            if flag.startswith("--") and flag not in flags and _closest(flag, flags):
                self.error(no_such(flag, flags))
        return super().parse_known_args(args, namespace)


def parse(parser: Parser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command; ``parser`` among them is the command's own.

    An option that the command has not ends the program with status 2, as every error does here.
    """
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        more, words = "", " ".join(unknown)
        is_text = not any(word.startswith("-") for word in unknown)
        if is_text and hasattr(options, "text") and not getattr(options, "test", False):
            more = f": a text is named by --text {shlex.quote(words)}"
        options.parser.error(f"unrecognized arguments: {words}{more}")
    return options


def no_such(word: str, known: Iterable[str], more: str = "", what: str = "") -> str:
    """Return what to say of a word that is none of those known: what it is close to, or all.

    >>> no_such("tahn", ["tanh", "relu"])
    'there is no tahn: did you mean tanh?'
    >>> no_such("x", ["tanh", "relu"])
    'there is no x; there are tanh, relu'
    """
    word = word or "''"
    if close := _closest(word, known):
        return f"there is no {what}{word}: did you mean {close}?"
    return f"there is no {what}{word}; there are {', '.join(known)}{more}"


def check_known(
    names: Iterable[str], known: Collection[str], more: str = "", what: str = ""
) -> None:
    """Raise ValueError unless all names are among those known."""
    for name in names:
        if name not in known:
            raise ValueError(no_such(name, known, more, what))


def _closest(word: str, known: Iterable[str]) -> str:
    """Return the known word that a word is closest to, nothing where none is close."""
    spelled = {name.lower().lstrip("-"): name for name in known}  # dashes are all alike
    near = get_close_matches(word.lower().lstrip("-"), spelled, 1)
    return spelled[near[0]] if near else ""


def add_command(
    commands: Commands,
    name: str,
    summary: str,
    description: str,
    run: Run,
    *,
    ranks: bool = False,
) -> argparse.ArgumentParser:
    """Add a command with its help, the function that runs it, and whether ranks may share its work.

    Every command has a seed and threads.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser, ranks=ranks)
    return parser


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--seed`` to a command."""
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help=f"{what} (default: 0)")


def add_threads(parser: argparse.ArgumentParser, shares: str = "") -> None:
    """Add ``--threads`` to a command: how many cores it may use.

    Args:
        parser: the command's.
        shares: what it works on in shares, one a core, each with one thread of BLAS. Without any
            the cores are for BLAS, which needs one: more slow it down beside other work, and may
            change the last bits of a result.
    """
    what, default = "for the products of matrices", "1, which other work slows down least"
    if shares:
        what, default = f"{shares}, each in its process", "all, at most 4"
    parser.add_argument(
        "--threads",
        type=positive,
        default=None if shares else 1,
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


def number(text: str) -> float:
    """Return a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def new_file(*suffixes: str) -> Callable[[str], Path]:
    """Return what makes a path of an option: of a file to write, which must end in a suffix."""
    known = " or ".join(suffixes)

    def checked(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"must name a file that ends in {known}, got {text}")
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"{text} is a folder, not a file to write")
        if not path.parent.is_dir():
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
