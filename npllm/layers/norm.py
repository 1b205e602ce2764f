"""Normalization of rows: layer normalization, and RMS normalization, which does not shift."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.layers.arrays import Array, check_dy, check_floats, check_shape, column_sum, row_mean
from npllm.layers.pieces import Pieces, backward_in_pieces, forward_in_pieces


class LayerNormCache(NamedTuple):
    """What the backward needs of the forward."""

    x: Array  # (..., E)
    mean: Array  # (..., 1)
    scale: Array  # (..., 1)
    weight: Array | None
    has_bias: bool


def layer_norm_forward(
    x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, LayerNormCache | Pieces]:
    """Apply y = weight (x - mean) / sqrt(variance + eps) + bias to the last axis of ``x``.

    Ba, Kiros and Hinton, "Layer Normalization" (2016), equation 4. The variance is the mean of the
    squares, over E and not E - 1, as in torch; ``eps`` belongs to the definition, not to rounding.

    Args:
        x: (..., E).
        weight: (E,), the gain; ones where None.
        bias: (E,), or None for none.
        eps: added to the variance.

    Returns:
        y of x's shape, and the cache of :func:`layer_norm_backward`.

    Raises:
        ValueError: the shapes do not fit, or E is 0.

    >>> y, _ = layer_norm_forward(np.array([1.0, 3.0]), eps=0.0)  # mean 2, variance 1
    >>> y.tolist()
    [-1.0, 1.0]
    """
    _check(x, weight, bias)
    return forward_in_pieces(lambda rows: _layer_norm(rows, weight, bias, float(eps)), x)


def _layer_norm(
    x: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, LayerNormCache]:
    mean = row_mean(x)  # (..., 1)
    centred = x - mean  # (..., E)
    variance = row_mean(centred, centred)  # (..., 1)
    scale = 1 / np.sqrt(variance + eps)  # (..., 1)
    normal = np.multiply(centred, scale, out=centred)
    y = normal if weight is None else normal * weight
    if bias is not None:
        y += bias
    return y, LayerNormCache(x, mean, scale, weight, bias is not None)


def layer_norm_backward(dy: Array, cache: LayerNormCache | Pieces) -> tuple[Array, ...]:
    """Return dx and, where they were given, dweight and dbias.

    With n the normal rows, dn = dy weight. Every x of a row moves the row's mean and variance, and
    so every n of it. Their two paths take from dn what lies along (1, ..., 1) and along n::

        dx = (dn - mean(dn) - n mean(n dn)) / sqrt(variance + eps)

    Args:
        dy: (..., E).
        cache: what :func:`layer_norm_forward` returned.
    """
    return backward_in_pieces(_layer_norm_backward, dy, cache)


def _layer_norm_backward(dy: Array, cache: LayerNormCache) -> tuple[Array, ...]:
    x, mean, scale, weight, has_bias = cache
    check_dy(dy, x.shape, x.dtype)
    # less memory travels than if the normal rows were kept
    normal = x - mean
    normal *= scale
    # y += bias
    dbias = (column_sum(dy),) if has_bias else ()  # (E,)
    # y = normal * weight
    dweight = () if weight is None else (column_sum(dy * normal),)  # (E,)
    dnormal = dy if weight is None else dy * weight  # (..., E)
    # normal = centred / sqrt(mean(centred * centred) + eps), centred = x - mean(x)
    dx = dnormal - row_mean(dnormal)
    dx -= normal * row_mean(dnormal, normal)
    dx *= scale
    return dx, *dweight, *dbias


class RMSNormCache(NamedTuple):
    """What the backward needs of the forward."""

    x: Array  # (..., E)
    scale: Array  # (..., 1)
    weight: Array | None


def rms_norm_forward(
    x: Array, weight: Array | None = None, *, eps: float | None = None
) -> tuple[Array, RMSNormCache | Pieces]:
    """Apply y = weight x / sqrt(mean(x^2) + eps) to the last axis of ``x``.

    Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4: layer
    normalization without the shift.

    Args:
        x: (..., E).
        weight: (E,), the gain; ones where None.
        eps: added to the mean square; where None the dtype's machine epsilon, as in torch.

    Returns:
        y of x's shape, and the cache of :func:`rms_norm_backward`.

    Raises:
        ValueError: the shapes do not fit, or E is 0.

    >>> y, _ = rms_norm_forward(np.array([1.0, 7.0]), eps=0.0)  # the mean square is 25
    >>> y.round(12).tolist()
    [0.2, 1.4]
    """
    _check(x, weight, None)
    eps = float(np.finfo(x.dtype).eps if eps is None else eps)
    return forward_in_pieces(lambda rows: _rms_norm(rows, weight, eps), x)


def _rms_norm(x: Array, weight: Array | None, eps: float) -> tuple[Array, RMSNormCache]:
    scale = 1 / np.sqrt(row_mean(x, x) + eps)  # (..., 1)
    normal = x * scale  # (..., E)
    y = normal if weight is None else normal * weight
    return y, RMSNormCache(x, scale, weight)


def rms_norm_backward(dy: Array, cache: RMSNormCache | Pieces) -> tuple[Array, ...]:
    """Return dx and, where there was a weight, dweight.

    With n the normal rows and dn = dy weight, dx = (dn - n mean(n dn)) / sqrt(mean(x^2) + eps): the
    scale of a row does not matter, so its gradient has nothing along the row.

    Args:
        dy: (..., E).
        cache: what :func:`rms_norm_forward` returned.
    """
    return backward_in_pieces(_rms_norm_backward, dy, cache)


def _rms_norm_backward(dy: Array, cache: RMSNormCache) -> tuple[Array, ...]:
    x, scale, weight = cache
    check_dy(dy, x.shape, x.dtype)
    normal = x * scale  # less memory travels than if it were kept
    # y = normal * weight
    dweight = () if weight is None else (column_sum(dy * normal),)  # (E,)
    dnormal = dy if weight is None else dy * weight  # (..., E)
    # normal = x / sqrt(mean(x * x) + eps)
    dx = dnormal - normal * row_mean(dnormal, normal)
    dx *= scale
    return dx, *dweight


def _check(x: Array, weight: Array | None, bias: Array | None) -> None:
    check_floats(x=x, weight=weight, bias=bias)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x must have shape (..., E) with E of 1 or more, got {x.shape}")
    for name, array in {"weight": weight, "bias": bias}.items():
        if array is not None:
            check_shape(array, x.shape[-1:], name)
