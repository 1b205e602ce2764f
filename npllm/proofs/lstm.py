"""Cases of the LSTM and of the model of section 5."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npllm import layers
from npllm.layers.arrays import Array
from npllm.models import LSTMLanguageModel
from npllm.proofs.case import Case, Generator


def lstm_cell(rng: Generator) -> Iterator[Case]:
    """Take one step."""
    x, h, c = rng.normal(size=(3, 5)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    weights = [rng.normal(size=size) / 2 for size in ((16, 5), (16, 4), 16, 16)]
    pair = (layers.lstm_cell_forward, layers.lstm_cell_backward)
    yield Case("bias", *pair, (x, h, c, *weights))
    yield Case("no bias", *pair, (x, h, c, *weights[:2]))
    peepholes = rng.normal(size=12)
    yield Case("peepholes", *pair, (x, h, c, *weights, peepholes))

    def without_bias(
        x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, weight_ch: Array
    ) -> tuple[Any, Any]:
        return layers.lstm_cell_forward(x, h, c, weight_ih, weight_hh, weight_ch=weight_ch)

    args = (x, h, c, *weights[:2], peepholes)
    yield Case("peepholes, no bias", without_bias, layers.lstm_cell_backward, args)


def _lstm_weights(
    rng: Generator,
    input_size: int,
    hidden: int,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    reverse_only: bool = False,
    bias: bool = True,
    projection: int = 0,
    peepholes: bool = False,
) -> dict[str, Array]:
    shown = projection or hidden
    ends = ["_reverse"] if reverse_only else ["", "_reverse"][: 1 + bidirectional]
    weights = {}
    for layer in range(num_layers):
        width = input_size if layer == 0 else shown * len(ends)
        for suffix in (f"l{layer}{end}" for end in ends):
            weights[f"weight_ih_{suffix}"] = rng.normal(size=(4 * hidden, width)) / 2
            weights[f"weight_hh_{suffix}"] = rng.normal(size=(4 * hidden, shown)) / 2
            if bias:
                weights[f"bias_ih_{suffix}"] = rng.normal(size=4 * hidden)
                weights[f"bias_hh_{suffix}"] = rng.normal(size=4 * hidden)
            if projection:
                weights[f"weight_hr_{suffix}"] = rng.normal(size=(projection, hidden))
            if peepholes:
                weights[f"weight_ch_{suffix}"] = rng.normal(size=3 * hidden)
    return weights


def lstm(rng: Generator) -> Iterator[Case]:
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
        "projection": ({"projection": 3}, {}),
        "two layers, bidirectional, projection, lengths": ({"projection": 3, **two}, lengths),
        "peepholes": ({"peepholes": True}, {}),
        "peepholes, lengths, no bias": ({"peepholes": True, "bias": False}, lengths),
        "two layers, bidirectional, projection, peepholes, lengths": (
            {"projection": 3, "peepholes": True, **two},
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
        weights = _lstm_weights(rng, input_size, hidden, **sizes)
        count = sum(name.startswith("weight_ih") for name in weights)
        shown = sizes.get("projection", hidden)
        state = rng.normal(size=(count, batch, shown)), rng.normal(size=(count, batch, hidden))
        x = rng.normal(size=(steps, batch, input_size))
        x = x.swapaxes(0, 1) if options.get("batch_first") else x
        yield Case(label, _seeded_lstm(options), layers.lstm_backward, (x, weights, state))
        if label in (
            "one layer",
            "two layers, bidirectional, lengths, dropout",
            "reverse only, two layers, peepholes, lengths",
        ):
            ids, table = rng.integers(6, size=(steps, batch)), rng.normal(size=(6, input_size))
            forward = _seeded_lstm_of_ids(options)
            args = (ids, table, weights, state)
            yield Case(f"looked up, {label}", forward, layers.lstm_backward, args)
    alone = (x[0], weights, (state[0][:, 0], state[1][:, 0]))
    yield Case("one sequence", _seeded_lstm({}), layers.lstm_backward, alone)
    yield Case("zero state", _seeded_lstm({}), layers.lstm_backward, (x, weights))


def _seeded_lstm(options: dict[str, Any]) -> Callable[..., tuple[Any, Any]]:
    def forward(x: Array, weights: dict[str, Array], state: Any = None) -> tuple[Any, Any]:
        rng = np.random.default_rng(5)
        return layers.lstm_forward(x, weights, state, rng=rng, **options)

    return forward


def _seeded_lstm_of_ids(options: dict[str, Any]) -> Callable[..., tuple[Any, Any]]:
    def forward(
        ids: Array, embedding: Array, weights: dict[str, Array], state: Any
    ) -> tuple[Any, Any]:
        rng = np.random.default_rng(5)
        return layers.lstm_forward(ids, weights, state, embedding=embedding, rng=rng, **options)

    return forward


def language_model(rng: Generator) -> Iterator[Case]:
    """Train the model of section 5."""
    ids = rng.integers(7, size=(3, 5))
    targets = rng.integers(7, size=(3, 5))
    targets[1, 2] = -100
    base = {"vocab_size": 7, "embed_size": 3, "hidden_size": 4}
    configurations: dict[str, dict[str, Any]] = {
        "section 5": base,
        "more words than positions": {**base, "vocab_size": 17},
        "two layers": {**base, "num_layers": 2},
        "two layers, dropout": {**base, "num_layers": 2, "dropout": 0.3},
        "tied weights": {**base, "embed_size": 4, "tie_weights": True},
        "two layers, tied weights, dropout": {
            **base,
            "embed_size": 4,
            "num_layers": 2,
            "dropout": 0.3,
            "tie_weights": True,
        },
    }
    for label, config in configurations.items():
        like = LSTMLanguageModel(**config, dtype=np.float64)
        parameters = {n: rng.normal(size=shape) for n, shape in like.parameters.shapes.items()}
        size = (config.get("num_layers", 1), len(ids), config["hidden_size"])
        state = rng.normal(size=size), rng.normal(size=size)

        def forward(
            ids: Array, parameters: dict[str, Array], config: Any = config, state: Any = state
        ) -> tuple[Array, Any]:
            dtype = parameters["fc.bias"].dtype
            model = LSTMLanguageModel(**config, dtype=dtype)
            model.parameters.load(parameters)
            logits, cache = model.forward(
                ids, (state[0].astype(dtype), state[1].astype(dtype)), np.random.default_rng(5)
            )
            loss, loss_cache = layers.cross_entropy_forward(logits, targets)
            return loss, (model, cache, loss_cache)

        yield Case(label, forward, _language_model_backward, (ids, parameters))


def _language_model_backward(dloss: Array, cache: Any) -> dict[str, Array]:
    model, model_cache, loss_cache = cache
    dlogits = layers.cross_entropy_backward(dloss, loss_cache)
    gradients = model.backward(dlogits, model_cache)
    return {name: gradients[name] for name in gradients.shapes}
