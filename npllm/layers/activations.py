"""Elementwise functions: sigmoid, tanh, relu, gelu, silu.

Each is y = f(x) of any shape, so each backward is dx = dy f'(x).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from npllm.layers.arrays import Array, Mask, check_dy, check_floats
from npllm.layers.pieces import Pieces, backward_in_pieces, forward_in_pieces

ROOT = math.sqrt(2 / math.pi)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow and to full relative precision at both ends."""
    below = np.minimum(x, 0)  # of complex numbers too, which are ordered by their real parts first
    z = np.exp(below - np.maximum(x, 0))  # exp(-|x|), at most 1
    z += 1
    return np.exp(below) / z


def sigmoid_forward(x: Array) -> tuple[Array, Array]:
    """Apply y = 1 / (1 + exp(-x)).

    >>> y, _ = sigmoid_forward(np.array([0.0, np.log(3.0)]))
    >>> y.round(12).tolist()
    [0.5, 0.75]
    """
    check_floats(x=x)
    y = sigmoid(x)
    return y, y


def sigmoid_backward(dy: Array, cache: Array) -> Array:
    """Return dx = dy y (1 - y)."""
    y = cache
    check_dy(dy, y.shape, y.dtype)
    return dy * y * (1 - y)


def tanh_forward(x: Array) -> tuple[Array, Array]:
    """Apply y = tanh(x).

    >>> y, _ = tanh_forward(np.array([np.log(2.0)]))
    >>> y.round(12).tolist()  # (2 - 1/2) / (2 + 1/2)
    [0.6]
    """
    check_floats(x=x)
    y = np.tanh(x)
    return y, y


def tanh_backward(dy: Array, cache: Array) -> Array:
    """Return dx = dy (1 - y^2)."""
    y = cache
    check_dy(dy, y.shape, y.dtype)
    return dy * (1 - y * y)


class ReluCache(NamedTuple):
    """What the backward needs of the forward."""

    positive: Mask
    dtype: np.dtype[np.inexact]


def relu_forward(x: Array) -> tuple[Array, ReluCache]:
    """Apply y = max(x, 0). At 0 the derivative is taken as 0, as in torch.

    >>> y, _ = relu_forward(np.array([-2.0, 3.0]))
    >>> y.tolist()
    [0.0, 3.0]
    """
    check_floats(x=x)
    positive = ~(x.real <= 0)  # or no number: it is not hidden
    return np.where(positive, x, np.zeros((), x.dtype)), ReluCache(positive, x.dtype)


def relu_backward(dy: Array, cache: ReluCache) -> Array:
    """Return dx = dy where x > 0, and 0 elsewhere."""
    positive, dtype = cache
    check_dy(dy, positive.shape, dtype)
    return np.where(positive, dy, np.zeros((), dy.dtype))


class GeluCache(NamedTuple):
    """What the backward needs of the forward."""

    x: Array
    approximate: Literal["none", "tanh"]


def gelu_forward(
    x: Array, *, approximate: Literal["none", "tanh"] = "none"
) -> tuple[Array, GeluCache | Pieces]:
    """Apply y = x Phi(x), Phi the standard normal distribution function.

    Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), section 2: Phi(x) is
    (1 + erf(x / sqrt 2)) / 2 exactly, or, with ``approximate="tanh"`` (GPT-2's form),
    (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.

    Raises:
        ValueError: ``approximate`` is neither "none" nor "tanh".

    >>> y, _ = gelu_forward(np.array([1.0]))
    >>> y.round(6).tolist()  # Phi(1)
    [0.841345]
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate must be "none" or "tanh", got {approximate!r}')
    check_floats(x=x)
    return forward_in_pieces(lambda rows: _gelu(rows, approximate), x)


def _gelu(x: Array, approximate: Literal["none", "tanh"]) -> tuple[Array, GeluCache]:
    return x * _phi(x, approximate), GeluCache(x, approximate)


def _phi(x: Array, approximate: Literal["none", "tanh"]) -> Array:
    if approximate == "none":
        phi: Array = special.erf(x * math.sqrt(0.5))
    else:
        u = x * x
        u *= 0.044715 * ROOT
        u += ROOT
        u *= x  # sqrt(2 / pi) (x + 0.044715 x^3)
        phi = np.tanh(u)
    phi += 1
    phi *= 0.5
    return phi


def gelu_backward(dy: Array, cache: GeluCache | Pieces) -> Array:
    """Return dx = dy (Phi(x) + x Phi'(x)).

    Exactly, Phi' is the normal density exp(-x^2 / 2) / sqrt(2 pi). In the tanh form, with
    Phi = (1 + tanh u) / 2, it is (1 - tanh(u)^2) u' / 2 = 2 Phi (1 - Phi) u'.
    """
    (dx,) = backward_in_pieces(_gelu_backward, dy, cache)
    return dx


def _gelu_backward(dy: Array, cache: GeluCache) -> tuple[Array]:
    x, approximate = cache
    check_dy(dy, x.shape, x.dtype)
    phi = _phi(x, approximate)  # less memory travels than if it were kept
    if approximate == "none":
        slope = np.exp(-0.5 * x * x)
        slope *= 1 / math.sqrt(2 * math.pi)
    else:
        slope = x * (3 * 0.044715 * ROOT)
        slope *= x
        slope += ROOT  # u'
        slope *= phi
        slope *= 2 - 2 * phi
    slope *= x
    phi += slope
    return (dy * phi,)


class SiluCache(NamedTuple):
    """What the backward needs of the forward."""

    x: Array
    s: Array  # sigmoid(x)


def silu_forward(x: Array) -> tuple[Array, SiluCache]:
    """Apply y = x sigmoid(x), also called swish.

    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units" (2017), equation 5.

    >>> y, _ = silu_forward(np.array([np.log(3.0)]))
    >>> bool(np.isclose(y[0], 0.75 * np.log(3.0)))
    True
    """
    check_floats(x=x)
    s = sigmoid(x)
    return x * s, SiluCache(x, s)


def silu_backward(dy: Array, cache: SiluCache) -> Array:
    """Return dx = dy (s + x s (1 - s)), s = sigmoid(x)."""
    x, s = cache
    check_dy(dy, x.shape, x.dtype)
    return dy * (s + x * s * (1 - s))
