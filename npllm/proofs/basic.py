"""What ``npllm gradcheck`` proves: every layer and the model of section 5, in many configurations.

A case is a forward, its backward and arguments for :func:`npllm.checking.gradcheck`. Sizes are odd
and differ from one another, no parameter is trivial, ids repeat, and a layer that draws at random
draws the same mask each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from npllm import layers
from npllm.layers.arrays import Array
from npllm.models import LSTMLanguageModel


class Case(NamedTuple):
    """One configuration of a layer or model.

    Attributes:
        label: what distinguishes it.
        forward: ``forward(*args) -> (y, cache)``.
        backward: ``backward(dy, cache)`` -> gradients.
        args: in float64, ids aside.
        sizes: numbers that a wrong factor may be, by name, for the diagnosis.
    """

    label: str
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Any], Any]
    args: tuple[Any, ...]
    sizes: Mapping[str, float] | None = None


Generator = np.random.Generator
Cases = Callable[[Generator], Iterator[Case]]


def _embedding(rng: Generator) -> Iterator[Case]:
    ids = np.array([[4, 0, 4], [2, 4, 1]])
    for label, padding_idx in (("repeated ids", None), ("padding_idx", 4)):

        def forward(
            ids: Array, weight: Array, padding_idx: int | None = padding_idx
        ) -> tuple[Array, Any]:
            # a row that is not trained is a constant: it must not move with the weight
            y, cache = layers.embedding_forward(ids, weight, padding_idx)
            trained = np.ones(ids.shape, bool) if padding_idx is None else ids != padding_idx
            return np.where(trained[..., None], y, np.zeros((), y.dtype)), cache

        yield Case(label, forward, layers.embedding_backward, (ids, rng.normal(size=(5, 3))))


def _linear(rng: Generator) -> Iterator[Case]:
    x, weight, bias = rng.normal(size=(2, 3, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    yield Case("bias", layers.linear_forward, layers.linear_backward, (x, weight, bias))
    yield Case("no bias", layers.linear_forward, layers.linear_backward, (x, weight))


def _elementwise(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    rng: Generator,
    **options: Any,
) -> Iterator[Case]:
    for label, scale in (("small", 1.0), ("large", 6.0)):
        x = scale * rng.normal(size=(3, 5))
        yield Case(label, partial(forward, **options), backward, (x,))


def _along_axis(
    forward: Callable[..., tuple[Any, Any]], backward: Callable[[Any, Any], Any], rng: Generator
) -> Iterator[Case]:
    for axis in (-1, 0):
        x = 2 * rng.normal(size=(4, 3, 5))
        yield Case(f"axis {axis}", partial(forward, axis=axis), backward, (x,))


def _dropout(rng: Generator) -> Iterator[Case]:
    x = rng.normal(size=(4, 7))
    for p in (0.3, 0.0, 1.0):

        def forward(x: Array, p: float = p) -> tuple[Array, Any]:
            return layers.dropout_forward(x, p, np.random.default_rng(5))

        yield Case(f"p = {p}", forward, layers.dropout_backward, (x,), {"p": p})


def _attention(rng: Generator) -> Iterator[Case]:
    q, k, v = (rng.normal(size=size) for size in ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)))
    mask = rng.random((4, 6)) < 0.6
    mask[2] = False  # a query that sees nothing
    shared_k, shared_v = k[:, :1], v[0, 0]  # broadcast over heads, and over batch and heads
    configurations: dict[str, tuple[tuple[Array, ...], dict[str, Any]]] = {
        "plain": ((q, k, v), {}),
        "square": (tuple(rng.normal(size=(2, 5, 5)) for _ in range(3)), {}),  # T = D = Dv
        "causal, Tq < Tk": ((q, k, v), {"causal": True}),
        "causal, Tq > Tk": ((q, k[..., :3, :], v[..., :3, :]), {"causal": True}),
        "mask with an empty row": ((q, k, v), {"mask": mask}),
        "mask and causal": ((q, k, v), {"mask": mask, "causal": True}),
        "bias": ((q, k, v, rng.normal(size=(3, 1, 6))), {}),
        "scale": ((q, k, v), {"scale": 0.7}),
        "dropout": ((q, k, v), {"dropout": 0.4}),
        "weights returned": ((q, k, v), {"return_weights": True}),
        "broadcast": ((q, shared_k, shared_v), {}),
        "T = 1": ((q[..., :1, :], k[..., :1, :], v[..., :1, :]), {}),
        "softcap": ((q, k, v), {"softcap": 0.8}),
        "softcap, mask, causal, full bias, weights returned": (
            (q, k, v, rng.normal(size=(2, 3, 4, 6))),
            {"softcap": 1.5, "mask": mask, "causal": True, "return_weights": True},
        ),
    }
    for label, (args, options) in configurations.items():

        def forward(
            q: Array, k: Array, v: Array, bias: Array | None = None, options: Any = options
        ) -> tuple[Any, Any]:
            return layers.attention_forward(
                q, k, v, bias=bias, rng=np.random.default_rng(5), **options
            )

        yield Case(label, forward, layers.attention_backward, args)


def _cross_entropy(rng: Generator) -> Iterator[Case]:
    logits, weight = 2 * rng.normal(size=(2, 4, 5)), rng.random(5) + 0.5
    ids = np.array([[3, 0, 3, 1], [4, -100, 2, 3]])
    distribution = rng.dirichlet(np.ones(5), size=(2, 4))
    options: dict[str, dict[str, Any]] = {
        "mean": {},
        "sum": {"reduction": "sum"},
        "none": {"reduction": "none"},
        "class weights": {"weight": weight},
        "label smoothing": {"label_smoothing": 0.2},
        "weights and smoothing": {"weight": weight, "label_smoothing": 0.2},
    }
    for label, kwargs in options.items():
        forward = partial(layers.cross_entropy_forward, **kwargs)
        backward = layers.cross_entropy_backward
        sizes = {"the number of rows that count": 7.0, "the smoothing": 0.2}
        yield Case(f"ids, {label}", forward, backward, (logits, ids), sizes)
        yield Case(f"distribution, {label}", forward, backward, (logits, distribution), sizes)


def _lstm_cell(rng: Generator) -> Iterator[Case]:
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


def _lstm(rng: Generator) -> Iterator[Case]:
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


def _language_model(rng: Generator) -> Iterator[Case]:
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


CASES: dict[str, Cases] = {
    "embedding": _embedding,
    "linear": _linear,
    "sigmoid": partial(_elementwise, layers.sigmoid_forward, layers.sigmoid_backward),
    "tanh": partial(_elementwise, layers.tanh_forward, layers.tanh_backward),
    "relu": partial(_elementwise, layers.relu_forward, layers.relu_backward),
    "gelu": partial(_elementwise, layers.gelu_forward, layers.gelu_backward),
    "gelu_tanh": partial(
        _elementwise, layers.gelu_forward, layers.gelu_backward, approximate="tanh"
    ),
    "silu": partial(_elementwise, layers.silu_forward, layers.silu_backward),
    "softmax": partial(_along_axis, layers.softmax_forward, layers.softmax_backward),
    "log_softmax": partial(_along_axis, layers.log_softmax_forward, layers.log_softmax_backward),
    "logsumexp": partial(_along_axis, layers.logsumexp_forward, layers.logsumexp_backward),
    "dropout": _dropout,
    "attention": _attention,
    "cross_entropy": _cross_entropy,
    "lstm_cell": _lstm_cell,
    "lstm": _lstm,
    "LSTMLanguageModel": _language_model,
}
