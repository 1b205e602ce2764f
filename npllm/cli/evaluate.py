"""``npllm evaluate``."""

from __future__ import annotations

import argparse

from npllm.cli.generate import add_model, named_model
from npllm.cli.parser import Commands, add_command, add_seed, add_threads
from npllm.loading import load
from npllm.text import load_text, split_text
from npllm.training import LanguageModellingOptions
from npllm.training.counting import score
from npllm.training.description import load_options
from npllm.training.workers import usual_workers

_DESCRIPTION = """\
Score a text with a trained model.

Every token but the first is scored by the probability that the model gives it after those before:
the mean of -log p is the loss in nats, its exponential the perplexity, and in bits, spread over the
characters, it compares between tokenizers. Without --data it is the run's own held-out text.
Another text may hold only characters that the training text has: the model knows no others.

  npllm evaluate runs/lstm-1
  npllm evaluate runs/lstm-1 --data other.txt
  npllm evaluate --model smollm2 --data other.txt
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "evaluate", "score a text with a model", _DESCRIPTION, _run)
    add_model(parser)
    parser.add_argument("--data", metavar="FILE", help="UTF-8 text (default: the run's held-out)")
    add_seed(parser, "for symmetry with the other commands: scoring draws nothing at random")
    add_threads(parser, "shares of the text")


def _run(options: argparse.Namespace) -> int:
    name = named_model(options)
    model, tokenizer, chat, _ = load(name)
    if options.data is None:
        if chat is not None:
            raise ValueError(f"{name} has no text of its own: name one, --data FILE")
        recorded, digest = load_options(name)
        if not isinstance(recorded, LanguageModellingOptions):
            raise ValueError(f"{name} learned {recorded.TASK}: name a text, --data FILE")
        _, text = split_text(recorded.read(digest), recorded.held_out)
    else:
        text = load_text(options.data)
    result = score(model, tokenizer, text, options.threads or usual_workers())
    print(f"tokens scored       {result.tokens}")
    print(f"loss                {result.loss:.6f} nats a token")
    print(f"perplexity          {result.perplexity:.6f}")
    print(f"bits per character  {result.bits_per_character:.6f}")
    return 0
