"""Pictures of the chapter on counting words."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.ngram import NgramLanguageModel
from npllm.text import CharacterTokenizer, load_text, split_text

ORDERS = range(1, 9)
SMOOTHINGS = {"add-k": "o", "witten-bell": "s", "kneser-ney": "^"}


def ngram_orders() -> Figure:
    """Draw the bits a character of held-out text over the order, for each smoothing."""
    learned, held_out = split_text(load_text(), 0.1)
    tokenizer = CharacterTokenizer.train(learned)
    ids = tokenizer.encode(learned)
    other = tokenizer.encode("".join(c for c in held_out if c in tokenizer.vocabulary))
    figure = Figure()
    axes = figure.subplots()
    for smoothing, marker in SMOOTHINGS.items():
        bits = []
        for order in ORDERS:
            model = NgramLanguageModel.count(
                ids, len(tokenizer.vocabulary), order=order, smoothing=smoothing, k=0.1
            )
            total, _ = model.score(other[None, :-1], other[None, 1:])
            bits.append(total / (len(other) - 1) / np.log(2))
        axes.plot(ORDERS, bits, marker=marker)
    axes.set(xlabel="$n$", ylim=(0, None))
    return figure
