"""``npllm plot``."""

from __future__ import annotations

import argparse
from pathlib import Path

from npllm.cli.parser import Commands, add_command, add_seed, add_threads, new_file, no_such
from npllm.evidence import CASES
from npllm.evidence.step_errors import plot_gradcheck
from npllm.inspection.words_picture import plot_embeddings, usual_words
from npllm.loading import load
from npllm.ngram import NgramLanguageModel
from npllm.training.curves import plot_run

_DESCRIPTION = """\
Draw a picture, as PNG: the curves of a run (training and validation loss, and perplexity, over the
steps); with the word gradcheck, the error of each way to take a derivative over its step, on a real
layer: forward, central and fourth-order difference, and the complex step; with the word embeddings,
and a model, its words' vectors along the two axes on which they differ most.

Needs matplotlib: pip install '.[plot]' in npllm's checkout, or pip install matplotlib.

  npllm plot runs/lstm-1
  npllm plot runs/lstm-1 --out curves.png
  npllm plot gradcheck --layer attention --out v.png
  npllm plot embeddings smollm2 --words king queen man woman river lake --out words.png
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "plot", "draw a picture", _DESCRIPTION, _run)
    parser.add_argument(
        "what",
        metavar="DIR|gradcheck|embeddings",
        help="a run of npllm train, or the word gradcheck or embeddings",
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="for embeddings: a run, or a public model"
    )
    parser.add_argument(
        "--words",
        nargs="+",
        metavar="WORD",
        help="for embeddings (default: the first there are)",
    )
    parser.add_argument(
        "--out",
        type=new_file(".png"),
        metavar="FILE",
        help="PNG to write (default: DIR/curves.png, gradcheck.png, embeddings.png)",
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
    words = options.what == "embeddings"
    if words != (options.model is not None):
        raise ValueError("npllm plot embeddings MODEL names a model, and the others name none")
    if options.words is not None and not words:
        raise ValueError("--words goes with npllm plot embeddings")
    if not proofs and not words and not Path(options.what).exists():
        known = ["gradcheck", "embeddings"]
        raise ValueError(no_such(options.what, known, " and the runs of npllm train"))
    named = f"{options.what}.png" if proofs or words else Path(options.what) / "curves.png"
    out = options.out or Path(named)
    if words:
        loaded = load(options.model)
        if isinstance(loaded.model, NgramLanguageModel):
            raise ValueError(f"{options.model} counts words: it has no vectors of them")
        size = loaded.model.config["vocab_size"]
        chosen = options.words or usual_words(loaded.tokenizer, size)
        plot_embeddings(out, loaded.model, loaded.tokenizer, chosen)
    elif proofs:
        plot_gradcheck(out, options.layer or "lstm", options.seed)
    else:
        plot_run(options.what, out)
    print(out)
    return 0
