"""The linear map y = x W^T + b."""

from __future__ import annotations

from typing import NamedTuple

from npllm.layers.arrays import (
    Array,
    Shape,
    as_rows,
    check_dy,
    check_floats,
    check_last_axis,
    check_shape,
    column_sum,
)


class LinearCache(NamedTuple):
    """What the backward needs of the forward."""

    rows: Array  # (M, I)
    weight: Array
    has_bias: bool
    shape: Shape  # of x


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, LinearCache]:
    """Apply y = x W^T + b to the last axis of ``x``.

    Args:
        x: (..., I).
        weight: (O, I), torch's layout.
        bias: (O,), or None for none.

    Returns:
        y of shape (..., O), and the cache of :func:`linear_backward`.

    Raises:
        ValueError: the shapes do not fit.

    >>> import numpy as np
    >>> y, _ = linear_forward(np.array([1.0, 2.0]), np.array([[3.0, 4.0]]), np.array([0.5]))
    >>> y.tolist()  # 1 * 3 + 2 * 4 + 0.5
    [11.5]
    """
    check_floats(x=x, weight=weight, bias=bias)
    if weight.ndim != 2:
        raise ValueError(f"weight must have shape (O, I), got {weight.shape}")
    check_last_axis(x, weight.shape[1], "x")
    if bias is not None:
        check_shape(bias, weight.shape[:1], "bias")
    rows = as_rows(x)  # (M, I)
    y = rows @ weight.T  # (M, O)
    if bias is not None:
        y += bias
    cache = LinearCache(rows, weight, bias is not None, x.shape)
    return y.reshape(*x.shape[:-1], len(weight)), cache


def linear_backward(dy: Array, cache: LinearCache) -> tuple[Array, ...]:
    """Return dx, dweight and, where there was a bias, dbias.

    y_o = sum_i x_i W_oi + b_o, so dx_i = sum_o dy_o W_oi and dW_oi = dy_o x_i; a weight that is
    used in every row adds up over the rows.

    Args:
        dy: (..., O).
        cache: what :func:`linear_forward` returned.
    """
    rows, weight, has_bias, shape = cache
    check_dy(dy, (*shape[:-1], len(weight)), weight.dtype)
    dy = as_rows(dy)  # (M, O)
    # y += bias
    dbias = (column_sum(dy),) if has_bias else ()  # (O,)
    # y = rows @ weight.T; the gradient lies in memory as the weight does
    dweight = dy.T @ rows if weight.flags.c_contiguous else (rows.T @ dy).T  # (O, I)
    dx = dy @ weight  # (M, I)
    return dx.reshape(shape), dweight, *dbias
