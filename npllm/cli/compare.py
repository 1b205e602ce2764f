"""``npllm compare``."""

from __future__ import annotations

import argparse

from npllm.cli.evaluate import learned_text
from npllm.cli.parser import Commands, add_command, add_seed, add_threads, new_file
from npllm.text import load_text, split_text
from npllm.training import families

_DESCRIPTION = """\
Set models side by side on one text: bits per character, perplexity, time, memory and parameters, as
a table and, with --out, as a picture of the perplexity over the time of training.

Bits per character compare between models whatever their tokens are; the perplexity is of a token.
Without --data the text is the one that the first run held out: the others must have held out the
same. Each model scores it in a process of its own, whose peak is the memory.

  npllm compare runs/ngram-1 runs/lstm-1 runs/gpt-1 runs/llama-1 --out families.png
  npllm compare runs/lstm-1 smollm2 --data other.txt
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "compare", "set models side by side", _DESCRIPTION, _run)
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="runs of npllm train, or whatever generate takes"
    )
    parser.add_argument("--data", metavar="FILE", help="UTF-8 text (default: the held-out one)")
    parser.add_argument("--out", type=new_file(".png"), metavar="FILE", help="PNG to write")
    add_seed(parser, "for symmetry with the other commands: scoring draws nothing at random")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    text = _held_out(options.models) if options.data is None else load_text(options.data)
    found = families.measure(options.models, text, options.threads)
    print(*families.table(found), sep="\n")
    if options.out is not None:
        families.plot(found, options.out)
        print(f"\n{options.out}")
    return 0


def _held_out(names: list[str]) -> str:
    """Return the text that all runs held out.

    Raises:
        OSError: a name is that of no run.
        ValueError: they held out others.
    """
    options, digest = learned_text(names[0])
    for name in names[1:]:
        other, of_other = learned_text(name)
        if (of_other, other.held_out) != (digest, options.held_out):
            raise ValueError(f"{names[0]} and {name} held out other texts: name one, --data FILE")
    return split_text(options.read(digest), options.held_out)[1]
