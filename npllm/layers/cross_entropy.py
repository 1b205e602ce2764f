"""The cross-entropy of section 4.3: L = -sum_i y_i log p_i."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import (
    Array,
    Ids,
    check_dy,
    check_floats,
    check_ids,
    check_probability,
    check_shape,
)
from npllm.layers.embedding import one_hot
from npllm.layers.softmax import log_softmax_forward

Reduction = Literal["none", "mean", "sum"]

# How far the sum of a target distribution may be from one: a distribution that was rounded to
# float32 passes, in any dtype.
SUM_TOLERANCE = float(np.sqrt(np.finfo(np.float32).eps))


class CrossEntropyCache(NamedTuple):
    """What the backward needs of the forward."""

    log_p: Array  # (..., V)
    ids: Ids | None  # (...), None where the targets are distributions
    row_weight: Array  # (...)
    q: Array | None  # (..., V), the smoothed and weighted targets; None where they are one-hot
    divisor: Array
    reduction: Reduction
    soft_factor: tuple[Array | None, float] | None  # by which a distribution enters q


def cross_entropy_forward(
    logits: Array,
    targets: npt.ArrayLike,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> tuple[Array, CrossEntropyCache]:
    """Apply L = -sum_i y_i log p_i to each row, with p the softmax of its logits.

    Args:
        logits: (..., V). The classes are the last axis (torch puts them second).
        targets: integers of shape (...), each in [0, V) or ``ignore_index``, for a y that is
            one-hot; or y itself, real numbers of shape (..., V) that sum to one in each row.
        weight: (V,), a constant factor for each class. With integer targets the mean is the
            weighted one; with distributions it divides by the number of rows. Both as in torch.
        ignore_index: the integer target of a row that does not count.
        label_smoothing: s in [0, 1]; y becomes (1 - s) y + s / V (Szegedy et al., "Rethinking the
            Inception Architecture" (2016), section 7).
        reduction: "none" keeps the loss of each row, "sum" adds them, "mean" averages.

    Returns:
        The loss: shape (...) for "none", else a scalar; and the cache of
        :func:`cross_entropy_backward`. If every target is ignored (or there is no row), the
        loss and its gradient are zero; torch's mean is NaN. A class with y_i = 0 and p_i = 0
        costs 0, the limit of y log y.

    Raises:
        TypeError: the targets are neither integers nor real numbers.
        ValueError: the shapes do not fit, a target is out of range, a distribution has a negative
            entry or does not sum to one.

    >>> loss, _ = cross_entropy_forward(np.zeros((2, 8)), np.array([3, 5]))
    >>> bool(np.isclose(loss, np.log(8)))  # equal scores over V classes cost log V
    True
    """
    check_floats(logits=logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., V) with V > 0, got {logits.shape}")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f'reduction must be "none", "mean" or "sum", got {reduction!r}')
    check_probability(label_smoothing, "label_smoothing")
    label_smoothing = float(label_smoothing)  # a NumPy one would turn float32 into float64
    if weight is not None:
        check_shape(weight, logits.shape[-1:], "weight")
        if weight.size and not weight.real.min() >= 0:
            raise ValueError(f"weight must be 0 or more, got {weight.real.min()}")
        if weight.dtype.kind == "c" and logits.dtype.kind != "c":
            raise TypeError(f"weight must be real as the logits are, got {weight.dtype}")
        weight = weight.astype(logits.dtype)
    targets = np.asarray(targets)
    log_p, _ = log_softmax_forward(logits)
    ids: Ids | None = None
    q: Array | None = None
    if targets.dtype.kind in "iu":
        ids, row_weight = _hard_targets(targets, logits, weight, ignore_index)  # (...)
        if label_smoothing:
            q = one_hot(ids, logits.shape[-1], logits.dtype)
    elif targets.dtype.kind == "f" or targets.dtype == logits.dtype:
        if ignore_index != -100:
            raise ValueError("ignore_index is for targets that are integers: leave it out")
        q = _soft_targets(targets, logits)
        row_weight = np.ones(logits.shape[:-1], logits.dtype)
    else:
        raise TypeError(f"targets must be integers or a distribution, got {targets.dtype}")
    if q is not None:
        q = (1 - label_smoothing) * q + label_smoothing / logits.shape[-1]  # (..., V)
        q = q if weight is None else q * weight
        if ids is not None:
            q[targets == ignore_index] = 0
        loss = -_product(q, log_p).sum(axis=-1)  # (...)
    else:
        # y is one-hot: of the sum over i, one term remains
        assert ids is not None
        at_target = np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0]
        loss = -_product(row_weight, at_target)  # (...)
    # the mean is over the rows that count, each with the weight of its class
    divisor = row_weight.sum() if reduction == "mean" else np.ones((), logits.dtype)
    if divisor == 0:
        divisor = np.ones((), logits.dtype)
    result = loss if reduction == "none" else loss.sum() / divisor
    soft_factor = None if ids is not None else (weight, 1 - label_smoothing)
    cache = CrossEntropyCache(log_p, ids, row_weight, q, divisor, reduction, soft_factor)
    return np.asarray(result), cache


def cross_entropy_backward(dy: npt.ArrayLike, cache: CrossEntropyCache) -> Any:
    """Return dlogits; where the targets are distributions, the pair (dlogits, dtargets).

    With q_i the smoothed and weighted y_i, L = -sum_i q_i log p_i. The logits enter through
    d log p_i / d logit_j = delta_ij - p_j, so dlogit_j = p_j sum_i q_i - q_j: for a y that is a
    plain distribution, p - y.

    Args:
        dy: (...) for reduction "none", else a scalar: 1.0 for the gradient of the loss itself.
        cache: what :func:`cross_entropy_forward` returned.
    """
    log_p, ids, row_weight, q, divisor, reduction, soft_factor = cache
    rows = log_p.shape[:-1]
    if reduction == "none" and rows:
        check_dy(np.asarray(dy), rows, log_p.dtype)
    dy = np.asarray(dy, log_p.dtype)
    check_shape(dy, rows if reduction == "none" else (), "dy")
    # result = loss.sum() / divisor
    dloss = np.broadcast_to(dy / divisor, rows)[..., None]  # (..., 1)
    # loss = -(q * log_p).sum(axis=-1), log_p = log_softmax(logits)
    dlogits = np.exp(log_p)  # (..., V)
    if q is None:
        assert ids is not None
        dlogits *= row_weight[..., None]
        at_target = np.take_along_axis(dlogits, ids[..., None], axis=-1)
        np.put_along_axis(dlogits, ids[..., None], at_target - row_weight[..., None], axis=-1)
    else:
        dlogits *= q.sum(axis=-1, keepdims=True)
        dlogits -= q
    dlogits *= dloss
    if soft_factor is None:
        return dlogits
    # q = (1 - label_smoothing) * targets + ..., q *= weight
    weight, factor = soft_factor
    dtargets = log_p * (-factor * dloss)
    return dlogits, dtargets if weight is None else dtargets * weight


def _hard_targets(
    targets: Ids, logits: Array, weight: Array | None, ignore_index: int
) -> tuple[Ids, Array]:
    """Return the ids, 0 where ignored, and the weight of each row, 0 where ignored."""
    check_shape(targets, logits.shape[:-1], "targets")
    kept = targets != ignore_index
    ids = check_ids(np.where(kept, targets, 0), logits.shape[-1], "targets")
    row_weight = kept.astype(logits.dtype)
    return ids, row_weight if weight is None else row_weight * weight[ids]


def _soft_targets(targets: Array, logits: Array) -> Array:
    """Return the targets in the logits' dtype, each row a distribution."""
    check_shape(targets, logits.shape, "targets")
    if targets.size:
        if targets.real.min() < -SUM_TOLERANCE:
            raise ValueError(f"targets must not be negative, got {targets.real.min()}")
        total = targets.real.sum(axis=-1)
        worst = total.flat[np.argmax(np.abs(total - 1))]
        if not abs(worst - 1) <= SUM_TOLERANCE:
            raise ValueError(f"each row of targets must sum to 1, got a sum of {worst}")
    return targets.astype(logits.dtype)


def _product(q: Array, log_p: Array) -> Array:
    """Return q log p, with 0 log 0 = 0."""
    return np.multiply(q, log_p, where=q != 0, out=np.zeros_like(log_p))
