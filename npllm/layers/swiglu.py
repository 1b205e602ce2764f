"""SwiGLU: one linear map gates another."""

from __future__ import annotations

from typing import NamedTuple

from npllm.layers.activations import SiluCache, silu_backward, silu_forward
from npllm.layers.arrays import Array, check_dy, check_floats, check_shape
from npllm.layers.pieces import Pieces, backward_in_pieces, forward_in_pieces


class SwigluCache(NamedTuple):
    """What the backward needs of the forward."""

    activation: Array  # silu(gate)
    up: Array
    silu: SiluCache


def swiglu_forward(gate: Array, up: Array) -> tuple[Array, SwigluCache | Pieces]:
    """Apply y = silu(gate) up, elementwise.

    Shazeer, "GLU Variants Improve Transformer" (2020), equation 6, between the linear maps of which
    ``gate`` and ``up`` are the results.

    Args:
        gate: any shape.
        up: of the same shape.

    Returns:
        y of that shape, and the cache of :func:`swiglu_backward`.

    Raises:
        ValueError: the shapes differ.

    >>> import numpy as np
    >>> y, _ = swiglu_forward(np.array([np.log(3.0)]), np.array([4.0]))
    >>> bool(np.isclose(y[0], 3 * np.log(3.0)))  # the sigmoid of log 3 is 3/4
    True
    """
    check_floats(gate=gate, up=up)
    check_shape(up, gate.shape, "up")
    return forward_in_pieces(_swiglu, gate, up)


def _swiglu(gate: Array, up: Array) -> tuple[Array, SwigluCache]:
    activation, cache = silu_forward(gate)
    return activation * up, SwigluCache(activation, up, cache)


def swiglu_backward(dy: Array, cache: SwigluCache | Pieces) -> tuple[Array, Array]:
    """Return dgate and dup: the product rule.

    Args:
        dy: of the forward's shape.
        cache: what :func:`swiglu_forward` returned.
    """
    dgate, dup = backward_in_pieces(_swiglu_backward, dy, cache, arrays=2)
    return dgate, dup


def _swiglu_backward(dy: Array, cache: SwigluCache) -> tuple[Array, Array]:
    activation, up, silu_cache = cache
    check_dy(dy, up.shape, up.dtype)
    # y = silu(gate) * up
    return silu_backward(dy * up, silu_cache), dy * activation
