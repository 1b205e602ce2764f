"""``npllm generate``."""

from __future__ import annotations

import argparse

import numpy as np

from npllm.checkpoint import load_model
from npllm.cli.parser import Commands, add_command, add_seed, positive
from npllm.generation import Predictor, generate
from npllm.text import Tokenizer

_DESCRIPTION = """\
Write text with a trained model, token by token, as it is drawn.

The model gives a probability for each token that may come next; one is drawn, appended, and so on.
--temperature below 1 keeps to the likely, above 1 dares more, 0 always takes the likeliest;
--top-k and --top-p leave the unlikely out. The same seed writes the same text.

  npllm generate runs/lstm-1 --prompt "The statement" --tokens 300
  npllm generate runs/lstm-1 --temperature 0.5 --top-p 0.95 --seed 7
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "generate", "write text with a model", _DESCRIPTION, _run)
    parser.add_argument("directory", metavar="DIR", help="a run of npllm train, or a checkpoint")
    parser.add_argument(
        "--prompt", metavar="TEXT", help="begin with this text (default: the vocabulary's first)"
    )
    parser.add_argument(
        "--tokens", type=positive, default=500, metavar="N", help="how many to write (default: 500)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.8, metavar="X", help="see above (default: 0.8)"
    )
    parser.add_argument("--top-k", type=positive, metavar="K", help="keep the K likeliest tokens")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="keep the fewest tokens that reach P together"
    )
    add_seed(parser, "draws the text")


def _run(options: argparse.Namespace) -> int:
    model, tokenizer = load_model(options.directory)
    prompt = tokenizer.vocabulary[0] if options.prompt is None else options.prompt
    write(
        model,
        tokenizer,
        prompt,
        options.tokens,
        np.random.default_rng(options.seed),
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    return 0


def write(
    model: Predictor,
    tokenizer: Tokenizer,
    prompt: str,
    tokens: int,
    rng: np.random.Generator,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
) -> None:
    """Print a prompt and what the model writes after it, as it is written.

    Raises:
        ValueError: the prompt is empty or has characters that the vocabulary lacks.
    """
    ids = tokenizer.encode(prompt)
    drawn = generate(model, ids, tokens, rng, temperature=temperature, top_k=top_k, top_p=top_p)
    print(prompt, end="", flush=True)
    for token in drawn:
        print(tokenizer.decode([token]), end="", flush=True)
    print()
