"""What the library calls an argument, in the words of the command line: kv_heads is --kv-heads."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_SAYS_WHAT_IT_MUST_BE = re.compile(r" (must|needs|is for) ")
_OF_A_FILE = re.compile(r"\S*[\w/\\]\.(json|jsonl|safetensors|gguf)\b")
_QUOTED = r"""(?<!\w)'[^']*'(?!\w)|"[^"]*\""""


def flag_of(name: str) -> str:
    """Return the flag of an argument.

    >>> flag_of("kv_heads")
    '--kv-heads'
    >>> flag_of("from_")  # which is a word of Python's
    '--from'
    """
    return "--" + name.rstrip("_").replace("_", "-")


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the flag of each argument of a command that has one, by the argument's name."""
    # argparse has no other way to ask it
    flags = {action.dest: flag_of(action.dest) for action in parser._actions}
    return {name: flag for name, flag in flags.items() if flag in parser._option_string_actions}


def given_words(options: argparse.Namespace) -> list[str]:
    """Return the texts and paths that were given on the command line."""
    found: list[str] = []
    for value in vars(options).values():
        several = value if isinstance(value, list) else [value]
        found += [str(each) for each in several if isinstance(each, (str, Path))]
    return found


def with_flags(message: str, flags: Mapping[str, str], given: Iterable[str] = ()) -> str:
    """Return a message of the library with the names of arguments as their flags.

    Most names are words too: "the model has 64 positions". So a name is taken for one where it has
    an underscore, where its value stands behind it, or where it begins the message and the message
    says what it must be.

    Args:
        message: one line.
        flags: what each name becomes.
        given: what the user gave, which is left alone, as are paths and whatever is in quotes, and
            a message that begins with the name of a file: it is the file's words that are wrong.

    >>> flags = {"kv_heads": "--kv-heads", "heads": "--heads"}
    >>> with_flags("kv_heads must divide heads=4, got 3: use fewer heads", flags)
    '--kv-heads must divide --heads=4, got 3: use fewer heads'
    """
    if not flags or _OF_A_FILE.match(message):
        return message
    kept = [rf"(?<!\w){re.escape(' '.join(text.split()))}(?!\w)" for text in given if text.strip()]
    names = rf"(?<![\w./\\-])(?P<name>{'|'.join(map(re.escape, flags))})(?![\w/\\-]|\.\w)"

    def replaced(found: re.Match[str]) -> str:
        name, rest = found["name"], message[found.end() :]
        if name is None:
            return found[0]
        begins = found.start() == 0 and _SAYS_WHAT_IT_MUST_BE.match(rest)
        return flags[name] if "_" in name or rest.startswith("=") or begins else name

    return re.sub("|".join([*kept, _QUOTED, names]), replaced, message)
