"""How well a model predicts a text: every token of it but the first, scored once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.models import LanguageModel
from npllm.ngram import NgramLanguageModel
from npllm.text.tokenizers import Ids, Tokenizer, encode_whole
from npllm.training.shares import slices
from npllm.training.workers import Workers

SPAN = 1024  # tokens after which a Transformer begins anew, if its context is not shorter
HELD = 2**13  # tokens whose keys and values are held at a time


@dataclass(frozen=True)
class Evaluation:
    """The measures of a text.

    Attributes:
        nats: the summed loss.
        tokens: how many tokens were scored.
        characters: how many characters these tokens are.

    >>> evaluation = Evaluation(nats=math.log(8) * 10, tokens=10, characters=30)
    >>> round(evaluation.perplexity, 9), round(evaluation.bits_per_character, 9)
    (8.0, 1.0)
    """

    nats: float
    tokens: int
    characters: int

    @property
    def loss(self) -> float:
        """The mean loss of a token, in nats; NaN where there is none."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """exp(loss): among how many equally likely tokens the model is undecided."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def bits_per_character(self) -> float:
        """The loss in bits, spread over the characters: comparable between tokenizers."""
        return self.nats / math.log(2) / self.characters if self.characters else math.nan


def scored_characters(tokenizer: Tokenizer, ids: Ids) -> int:
    """Return how many characters the tokens of a text are, but for the first, which none predicts.

    >>> from npllm.text import WordTokenizer
    >>> tokenizer = WordTokenizer.train("to be, to be", 9)
    >>> scored_characters(tokenizer, tokenizer.encode(" be, to"))  # all but the word " be"
    4
    """
    return len(tokenizer.decode(ids)) - len(tokenizer.decode(ids[:1]))


def _checked_characters(tokenizer: Tokenizer, ids: Ids) -> int:
    """Return how many characters are scored; raise ValueError where there are none."""
    if len(ids) < 2:
        raise ValueError(f"a text must have at least 2 tokens to be scored, got {len(ids)}")
    characters = scored_characters(tokenizer, ids)
    if characters < 1:  # one character may be several tokens
        raise ValueError("a text must have at least 2 characters to be scored: use a longer one")
    return characters


def score(
    model: LanguageModel | NgramLanguageModel, tokenizer: Tokenizer, text: str, threads: int = 1
) -> Evaluation:
    """Return the measures of a text.

    Args:
        model: of any kind.
        tokenizer: its own.
        text: at least two tokens.
        threads: processes that share the work, where there is more than a pass over tables.

    Raises:
        ValueError: the text is too short, or has characters that the vocabulary lacks.
    """
    if isinstance(model, NgramLanguageModel):  # as one stream: a word takes little memory
        # where there are sentences one ends before the first word, which so is scored, too
        begin = "" if model.end is None or text.startswith("\n") else "\n"
        ids = tokenizer.encode(begin + text)
        characters = _checked_characters(tokenizer, ids)
        nats, _ = model.score(ids[None, :-1], ids[None, 1:])
        return Evaluation(nats, len(ids) - 1, characters)
    with Workers(model, count=threads).working() as workers:
        return evaluate(workers, tokenizer, encode_whole(tokenizer, text))


def evaluate(
    workers: Workers,
    tokenizer: Tokenizer,
    ids: Ids,
    *,
    streams: int = 32,
    length: int = 128,
) -> Evaluation:
    """Score a text's tokens from the second to the last.

    The text is cut in streams that are read side by side, each from a zero state; the short last
    one is filled up with tokens that do not count.

    Args:
        workers: each scores its share of the streams with its model.
        tokenizer: tells the tokens' characters.
        ids: the text, at least two tokens.
        streams: how many, fewer for a short text.
        length: how many tokens are scored at a time. A model with a last position begins anew where
            it has no room for the next stretch, after SPAN tokens at the latest.

    Raises:
        ValueError: the text has fewer than two tokens, or than two characters.
    """
    characters = _checked_characters(tokenizer, ids)
    tokens, stretches = len(ids) - 1, len(ids)
    if workers.model.context is not None:
        span = min(workers.model.context, SPAN)
        length, streams = min(length, span), min(streams, max(1, HELD // span))
        stretches = span // length
    streams = max(1, min(streams, tokens // length))
    width = -(-tokens // streams)
    inputs = np.zeros((streams, width), np.int64)
    targets = np.full((streams, width), -100)
    inputs.flat[:tokens], targets.flat[:tokens] = ids[:-1], ids[1:]
    shares = [
        (inputs[rows], targets[rows], length, stretches)
        for rows in slices(streams, min(workers.count, streams))
    ]
    return Evaluation(sum(workers.map(_score, shares)), tokens, characters)


def _score(model: LanguageModel, inputs: Ids, targets: Ids, length: int, stretches: int) -> float:
    """Return the summed loss of streams, the state anew after so many stretches of a length."""
    state: Any = None
    nats = 0.0
    for number, start in enumerate(range(0, inputs.shape[1], length)):
        window = slice(start, start + length)
        if number % stretches == 0:
            state = None
        loss, state = model.score(inputs[:, window], targets[:, window], state)
        nats += loss
    return nats
