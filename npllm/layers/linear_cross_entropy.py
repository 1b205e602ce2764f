"""The cross-entropy of a linear map's outputs, which are never held all at once.

The logits of B T positions over V words are the largest array of a language model: 8 x 1,024
positions over 50,000 words are 1.6 GB in float32. Here they come some rows at a time, and in the
backward a second time. Each stretch of rows is :mod:`npllm.layers.linear` followed by
:mod:`npllm.layers.cross_entropy`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array, Ids, Shape, as_rows, check_shape
from npllm.layers.cross_entropy import (
    CrossEntropyCache,
    cross_entropy_backward,
    cross_entropy_forward,
)
from npllm.layers.linear import LinearCache, linear_backward, linear_forward

LOGITS = 2**22  # held at a time: 16 MB in float32


class LinearCrossEntropyCache(NamedTuple):
    """What the backward needs of the forward."""

    rows: Array  # (M, E)
    weight: Array
    ids: Ids  # (M,)
    bias: Array | None
    ignore_index: int
    pieces: list[slice]
    shape: Shape  # of x


def linear_cross_entropy_forward(
    x: Array,
    weight: Array,
    targets: npt.ArrayLike,
    bias: Array | None = None,
    *,
    ignore_index: int = -100,
    logits: int = LOGITS,
) -> tuple[Array, LinearCrossEntropyCache]:
    """Sum L = -log p_target over the rows, p = softmax(x W^T + b).

    Args:
        x: (..., E).
        weight: (V, E).
        targets: (...) integers in [0, V), or ``ignore_index`` where a row does not count.
        bias: (V,), or None for none.
        ignore_index: see :func:`npllm.layers.cross_entropy_forward`.
        logits: how many may be held; one row's always are.

    Returns:
        The summed loss, shape (), and the cache of :func:`linear_cross_entropy_backward`.

    Raises:
        TypeError: the targets are not integers.
        ValueError: the shapes do not fit, or a target is out of range.

    >>> x, weight = np.zeros((3, 2)), np.zeros((8, 2))  # equal scores over 8 classes
    >>> loss, _ = linear_cross_entropy_forward(x, weight, np.array([0, 7, -100]))
    >>> bool(np.isclose(loss, 2 * np.log(8)))
    True
    """
    targets = np.asarray(targets)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers, got {targets.dtype}")
    check_shape(targets, x.shape[:-1], "targets")
    rows, ids = as_rows(x), targets.ravel()  # (M, E), (M,)
    size = max(1, logits // max(len(weight), 1))
    pieces = [slice(start, start + size) for start in range(0, len(rows), size)]
    cache = LinearCrossEntropyCache(rows, weight, ids, bias, ignore_index, pieces, x.shape)
    loss = np.zeros((), x.dtype)
    for piece in pieces:
        loss += _piece(cache, piece)[0]
    return loss, cache


def linear_cross_entropy_backward(
    dy: npt.ArrayLike, cache: LinearCrossEntropyCache
) -> tuple[Array, ...]:
    """Return dx, dweight and, where there was a bias, dbias.

    Args:
        dy: a scalar: 1.0 for the gradient of the sum itself.
        cache: what :func:`linear_cross_entropy_forward` returned.
    """
    rows, weight, _, bias, _, pieces, shape = cache
    dx = np.empty(rows.shape, rows.dtype)
    gradients = [np.zeros_like(a) for a in (weight, bias) if a is not None]
    for piece in pieces:
        # loss += cross_entropy(linear(rows[piece], weight, bias), targets[piece])
        _, linear_cache, loss_cache = _piece(cache, piece)
        dlogits = cross_entropy_backward(dy, loss_cache)
        dx[piece], *parts = linear_backward(dlogits, linear_cache)
        for i, part in enumerate(parts):
            gradients[i] += part
    return dx.reshape(shape), *gradients


def _piece(
    cache: LinearCrossEntropyCache, piece: slice
) -> tuple[Array, LinearCache, CrossEntropyCache]:
    """Return the summed loss of some rows, and both caches."""
    rows, weight, ids, bias, ignore_index, _, _ = cache
    logits, linear_cache = linear_forward(rows[piece], weight, bias)
    loss, loss_cache = cross_entropy_forward(
        logits, ids[piece], ignore_index=ignore_index, reduction="sum"
    )
    return loss, linear_cache, loss_cache
