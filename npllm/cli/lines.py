"""Texts from the command line or from the input, a line each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from npllm.text.made import unknown
from npllm.text.tokenizers import TrainedTokenizer

NAME = "--text"
MOST_NAMED = 10  # characters


def add_texts(parser: argparse.ArgumentParser) -> None:
    """Add the option of what :func:`texts_of` yields."""
    parser.add_argument(
        NAME,
        action="append",
        metavar="TEXT",
        help="the text, or one of them (default: the input's lines)",
    )


def texts_of(given: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Yield the texts that were given, or the lines of the input, without the space around them.

    Before each stands what it is called in a message.

    Raises:
        ValueError: one is empty, or not UTF-8; the message says which.
    """
    if given is not None:
        if not all(text.strip() for text in given):
            raise ValueError(f"{NAME} is empty: give a text")
        names = [NAME] if len(given) == 1 else [f"{NAME} {n}" for n in range(1, len(given) + 1)]
        yield from zip(names, (text.strip() for text in given), strict=True)
        return
    number = 0
    lines: Iterable[bytes | str] = getattr(sys.stdin, "buffer", sys.stdin) or ()
    for number, line in enumerate(lines, 1):
        where = f"line {number} of the input"
        try:
            text = line.decode("utf-8-sig") if isinstance(line, bytes) else line
        except UnicodeDecodeError as error:
            byte = f"byte {error.start} is {error.object[error.start]:#04x}"
            raise ValueError(f"{where} is not UTF-8 ({byte}): convert it to UTF-8 first") from None
        if not text.strip():
            raise ValueError(f"{where} is empty: give a text a line")
        yield where, text.strip()
    if not number:
        raise ValueError(f"the input is empty: write a text a line, or give {NAME}")


@contextmanager
def at(where: str) -> Iterator[None]:
    """Say of a ValueError where the text stands."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def tell_unknown(tokenizer: TrainedTokenizer, text: str) -> None:
    """Say, beside the output, which characters of a text are left out."""
    lacking = unknown(tokenizer, text)
    if lacking and sys.stderr is not None:
        named = " ".join(map(repr, lacking[:MOST_NAMED])) + " ..." * (len(lacking) > MOST_NAMED)
        print(f"left out, being unknown to the model: {named}", file=sys.stderr)


def printable(text: str) -> str:
    r"""Return a text without what a terminal would obey.

    >>> printable("a\x1b[2J b")
    'a?[2J b'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def on_terminal() -> bool:
    """Return whether what is printed is seen by a person."""
    return sys.stdout is not None and sys.stdout.isatty()
