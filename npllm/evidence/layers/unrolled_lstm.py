"""Evidence on the LSTM over a sequence as it is read."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from npllm import layers
from npllm.checking.pair import Forward
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.layers.lstm import lstm_weights
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array
from npllm.layers.lstm import NAMES


def _named(names: list[str], lengths: Array | None) -> Forward:
    """Return the layer as a function of x, h0, c0 and the weights of these names."""

    def forward(x: Array, h0: Array, c0: Array, *weights: Array) -> tuple[object, object]:
        own = dict(zip(names, weights, strict=True))
        return layers.unrolled_lstm_forward(x, h0, c0, **own, lengths=lengths)

    return forward


def _weights(normal: Any, width: int, hidden: int, **kind: Any) -> dict[str, Array]:
    """Return one direction's weights, by the layer's names and in its order."""
    weights = lstm_weights(normal, width, hidden, **kind)
    return {name: weights[f"{name}_l0"] for name in NAMES if f"{name}_l0" in weights}


def unrolled_lstm_arguments(
    source: Source, lead: Lead, n: int, m: int, *, full: bool = False
) -> Bound:
    """Run n steps with an input of width 3 and m cells: plainly, or with every option."""
    batch = prod(lead)
    weights = _weights(source.normal, 3, m, proj_size=2 * full, peepholes=full)
    lengths = source.ids(n + 1, (batch,)) if full else None
    state = (source.normal(batch, 2 if full else m), source.normal(batch, m))
    args = (source.normal(n, batch, 3), *state, *weights.values())
    return Bound(_named(list(weights), lengths), layers.unrolled_lstm_backward, args)


UNROLLED_LSTM_VARIANTS: Variants = {"": {}, "all": {"full": True}}


def unrolled_lstm_cases(rng: Generator) -> Iterator[Case]:
    """Read a sequence in one direction."""
    lengths = np.array([3, 5, 0])
    kinds: dict[str, tuple[dict[str, Any], Array | None]] = {
        "bias": ({}, None),
        "no bias": ({"bias": False}, None),
        "lengths": ({}, lengths),
        "projection": ({"proj_size": 3}, None),
        "peepholes": ({"peepholes": True}, None),
        "projection, peepholes, lengths": ({"proj_size": 3, "peepholes": True}, lengths),
    }
    for label, (kind, real) in kinds.items():
        weights = _weights(lambda *shape: rng.normal(size=shape) / 2, 2, 4, **kind)
        state = rng.normal(size=(3, kind.get("proj_size", 4))), rng.normal(size=(3, 4))
        args = (rng.normal(size=(5, 3, 2)), *state, *weights.values())
        yield Case(label, _named(list(weights), real), layers.unrolled_lstm_backward, args)


_backward = layers.unrolled_lstm_backward


UNROLLED_LSTM_MISTAKES = [
    Mistake(
        "unrolled_lstm",
        "bias",
        "the weights keep the first step's gradient",
        "= for +=: each step's gradient has the shape of the sum.",
        "The input's gradient is right, the weights' are those of one step.",
        _backward,
        "dweight += of_step",
        "dweight[...] = of_step",
    ),
    Mistake(
        "unrolled_lstm",
        "bias",
        "the hidden state's gradient not carried from step to step",
        "The cell's is, and the loss falls.",
        "The last step's input is right, all before are not.",
        _backward,
        "dh + dh_cell, dc + dc_cell",
        "dh, dc + dc_cell",
        cause="last_step",
    ),
    Mistake(
        "unrolled_lstm",
        "bias",
        "the steps walked forwards in the backward",
        "All steps are met, and each has its own cache.",
        "A state's gradient reaches the step after it in the place of the one before.",
        _backward,
        "reversed(range(len(cells)))",
        "range(len(cells))",
    ),
    Mistake(
        "unrolled_lstm",
        "lengths",
        "the hidden state's gradient stopped by the padding",
        "Without padding there is nothing to hand on.",
        "Sequences shorter than the batch's longest miss the final state's gradient.",
        _backward,
        "np.where(real, 0, dh)",
        "np.zeros_like(dh)",
    ),
    Mistake(
        "unrolled_lstm",
        "lengths",
        "padding steps trained",
        "They hold numbers like any other step.",
        "Sequences shorter than the batch's longest are wrong.",
        _backward,
        "np.where(real, dout[t] + dh, 0), np.where(real, dc, 0)",
        "dout[t] + dh, dc",
    ),
    Mistake(
        "unrolled_lstm",
        "projection",
        "the projections taken in the order in which they were made",
        "A list of caches is popped from its end, or walked from its start; all have one shape.",
        "Only the projection is wrong: a step's gradient meets another step's output.",
        _backward,
        "dh_next, *dhr = linear_backward(dh_next, projections[t])",
        "dh_next, *dhr = linear_backward(dh_next, projections[len(cells) - 1 - t])",
    ),
]
