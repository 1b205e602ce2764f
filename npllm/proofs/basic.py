"""Cases of the layers that stand alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from npllm import layers
from npllm.layers.arrays import Array
from npllm.proofs.case import Case, Generator


def embedding(rng: Generator) -> Iterator[Case]:
    """Look up ids that repeat."""
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


def linear(rng: Generator) -> Iterator[Case]:
    """Map rows, with and without a bias."""
    x, weight, bias = rng.normal(size=(2, 3, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    yield Case("bias", layers.linear_forward, layers.linear_backward, (x, weight, bias))
    yield Case("no bias", layers.linear_forward, layers.linear_backward, (x, weight))


def elementwise(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    rng: Generator,
    **options: Any,
) -> Iterator[Case]:
    """Apply a function to small and to large numbers."""
    for label, scale in (("small", 1.0), ("large", 6.0)):
        x = scale * rng.normal(size=(3, 5))
        yield Case(label, partial(forward, **options), backward, (x,))


def along_axis(
    forward: Callable[..., tuple[Any, Any]], backward: Callable[[Any, Any], Any], rng: Generator
) -> Iterator[Case]:
    """Apply a function along the last axis and along the first."""
    for axis in (-1, 0):
        x = 2 * rng.normal(size=(4, 3, 5))
        yield Case(f"axis {axis}", partial(forward, axis=axis), backward, (x,))


def dropout(rng: Generator) -> Iterator[Case]:
    """Draw the same mask each time."""
    x = rng.normal(size=(4, 7))
    for p in (0.3, 0.0, 1.0):

        def forward(x: Array, p: float = p) -> tuple[Array, Any]:
            return layers.dropout_forward(x, p, np.random.default_rng(5))

        yield Case(f"p = {p}", forward, layers.dropout_backward, (x,), {"p": p})


def attention(rng: Generator) -> Iterator[Case]:
    """Attend with every option."""
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


def cross_entropy(rng: Generator) -> Iterator[Case]:
    """Score ids and distributions with every option."""
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
