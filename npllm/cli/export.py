"""``npllm export``."""

from __future__ import annotations

import argparse

from npllm.cli.parser import Commands, add_command, add_seed, add_threads, new_file
from npllm.loading import load
from npllm.ngram import NgramLanguageModel
from npllm.ngram.arpa import spelled, write_arpa

_DESCRIPTION = r"""
Write a model of n-grams as an ARPA file, which SRILM, KenLM and other tools read.

Its words are the model's tokens. White space is what sets words apart there: so a space in a token
becomes \s, a line's end \n, and a backslash \\. A model with --tokenizer whitespace, whose tokens
have none, is one for texts as they are. To read an ARPA file, name it as the model.

  npllm export runs/ngram-1 --out model.arpa
  npllm evaluate --model model.arpa --data lines.txt
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "export", "write n-grams as an ARPA file", _DESCRIPTION.lstrip(), _run
    )
    parser.add_argument("directory", metavar="DIR", help="a run of npllm train --model ngram")
    parser.add_argument(
        "--out",
        type=new_file(".arpa"),
        required=True,
        metavar="FILE",
        help="ARPA file to write; what was there is replaced",
    )
    add_seed(parser, "for symmetry with the other commands: nothing is drawn at random")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    loaded = load(options.directory)
    if not isinstance(loaded.model, NgramLanguageModel):
        raise ValueError(f"{options.directory} is no model of n-grams, which an ARPA file holds")
    write_arpa(options.out, loaded.model, spelled(loaded.tokenizer))
    print(options.out)
    return 0
