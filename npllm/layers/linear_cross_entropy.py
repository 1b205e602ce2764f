"""The cross-entropy of a linear map's outputs, which are never held all at once.

The logits of B T positions over V words are the largest array of a language model: 8 x 1,024
positions over 50,000 words are 1.6 GB in float32. Here they come some rows at a time, each stretch
:mod:`npllm.layers.linear` followed by :mod:`npllm.layers.cross_entropy`. What it trades for speed:
a stretch's logits are turned into p and p - y in place, a piece that stays in the cache at a time.
Whoever wants the loss and its gradients takes :func:`linear_cross_entropy_gradients`, one pass for
both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import (
    Array,
    Ids,
    Mask,
    Shape,
    as_rows,
    check_dy,
    check_floats,
    check_ids,
    check_shape,
    column_sum,
    row_sum,
)
from npllm.layers.linear import linear_forward
from npllm.layers.pieces import numbers_at_a_time
from npllm.layers.softmax import row_shift
from npllm.threads import on_cores

LOGITS = 2**22  # that may always be held: 16 MB in float32
WORDS = 2**20  # numbers of the weight's gradient that are added at a time


class LinearCrossEntropyCache(NamedTuple):
    """What the backward needs of the forward: its arguments."""

    rows: Array  # (M, E)
    weight: Array
    ids: Ids  # (M,), 0 where a row does not count
    kept: Mask  # (M,), which rows do
    bias: Array | None
    size: int  # rows of a stretch
    shape: Shape  # of x


def linear_cross_entropy_forward(
    x: Array,
    weight: Array,
    targets: npt.ArrayLike,
    bias: Array | None = None,
    *,
    ignore_index: int = -100,
    logits: int | None = None,
) -> tuple[Array, LinearCrossEntropyCache]:
    """Sum L = -log p_target over the rows, p = softmax(x W^T + b).

    Args:
        x: (..., E).
        weight: (V, E).
        targets: (...) integers in [0, V), or ``ignore_index`` where a row does not count.
        bias: (V,), or None for none.
        ignore_index: see :func:`npllm.layers.cross_entropy_forward`.
        logits: how many may be held; one row's always are. Where None, 2^22, or as many as the
            weight has numbers.

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
    cache = _checked(x, weight, targets, bias, ignore_index, logits)
    loss = np.zeros((), x.dtype)
    for _, of_stretch, dlogits in _stretches(cache):
        loss += of_stretch
        del dlogits  # before the next ones come
    return loss, cache


def linear_cross_entropy_backward(
    dy: npt.ArrayLike, cache: LinearCrossEntropyCache
) -> tuple[Array, ...]:
    """Return dx, dweight and, where there was a bias, dbias.

    The gradient of a row's loss by its logits is p - y, y one-hot, and zero where the row does not
    count; from there it is that of :mod:`npllm.layers.linear`.

    Args:
        dy: a scalar: 1.0 for the gradient of the sum itself.
        cache: what :func:`linear_cross_entropy_forward` returned.
    """
    dy = np.asarray(dy, cache.weight.dtype)
    check_shape(dy, (), "dy")
    return tuple(dy * gradient for gradient in _loss_and_gradients(cache)[1])


def linear_cross_entropy_gradients(
    x: Array,
    weight: Array,
    targets: npt.ArrayLike,
    bias: Array | None = None,
    *,
    ignore_index: int = -100,
    logits: int | None = None,
    onto: Sequence[Array] | None = None,
) -> tuple[Array, tuple[Array, ...]]:
    """Return the summed loss and its gradients, dx, dweight and, with a bias, dbias, at once.

    It is the pair's forward and backward with dy = 1; the logits are computed once in place of
    twice.

    Args:
        x: see :func:`linear_cross_entropy_forward`, for all of them.
        weight: likewise.
        targets: likewise.
        bias: likewise.
        ignore_index: likewise.
        logits: likewise.
        onto: arrays to which dweight and, with a bias, dbias are added, and which are returned in
            their place; zeros where None.

    >>> x, weight = np.zeros((1, 2)), np.zeros((4, 2))  # p is 1/4 for each class
    >>> _, (_, _, dbias) = linear_cross_entropy_gradients(x, weight, np.array([3]), np.zeros(4))
    >>> dbias.tolist()
    [0.25, 0.25, 0.25, -0.75]
    """
    cache = _checked(x, weight, targets, bias, ignore_index, logits)
    return _loss_and_gradients(cache, onto)


def _checked(
    x: Array,
    weight: Array,
    targets: npt.ArrayLike,
    bias: Array | None,
    ignore_index: int,
    logits: int | None,
) -> LinearCrossEntropyCache:
    """Return the arguments as rows, having checked the targets."""
    check_floats(x=x, weight=weight, bias=bias)
    targets = np.asarray(targets)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets must be integers, got {targets.dtype}")
    check_shape(targets, x.shape[:-1], "targets")
    ids = targets.ravel()  # (M,)
    kept = ids != ignore_index
    ids = check_ids(np.where(kept, ids, 0), len(weight), "targets")
    held = max(LOGITS, weight.size) if logits is None else logits
    size = max(1, held // max(len(weight), 1))
    return LinearCrossEntropyCache(as_rows(x), weight, ids, kept, bias, size, x.shape)


def _loss_and_gradients(
    cache: LinearCrossEntropyCache, onto: Sequence[Array] | None = None
) -> tuple[Array, tuple[Array, ...]]:
    """Return the loss and the gradients for dy = 1."""
    rows, weight, _, _, bias, _, shape = cache
    loss, dx = np.zeros((), rows.dtype), np.empty(rows.shape, rows.dtype)
    if onto is None:
        onto = [np.zeros_like(a) for a in (weight, bias) if a is not None]
    dweight, *dbias = onto
    check_dy(dweight, weight.shape, weight.dtype, "onto")
    for d in dbias:
        check_dy(d, (len(weight),), weight.dtype, "onto")
    size = max(1, WORDS // max(weight.shape[1], 1))
    for stretch, of_stretch, dlogits in _stretches(cache):
        loss += of_stretch
        # logits = rows @ weight.T + bias
        np.matmul(dlogits, weight, out=dx[stretch])
        for start in range(0, len(weight), size):
            words = slice(start, start + size)
            dweight[words] += dlogits[:, words].T @ rows[stretch]
        for total in dbias:
            total += column_sum(dlogits)
        del dlogits  # before the next ones come
    return loss, (dx.reshape(shape), *onto)


def _stretches(cache: LinearCrossEntropyCache) -> Iterator[tuple[slice, Array, Array]]:
    """Yield some rows at a time, their summed loss, and p - y, by which their logits enter it."""
    rows, weight, ids, kept, bias, size, _ = cache
    for start in range(0, len(rows), size):
        stretch = slice(start, start + size)
        logits, _ = linear_forward(rows[stretch], weight, bias)
        yield stretch, _entropy(logits, ids[stretch], kept[stretch]), logits
        del logits


def _entropy(logits: Array, ids: Ids, kept: Mask) -> Array:
    """Return the summed cross-entropy of the rows that are kept, and leave p - y in the logits."""
    size = max(1, numbers_at_a_time() // logits.shape[1])

    def run(start: int) -> Array:
        piece = slice(start, start + size)
        p, counted = logits[piece], kept[piece].astype(logits.real.dtype)
        target = np.arange(len(p)), ids[piece]
        # L = log sum exp(logits) - logit_target, both shifted by the row's maximum
        p -= row_shift(p)
        at_target = p[target]
        np.exp(p, out=p)
        total = row_sum(p).ravel()
        total[total == 0] = 1
        p *= (counted / total)[:, None]
        p[target] -= counted
        return (np.log(total) - at_target).sum(where=kept[piece])

    losses = on_cores(run, range(0, len(logits), size))
    return np.sum(losses)
