"""softmax, its logarithm, and the logarithm of its denominator.

All three shift by the maximum of the row first: exp never overflows and no sum is zero. The shift
cancels, so it does not enter the derivative. The maximum is that of the real part, which keeps
the functions analytic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.layers.arrays import Array, check_dy, check_floats, row_sum


class SoftmaxCache(NamedTuple):
    """What the backward needs of the forward."""

    y: Array  # of logsumexp the softmax
    axis: int


def row_shift(x: Array, axis: int = -1) -> Array:
    """Return the maximum m of the real part along ``axis``, which stays; 0 where that is -inf."""
    shift = x.real.max(axis=axis, keepdims=True, initial=-np.inf)
    return np.where(np.isneginf(shift), np.zeros((), shift.dtype), shift)


def _shifted_exp(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Return the shift m, exp(x - m) and its sum; a row that is all -inf has m = 0."""
    check_floats(x=x)
    if x.ndim == 0:
        raise ValueError("x must have an axis to run along, got shape ()")
    shift = row_shift(x, axis)
    e = x - shift
    np.exp(e, out=e)
    return shift, e, row_sum(e, axis=axis)


def softmax_forward(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """Apply y_i = exp(x_i) / sum_j exp(x_j) along ``axis``.

    A row that is -inf throughout (nothing to choose from) gives zeros; torch gives NaN.

    >>> y, _ = softmax_forward(np.log(np.array([1.0, 2.0, 5.0])))
    >>> y.round(12).tolist()
    [0.125, 0.25, 0.625]
    """
    _, y, total = _shifted_exp(x, axis)
    total[total == 0] = 1
    y *= 1 / total
    return y, SoftmaxCache(y, axis)


def softmax_backward(dy: Array, cache: SoftmaxCache) -> Array:
    """Return dx_i = y_i (dy_i - sum_j y_j dy_j).

    From dy_j / dx_i = y_j (delta_ij - y_i).
    """
    y, axis = cache
    check_dy(dy, y.shape, y.dtype)
    dx = dy - row_sum(y, dy, axis)
    dx *= y
    return dx


def log_softmax_forward(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """Apply y_i = x_i - log sum_j exp(x_j) along ``axis``.

    A row that is -inf throughout stays -inf, and its gradient is dy; torch gives NaN.

    >>> y, _ = log_softmax_forward(np.zeros(8))
    >>> bool(np.allclose(y, -np.log(8)))  # equal scores over V classes: -log V
    True
    """
    shift, _, total = _shifted_exp(x, axis)
    total[total == 0] = 1
    y = x - shift
    y -= np.log(total)
    return y, SoftmaxCache(y, axis)


def log_softmax_backward(dy: Array, cache: SoftmaxCache) -> Array:
    """Return dx_i = dy_i - p_i sum_j dy_j, with p = exp(y) the softmax of x."""
    y, axis = cache
    check_dy(dy, y.shape, y.dtype)
    return dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)


def logsumexp_forward(x: Array, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """Apply y = log sum_j exp(x_j) along ``axis``, which disappears.

    A row that is -inf throughout, or empty, gives -inf, and its gradient is zero; torch's is NaN.
    A row with +inf gives inf, and what is infinite shares the gradient; torch's is NaN.

    >>> y, _ = logsumexp_forward(np.log(np.array([1.0, 2.0, 5.0])))
    >>> float(y.round(12)) == float(np.log(8.0).round(12))
    True
    """
    check_floats(x=x)
    endless = np.isposinf(row_shift(x, axis)) if x.ndim else np.zeros((), np.bool_)
    if endless.any():  # the limit: all of the weight on what is infinite
        x = np.where(endless, np.where(np.isposinf(x.real), 0, -np.inf), x).astype(x.dtype)
    shift, p, total = _shifted_exp(x, axis)
    empty = total == 0
    total[empty] = 1
    p /= total
    y = np.where(empty, -np.inf, np.log(total) + shift).astype(x.dtype)
    if endless.any():
        y = np.where(endless, np.asarray(np.inf, x.dtype), y)
    return y.squeeze(axis), SoftmaxCache(p, axis)


def logsumexp_backward(dy: Array, cache: SoftmaxCache) -> Array:
    """Return dx_i = p_i dy, with p the softmax of x."""
    p, axis = cache
    check_dy(dy, p.take(0, axis).shape if p.shape[axis] else p.sum(axis).shape, p.dtype)
    return p * np.expand_dims(dy, axis)
