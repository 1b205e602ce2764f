"""Evidence on the LSTM that reads both ways, and weighs what it has read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from npllm.evidence.case import Case, Configuration, Generator
from npllm.evidence.mistake import Mistake
from npllm.evidence.models.trained import labelled_batch, trained
from npllm.models import LSTMClassifier

_LSTM = {"vocab_size": 7, "classes": 3, "embed_size": 3, "hidden_size": 4}


MODEL_CONFIGURATIONS = (
    Configuration("texts of one length", _LSTM),
    Configuration("one text, one word", _LSTM, batch_size=1, steps=1),
    Configuration("texts of unequal length", _LSTM, batch_size=4, lengths=True),
    Configuration("two layers, dropout", {**_LSTM, "num_layers": 2, "dropout": 0.3}),
    # one layer: what two return differs little, and the gradient of attention's bias cancels out
    Configuration(
        "small: one layer, dropout, lengths",
        {"vocab_size": 5, "classes": 3, "embed_size": 3, "hidden_size": 4, "dropout": 0.4},
        lengths=True,
        quick=True,
    ),
)


def model_cases(rng: Generator) -> Iterator[Case]:
    """Train one layer, and two with dropout between."""
    base: dict[str, Any] = {"vocab_size": 5, "classes": 3, "embed_size": 3, "hidden_size": 2}
    two = base | {"num_layers": 2, "dropout": 0.3}
    for label, config in {"one layer": base, "two layers, dropout": two}.items():
        yield from trained(label, partial(LSTMClassifier, **config), labelled_batch(rng), rng)


_pooled = LSTMClassifier.pooled_backward
_softmax = "softmax_backward(dweights, cache.softmax)"
_lstm = "(dh + dh_u).swapaxes(0, 1)"


MODEL_MISTAKES = [
    Mistake(
        "LSTMClassifier",
        "one layer",
        "the weights taken for constants",
        "pooled = sum a h looks like a sum of h: the loss falls, by the LSTM alone.",
        "Attention's own parameters have no gradient.",
        _pooled,
        _softmax,
        "0 * dweights",
        cause="zero",
    ),
    Mistake(
        "LSTMClassifier",
        "one layer",
        "the outputs' gradient through their weights alone",
        "dh has the shape of dh + dh_u.",
        "Attention is right, the LSTM and the words are not.",
        _pooled,
        _lstm,
        "dh_u.swapaxes(0, 1)",
    ),
    Mistake(
        "LSTMClassifier",
        "one layer",
        "the outputs' gradient past their weights",
        "As above, the other share.",
        "Attention is right, the LSTM and the words are not.",
        _pooled,
        _lstm,
        "dh.swapaxes(0, 1)",
    ),
    Mistake(
        "LSTMClassifier",
        "one layer",
        "the softmax's gradient centred by the mean over all places",
        "Softmax's backward takes off a mean, and np.mean is one: but each place has its weight.",
        "What fills a row up counts, and has a gradient: all below the weights is wrong.",
        _pooled,
        _softmax,
        "cache.weights * (dweights - dweights.mean(axis=-1, keepdims=True))",
    ),
    Mistake(
        "LSTMClassifier",
        "one layer",
        "the LSTM's steps reshaped instead of turned",
        "(B, T, 2H) and (T, B, 2H) hold as many numbers.",
        "Steps and texts are mixed; with one text, or one word, it is right.",
        _pooled,
        _lstm,
        "(dh + dh_u).reshape((dh + dh_u).swapaxes(0, 1).shape)",
    ),
    Mistake(
        "LSTMClassifier",
        "two layers, dropout",
        "only the forward direction trained",
        "A loop over the names that torch has for one direction.",
        "Zero where it must not be.",
        _pooled,
        "for name, gradient in drnn.items():",
        'for name, gradient in ((n, g) for n, g in drnn.items() if "reverse" not in n):',
        cause="zero",
    ),
    Mistake(
        "LSTMClassifier",
        "one layer",
        "the tanh of the attention forgotten on the way back",
        "It has no parameters, and one shape on both sides.",
        "What stands above it is right: the context alone, and the last layer.",
        _pooled,
        "du = tanh_backward(du, cache.tanh)",
        "pass",
    ),
]
