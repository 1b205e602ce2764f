"""One layer of an LSTM in one direction: backpropagation through time as it is read.

A loop of :mod:`npllm.layers.lstm_cell` from the first step to the last, and a loop of its backwards
from the last to the first (Werbos, "Backpropagation Through Time" (1990)): the weights are used at
every step, so their gradients add up over the steps, and the gradient of a state is what its step's
output and the step after it give. :mod:`npllm.layers.batch_last_lstm` is the same function, faster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import (
    Array,
    Ids,
    Mask,
    Shape,
    check_dy,
    check_floats,
    check_ids,
    check_shape,
)
from npllm.layers.linear import LinearCache, linear_backward, linear_forward
from npllm.layers.lstm_cell import LSTMCellCache, lstm_cell_backward, lstm_cell_forward

State = tuple[Array, Array]  # h and c


class UnrolledLSTMCache(NamedTuple):
    """What the backward needs of the forward."""

    cells: list[LSTMCellCache]
    projections: list[LinearCache]  # one a step, or none
    lengths: Ids | None  # (B,)
    weights: list[Array]  # those that were given
    x_shape: Shape
    h_shape: Shape
    c_shape: Shape

    def by_rows(self) -> Array:
        """Return i, f, g and o, (T, B, 4, H)."""
        return np.stack([np.stack((c.i, c.f, c.g, c.o), axis=1) for c in self.cells])


def unrolled_lstm_forward(
    x: Array,
    h0: Array,
    c0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    weight_ch: Array | None = None,
    *,
    weight_hr: Array | None = None,
    lengths: npt.ArrayLike | None = None,
) -> tuple[tuple[Array, State], UnrolledLSTMCache]:
    """Run :func:`npllm.layers.lstm_cell_forward` over the steps of a batch of sequences.

    With a projection (Sak, Senior and Beaufays, "Long Short-Term Memory Recurrent Neural Network
    Architectures for Large Scale Acoustic Modeling" (2014)), W_hr h' stands in the place of h'.

    Args:
        x: (T, B, I).
        h0: (B, P), P = H without a projection.
        c0: (B, H).
        weight_ih: (4H, I), the blocks in the order i, f, g, o.
        weight_hh: (4H, P).
        bias_ih: (4H,) or None.
        bias_hh: (4H,) or None; both or neither.
        weight_ch: (3H,), the peepholes of i, f and o; None without.
        weight_hr: (P, H), the projection; None without.
        lengths: (B,) integers in [0, T]: how many steps of each sequence are real; None where all
            are. Beyond, y is zero and the state stays as it is.

    Returns:
        (y, (h_n, c_n)), (T, B, P), (B, P) and (B, H), and the cache of
        :func:`unrolled_lstm_backward`.

    Raises:
        TypeError: the lengths are not integers.
        ValueError: the shapes do not fit, one bias is given without the other, or a length is out
            of range.

    >>> zero = np.zeros  # with all weights 0 each gate is 1/2 and g is 0, so c' = c / 2
    >>> x, h0, c0 = zero((2, 1, 3)), zero((1, 1)), np.array([[4.0]])
    >>> (y, (h, c)), _ = unrolled_lstm_forward(x, h0, c0, zero((4, 3)), zero((4, 1)))
    >>> c.tolist(), np.allclose(y.ravel(), np.tanh([2.0, 1.0]) / 2)
    ([[1.0]], True)
    """
    check_floats(x=x, h0=h0, c0=c0, weight_ih=weight_ih, weight_hh=weight_hh)
    check_floats(x=x, bias_ih=bias_ih, bias_hh=bias_hh, weight_ch=weight_ch, weight_hr=weight_hr)
    if x.ndim != 3:
        raise ValueError(f"x must have shape (T, B, I), got {x.shape}")
    if lengths is not None:
        lengths = check_ids(np.array(lengths), len(x) + 1, "lengths")
        check_shape(lengths, x.shape[1:2], "lengths")
    steps, batch, _ = x.shape
    check_shape(h0, (batch, *h0.shape[-1:]), "h0")
    h, c, y = h0, c0, np.zeros((steps, *h0.shape), x.dtype)
    cells, projections = [], []
    for t, x_t in enumerate(x):
        (h_next, c_next), cell = lstm_cell_forward(
            x_t, h, c, weight_ih, weight_hh, bias_ih, bias_hh, weight_ch
        )
        cells.append(cell)
        if weight_hr is not None:
            h_next, projection = linear_forward(h_next, weight_hr)
            projections.append(projection)
        real = _real(t, lengths)
        np.copyto(y[t], h_next, where=real)
        h, c = np.where(real, h_next, h), np.where(real, c_next, c)
    given = (weight_ih, weight_hh, bias_ih, bias_hh, weight_ch, weight_hr)
    weights = [weight for weight in given if weight is not None]
    return (y, (h, c)), UnrolledLSTMCache(
        cells, projections, lengths, weights, x.shape, h0.shape, c0.shape
    )


def unrolled_lstm_backward(
    dy: tuple[Array, State | None], cache: UnrolledLSTMCache
) -> tuple[Array, ...]:
    """Return dx, dh0, dc0 and the gradients of the weights that were given, in their order.

    Args:
        dy: (dy, (dh_n, dc_n)), shaped as the forward's result; None for the pair where it is zero.
        cache: what :func:`unrolled_lstm_forward` returned.
    """
    cells, projections, lengths, weights, x_shape, h_shape, c_shape = cache
    dout, (dh, dc) = checked_cotangents(dy, (len(cells), *h_shape), c_shape[1], weights[0].dtype)
    dx, dweights = np.zeros(x_shape, dout.dtype), [np.zeros_like(weight) for weight in weights]
    for t in reversed(range(len(cells))):
        real = _real(t, lengths)
        # y[t] = h_next where real; h, c = where(real, h_next, h), where(real, c_next, c)
        dh_next, dc_next = np.where(real, dout[t] + dh, 0), np.where(real, dc, 0)
        dh, dc = np.where(real, 0, dh), np.where(real, 0, dc)
        # h_next = linear(h_next, weight_hr)
        dhr: list[Array] = []
        if projections:
            dh_next, *dhr = linear_backward(dh_next, projections[t])
        # h_next, c_next = lstm_cell(x[t], h, c, weight_ih, ...)
        dx[t], dh_cell, dc_cell, *dcell = lstm_cell_backward((dh_next, dc_next), cells[t])
        dh, dc = dh + dh_cell, dc + dc_cell
        # each step has the same weights
        for dweight, of_step in zip(dweights, [*dcell, *dhr], strict=True):
            dweight += of_step
    return dx, dh, dc, *dweights


def _real(t: int, lengths: Ids | None) -> Mask:
    """Return (B, 1): which sequences have a step t."""
    return np.ones((1, 1), np.bool_) if lengths is None else (t < lengths)[:, None]


def checked_cotangents(
    dy: tuple[Array, State | None], shape: Shape, hidden: int, dtype: np.dtype[np.inexact]
) -> tuple[Array, State]:
    """Return (dy, (dh_n, dc_n)) of y's shape, H cells and a dtype, zeros where the pair is None."""
    dout, dstate = dy
    check_dy(dout, shape, dtype)
    batch, output_size = shape[1:]
    if dstate is None:
        return dout, (
            np.zeros((batch, output_size), dout.dtype),
            np.zeros((batch, hidden), dout.dtype),
        )
    check_dy(dstate[0], (batch, output_size), dtype, "dh_n")
    check_dy(dstate[1], (batch, hidden), dtype, "dc_n")
    return dout, dstate
