"""Pictures of the chapter on byte pair encoding."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from docs.book.pictures import COLOURS, GREY
from npllm.text import (
    BytePairTokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
    load_text,
    split_text,
)

SIZES = (2 ** np.arange(8, 14)).tolist()


def bpe() -> Figure:
    """Draw characters a token over the size of the vocabulary."""
    train, held_out = split_text(load_text())
    whole = BytePairTokenizer.train(train, size=SIZES[-1])
    pairs = [  # what is learned first is the same for any size
        BytePairTokenizer(whole.token_bytes[:size], whole.merges[: size - 256]) for size in SIZES
    ]
    characters = CharacterTokenizer.train(train + held_out)
    words = [WordTokenizer.train(train, size=size, alphabet=train + held_out) for size in SIZES[1:]]
    figure = Figure()
    axes = figure.subplots()
    axes.semilogx(SIZES, [_length(t, train) for t in pairs], "o-", base=2)
    axes.semilogx(SIZES, [_length(t, held_out) for t in pairs], "o-", base=2)
    axes.plot(SIZES[1:], [_length(t, held_out) for t in words], "^:", color=COLOURS[2])
    axes.plot(len(characters.vocabulary), 1, "s", color=GREY)
    axes.set_xlabel("$V$")
    axes.set_ylabel("$c / n$")
    axes.set_ylim(0, None)
    return figure


def _length(tokenizer: Tokenizer, text: str) -> float:
    """Return how many characters a token has."""
    return len(text) / len(tokenizer.encode(text))
