"""``npllm evaluate``."""

from __future__ import annotations

import argparse

import numpy as np

from npllm.cli.generate import add_model, named_model
from npllm.cli.parser import Commands, add_command, add_seed, add_threads, positive
from npllm.generation import generate
from npllm.loading import load
from npllm.models import LanguageModel
from npllm.ngram import NgramLanguageModel
from npllm.text import Tokenizer, load_text, split_text
from npllm.text.tokenizers import said_around
from npllm.training import LanguageModellingOptions
from npllm.training.description import load_options
from npllm.training.evaluation import score
from npllm.training.workers import usual_workers
from npllm.training.written import ORDERS, WITHIN, variety

_DESCRIPTION = """\
Score a text with a trained model.

Every token but the first is scored by the probability that the model gives it after those before:
the mean of -log p is the loss in nats, its exponential the perplexity, and in bits, spread over the
characters, it compares between tokenizers. Without --data it is the run's own held-out text.
Another text may hold only characters that the training text has: the model knows no others.

With --written the model writes so many tokens, each drawn from its own distribution, and these are
measured: the share of their n-grams that is distinct, the share of tokens that are among the 128
before, beside those of as much of the text; and, with --judge, how many bits a character another
model gives them.

  npllm evaluate runs/lstm-1
  npllm evaluate runs/lstm-1 --data other.txt
  npllm evaluate --model smollm2 --data other.txt
  npllm evaluate runs/lstm-1 --written 2000 --judge runs/gpt-1
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "evaluate", "score a text with a model", _DESCRIPTION, _run)
    add_model(parser)
    parser.add_argument("--data", metavar="FILE", help="UTF-8 text (default: the run's held-out)")
    parser.add_argument(
        "--written", type=positive, metavar="N", help="measure N tokens that the model writes"
    )
    parser.add_argument("--judge", metavar="MODEL", help="which scores what was written")
    add_seed(parser, "draws what is written; scoring draws nothing at random")
    add_threads(parser, "shares of the text")


def _run(options: argparse.Namespace) -> int:
    if options.judge is not None and options.written is None:
        raise ValueError("--judge scores what is written: add --written N")
    name = named_model(options)
    model, tokenizer, chat, _ = load(name)
    if options.data is None:
        if chat is not None:
            raise ValueError(f"{name} has no text of its own: name one, --data FILE")
        recorded, digest = learned_text(name)
        _, text = split_text(recorded.read(digest), recorded.held_out)
    else:
        text = load_text(options.data)
    result = score(model, tokenizer, text, options.threads or usual_workers())
    print(f"tokens scored       {result.tokens}")
    print(f"loss                {result.loss:.6f} nats a token")
    print(f"perplexity          {result.perplexity:.6f}")
    print(f"bits per character  {result.bits_per_character:.6f}")
    if around := said_around(tokenizer):
        print(around)
    if options.written is not None:
        _show_written(options, model, tokenizer, text)
    return 0


def learned_text(directory: str) -> tuple[LanguageModellingOptions, str]:
    """Return the options of a run that learned a text, and the text's digest.

    Raises:
        OSError: there is no run, or it cannot be read.
        ValueError: it learned something else; or as :func:`load_options`.
    """
    options, digest = load_options(directory)
    if not isinstance(options, LanguageModellingOptions):
        raise ValueError(f"{directory} learned {options.TASK}, and is no language model")
    return options, digest


def _show_written(
    options: argparse.Namespace,
    model: LanguageModel | NgramLanguageModel,
    tokenizer: Tokenizer,
    text: str,
) -> None:
    """Print the measures of what a model writes after a text's first token."""
    ids = tokenizer.encode(text)
    rng = np.random.default_rng(options.seed)
    drawn = np.fromiter(generate(model, ids[:1], options.written, rng), np.int64)
    beside = ids[1 : len(drawn) + 1]
    own, real = variety(drawn), variety(beside)
    print(f"\ntokens              {f'{len(drawn)} written':<20}{len(beside)} of the text")
    for n, of_own, of_real in zip(ORDERS, own.distinct, real.distinct, strict=True):
        print(f"distinct {n}-grams    {of_own:.4f}              {of_real:.4f}")
    print(f"repeated in {WITHIN}     {own.repeated:.4f}              {real.repeated:.4f}")
    if options.judge is not None:
        judge, words, *_ = load(options.judge)
        found = score(judge, words, tokenizer.decode(drawn), options.threads or usual_workers())
        print(f"bits per character  {found.bits_per_character:.4f}, by {options.judge}")
