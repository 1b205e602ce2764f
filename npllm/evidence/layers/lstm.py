"""Evidence on the LSTM over a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np

from npllm import layers
from npllm.checking.pair import Forward
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.layers import batch_last_lstm
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array
from npllm.layers.lstm_cell import State


def lstm_weights(
    normal: Callable[..., Array],
    width: int,
    hidden: int,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    reverse_only: bool = False,
    bias: bool = True,
    proj_size: int = 0,
    peepholes: bool = False,
) -> dict[str, Array]:
    """Return torch's parameters of an LSTM, and those that torch has no names for."""
    output_size, weights = proj_size or hidden, {}
    ends = ["_reverse"] if reverse_only else ["", "_reverse"][: 1 + bidirectional]
    for k in range(num_layers):
        for suffix in (f"l{k}{end}" for end in ends):
            weights[f"weight_ih_{suffix}"] = normal(4 * hidden, width)
            weights[f"weight_hh_{suffix}"] = normal(4 * hidden, output_size)
            if bias:
                weights[f"bias_ih_{suffix}"] = normal(4 * hidden)
                weights[f"bias_hh_{suffix}"] = normal(4 * hidden)
            if proj_size:
                weights[f"weight_hr_{suffix}"] = normal(proj_size, hidden)
            if peepholes:
                weights[f"weight_ch_{suffix}"] = normal(3 * hidden)
        width = output_size * len(ends)
    return weights


def lstm_arguments(
    source: Source,
    lead: Lead,
    n: int,
    m: int,
    *,
    single: bool = False,
    full: bool = False,
    **kind: Any,
) -> Bound:
    """Run n steps with an input of width 3 and m cells: plainly, or with every option."""
    batch = prod(lead)
    if not full:
        x = source.normal(*((n, 3) if single else (n, batch, 3)))
        weights = lstm_weights(source.normal, 3, m, **kind)
        return Bound(layers.lstm_forward, layers.lstm_backward, (x, weights))
    kind |= {"num_layers": 2, "bidirectional": True, "proj_size": 2}
    weights = lstm_weights(source.normal, 3, m, **kind)
    lengths = source.ids(n + 1, (batch,))

    def forward(x: Array, weights: dict[str, Array], state: State) -> tuple[object, object]:
        rng = np.random.default_rng(5)
        return layers.lstm_forward(
            x, weights, state, lengths=lengths, batch_first=True, dropout=0.3, rng=rng
        )

    state = (source.normal(4, batch, 2), source.normal(4, batch, m))
    return Bound(forward, layers.lstm_backward, (source.normal(batch, n, 3), weights, state))


LSTM_VARIANTS: Variants = {
    "": {},
    "single": {"single": True},
    "all": {"full": True},
    "reverse only": {"reverse_only": True},
    "peepholes": {"peepholes": True},
    "peepholes, all": {"full": True, "peepholes": True},
}


def lstm_cases(rng: Generator) -> Iterator[Case]:
    """Read a sequence with every option."""
    steps, batch, input_size, hidden = 5, 3, 2, 4
    lengths = {"lengths": np.array([3, 5, 0])}
    two: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    configurations: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "one layer": ({}, {}),
        "no bias": ({"bias": False}, {}),
        "lengths": ({}, lengths),
        "two layers, dropout": ({"num_layers": 2}, {"dropout": 0.4}),
        "bidirectional": ({"bidirectional": True}, {}),
        "two layers, bidirectional, lengths, dropout": (two, {"dropout": 0.4, **lengths}),
        "projection": ({"proj_size": 3}, {}),
        "two layers, bidirectional, projection, lengths": ({"proj_size": 3, **two}, lengths),
        "peepholes": ({"peepholes": True}, {}),
        "peepholes, lengths, no bias": ({"peepholes": True, "bias": False}, lengths),
        "bidirectional, projection, peepholes, lengths": (
            {"proj_size": 3, "peepholes": True, "bidirectional": True},
            lengths,
        ),
        "reverse only": ({"reverse_only": True}, {}),
        "reverse only, two layers, peepholes, lengths": (
            {"num_layers": 2, "reverse_only": True, "peepholes": True},
            lengths,
        ),
        "batch first": ({}, {"batch_first": True}),
    }
    for label, (sizes, options) in configurations.items():
        weights = lstm_weights(lambda *shape: rng.normal(size=shape), input_size, hidden, **sizes)
        for name, array in weights.items():
            if name.startswith(("weight_ih", "weight_hh")):
                array /= 2
        count = sum(name.startswith("weight_ih") for name in weights)
        output_size = sizes.get("proj_size", hidden)
        state = (
            rng.normal(size=(count, batch, output_size)),
            rng.normal(size=(count, batch, hidden)),
        )
        x = rng.normal(size=(steps, batch, input_size))
        x = x.swapaxes(0, 1) if options.get("batch_first") else x
        run: Forward = partial(layers.lstm_forward, **options)
        yield Case(label, _seeded_lstm(run), layers.lstm_backward, (x, weights, state))
        if label in (
            "one layer",
            "two layers, bidirectional, lengths, dropout",
            "reverse only, two layers, peepholes, lengths",
        ):
            ids, table = rng.integers(6, size=(steps, batch)), rng.normal(size=(6, input_size))
            forward = _seeded_lstm_of_ids(run)
            args = (ids, table, weights, state)
            yield Case(f"looked up, {label}", forward, layers.lstm_backward, args)
        if label == "bidirectional":
            few, table = rng.integers(3, size=(steps, batch)), rng.normal(size=(3, input_size))
            args = (few, table, weights, state)
            forward = _seeded_lstm_of_ids(run)
            yield Case(f"three words, {label}", forward, layers.lstm_backward, args)
    alone = (x[0], weights, (state[0][:, 0], state[1][:, 0]))
    yield Case("one sequence", _seeded_lstm(layers.lstm_forward), layers.lstm_backward, alone)
    yield Case("zero state", _seeded_lstm(layers.lstm_forward), layers.lstm_backward, (x, weights))


def _seeded_lstm(run: Forward) -> Forward:
    def forward(
        x: Array, weights: dict[str, Array], state: State | None = None
    ) -> tuple[object, object]:
        return run(x, weights, state, rng=np.random.default_rng(5))

    return forward


def _seeded_lstm_of_ids(run: Forward) -> Forward:
    def forward(
        ids: Array, embedding: Array, weights: dict[str, Array], state: State
    ) -> tuple[object, object]:
        return run(ids, weights, state, embedding=embedding, rng=np.random.default_rng(5))

    return forward


_stack = layers.lstm_backward


LSTM_MISTAKES = [
    *batch_last_lstm.MISTAKES,
    Mistake(
        "lstm",
        "one layer",
        "the gradient of the final state forgotten",
        "A language model's loss does not see it.",
        "An encoder's does: everything is off where the state is used.",
        _stack,
        "None if dfinal is None else (dfinal[0][k]",
        "None if True else (dfinal[0][k]",
    ),
    Mistake(
        "lstm",
        "one layer",
        "the gradient of the final state counted twice",
        "h_n is y's last step too; adding both by hand counts one of them twice.",
        "Everything is off where the state is used.",
        _stack,
        "(dfinal[0][k], dfinal[1][k])",
        "(2 * dfinal[0][k], dfinal[1][k])",
    ),
    Mistake(
        "lstm",
        "bidirectional",
        "the reverse direction's gradient not turned round",
        "A sequence and its reverse have one shape.",
        "The weights are right, dx is not; with an odd T its middle step is.",
        _stack,
        "if reverse:",
        "if False:",
        cause="slices",
    ),
    Mistake(
        "lstm",
        "bidirectional",
        "one direction's gradient overwrites the other's",
        "Both have the shape of x.",
        "Only dx is wrong.",
        _stack,
        "dseen if below is None else below + dseen",
        "dseen",
    ),
    Mistake(
        "lstm",
        "bidirectional",
        "the states' gradients in reverse order",
        "Layers are walked from the top; their states are stacked from the bottom.",
        "The right slices in the wrong order.",
        _stack,
        "dstate = (np.stack(dh0), np.stack(dc0))",
        "dstate = (np.stack(dh0[::-1]), np.stack(dc0))",
        cause="permuted",
    ),
    Mistake(
        "lstm",
        "two layers, dropout",
        "the dropout between layers forgotten on the way back",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "The upper layer is right, the lower is not.",
        _stack,
        "else dropout_backward(below, dropouts[depth - 1])",
        "else below",
    ),
    Mistake(
        "lstm",
        "batch first",
        "a reshape for the swap of batch and time",
        "Both turn (B, T, H) into (T, B, H).",
        "Sequences of different rows are mixed; right for a batch of one.",
        _stack,
        "dout = dout.swapaxes(0, 1)\n    dh0",
        "dout = dout.reshape(dout.shape[1], dout.shape[0], -1)\n    dh0",
    ),
    Mistake(
        "lstm",
        "reverse only",
        "a lone reverse direction's dy not turned round",
        "In a pair of directions the reverse one is the second, and so it was told by its place.",
        "Right in a pair, wrong alone.",
        _stack,
        "_reversed(pieces[offset], lengths) if reverse else pieces[offset]",
        "_reversed(pieces[offset], lengths) if offset else pieces[offset]",
    ),
    Mistake(
        "lstm",
        "reverse only",
        "a lone reverse direction's dx not turned round",
        "As above.",
        "The weights are right, dx is not; with an odd T its middle step is.",
        _stack,
        "if reverse:",
        "if reverse and offset:",
        cause="permuted",
    ),
    Mistake(
        "lstm",
        "reverse only, two layers, peepholes, lengths",
        "turned round over the padding too",
        "Without padding the two are one.",
        "Sequences shorter than the batch's longest are wrong.",
        _stack,
        "dseen = _reversed(dseen, lengths)",
        "dseen = dseen[::-1]",
    ),
]
