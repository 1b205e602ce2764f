"""The command line: words in, words out. Each command is a file."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import npllm
from npllm.cli import (
    atlas,
    certify,
    classify,
    compare,
    data,
    embed,
    evaluate,
    export,
    generate,
    gradcheck,
    inspect,
    neighbours,
    plot,
    train,
    translate,
)
from npllm.cli.flags import flags_of, given_words, with_flags
from npllm.cli.parser import CommandParser, Parser, formatter, parse
from npllm.threads import blas_held
from npllm.training import ranks

if TYPE_CHECKING:
    from npllm.training.ranks import World

__all__ = ["main", "make_parser"]

_EPILOG = """\
A first tour:
  npllm train                     learn the Python language reference, about a minute
  npllm generate runs/lstm-1      read what the model writes
  npllm inspect runs/lstm-1 --text "The statement" --out page.html
                                  see what it expects, token by token
  npllm gradcheck                 prove every layer behind it
  npllm certify                   prove every parameter of every model
  npllm atlas softmax             learn from mistakes, and how each gives itself away

"Section 4.2" and the like are those of the seed document, told in docs/en/sections.md.
"""


def make_parser() -> Parser:
    """Return the parser of all commands; the parsed options' ``run`` runs the command."""
    parser = Parser(
        prog="npllm",
        description="Language models in NumPy: every backward pass by hand, and proven.",
        epilog=_EPILOG,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"npllm {npllm.__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for command in (
        train,
        generate,
        evaluate,
        inspect,
        export,
        compare,
        neighbours,
        embed,
        classify,
        translate,
        data,
        gradcheck,
        certify,
        atlas,
        plot,
    ):
        command.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status.

    0 is success, 1 a failed check, 2 bad input, 130 Ctrl-C, 141 that the output's reader has left,
    143 a request to end (SIGTERM). Of the ranks that mpiexec starts, the first runs the command.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a character shows "?"
        sys.stdout.reconfigure(errors="replace")
    return ranks.run(partial(_main, arguments))


def _main(arguments: Sequence[str] | None, world: World | None) -> int:
    parser = make_parser()
    options = argparse.Namespace(parser=parser)
    try:
        try:
            options = parse(parser, arguments)
            if world is not None and not options.ranks:
                raise ValueError(f"{options.parser.prog} has no use for ranks: leave out mpiexec")
            options.world = world
            with blas_held(options.threads or 1):
                return int(options.run(options))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _leave_stdout()
        return 141
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except (OSError, ValueError, MemoryError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _leave_stdout()
        print(f"npllm: error: {_one_line(error, options)}", file=sys.stderr)
        return 2


def _leave_stdout() -> None:
    """Let nothing more be written, so that Python does not complain when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: Exception, options: argparse.Namespace) -> str:
    """Return what an error says, in the words of the command whose options these are."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return " ".join(f"{error.filename}: {error.strerror}".split())
    text = " ".join(str(error).split())
    return with_flags(text, flags_of(options.parser), given_words(options))
