"""One step of an LSTM: the equations themselves.

Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate of Gers,
Schmidhuber and Cummins (2000) and, where they are given, the peepholes of Gers and Schmidhuber,
"Recurrent Nets that Time and Count" (2000), in torch's layout. :mod:`npllm.layers.unrolled_lstm`
runs it over a sequence as it stands here, :mod:`npllm.layers.batch_last_lstm` faster.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from npllm.layers.activations import sigmoid
from npllm.layers.arrays import Array, as_rows, check_dy, check_floats, check_shape, split_last
from npllm.layers.cells import check_cell
from npllm.layers.linear import LinearCache, linear_backward, linear_forward

State = tuple[Array, Array]  # h and c


class LSTMCellCache(NamedTuple):
    """What the backward needs of the forward: each (..., H) but the weights and their caches."""

    c: Array
    i: Array
    f: Array
    g: Array
    o: Array
    c_next: Array
    tanh_c: Array  # tanh(c_next)
    weight_ch: Array | None
    input: LinearCache
    state: LinearCache


def lstm_cell_forward(
    x: Array,
    h: Array,
    c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    weight_ch: Array | None = None,
) -> tuple[State, LSTMCellCache]:
    """Take one step from the state (h, c) to the state (h', c').

    With a = x W_ih^T + b_ih + h W_hh^T + b_hh cut in four blocks of width H::

        i = sigmoid(a_i)    how much to write        c' = f c + i g
        f = sigmoid(a_f)    how much to keep         h' = o tanh(c')
        g = tanh(a_g)       what to write
        o = sigmoid(a_o)    how much to show

    Peepholes let the gates see the cell, each gate its own cells only: with W_ch cut in three
    vectors p, a_i gains p_i c and a_f gains p_f c, before the cell changes, and a_o gains p_o c',
    after.

    Args:
        x: (..., I).
        h: (..., P), P = H but where each h' is projected before it is the next step's h.
        c: (..., H).
        weight_ih: (4H, I), the blocks in the order i, f, g, o.
        weight_hh: (4H, P).
        bias_ih: (4H,) or None.
        bias_hh: (4H,) or None; both or neither.
        weight_ch: (3H,), the blocks in the order i, f, o; or None, without peepholes.

    Returns:
        (h', c'), each (..., H), and the cache of :func:`lstm_cell_backward`.

    Raises:
        ValueError: the shapes do not fit, or one bias is given without the other.

    >>> zero = np.zeros  # with all weights 0 each gate is 1/2 and g is 0, so c' = c / 2
    >>> (h, c), _ = lstm_cell_forward(zero(3), zero(1), np.array([4.0]), zero((4, 3)), zero((4, 1)))
    >>> c.tolist(), bool(np.isclose(h[0], np.tanh(2.0) / 2))
    ([2.0], True)

    With peepholes, f looks at c = 4 and o at c' = 3; here both see log 3, whose sigmoid is 3/4:

    >>> peepholes = np.log(3.0) / np.array([1.0, 4.0, 3.0])
    >>> weights = (zero((4, 3)), zero((4, 1)), None, None, peepholes)
    >>> (h, c), _ = lstm_cell_forward(zero(3), zero(1), np.array([4.0]), *weights)
    >>> bool(np.isclose(c[0], 3.0)), bool(np.isclose(h[0], 0.75 * np.tanh(3.0)))
    (True, True)
    """
    hidden = math.prod(weight_hh.shape[:1]) // 4
    check_cell(4, x, h, weight_ih, weight_hh, bias_ih, bias_hh, hidden)
    check_floats(x=x, c=c, weight_ch=weight_ch)
    check_shape(c, (*h.shape[:-1], hidden), "c")
    if weight_ch is not None:
        check_shape(weight_ch, (3 * hidden,), "weight_ch")
    from_input, input_cache = linear_forward(x, weight_ih, bias_ih)  # (..., 4H)
    from_state, state_cache = linear_forward(h, weight_hh, bias_hh)  # (..., 4H)
    a_i, a_f, a_g, a_o = split_last(from_input + from_state, 4)  # (..., H) each
    if weight_ch is not None:
        p_i, p_f, p_o = split_last(weight_ch, 3)  # (H,) each
        a_i, a_f = a_i + p_i * c, a_f + p_f * c
    i, f, g = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g)
    c_next = f * c + i * g
    if weight_ch is not None:
        a_o = a_o + p_o * c_next
    o = sigmoid(a_o)
    tanh_c = np.tanh(c_next)
    h_next = o * tanh_c
    cache = LSTMCellCache(c, i, f, g, o, c_next, tanh_c, weight_ch, input_cache, state_cache)
    return (h_next, c_next), cache


def lstm_cell_backward(dy: State, cache: LSTMCellCache) -> tuple[Array, ...]:
    """Return dx, dh, dc, dweight_ih, dweight_hh, and dbias_ih, dbias_hh, dweight_ch where given.

    Args:
        dy: (dh', dc'), each (..., H).
        cache: what :func:`lstm_cell_forward` returned.
    """
    c, i, f, g, o, c_next, tanh_c, weight_ch, input_cache, state_cache = cache
    dh_next, dc_next = dy
    check_dy(dh_next, c.shape, c.dtype, "dh'")
    check_dy(dc_next, c.shape, c.dtype, "dc'")
    # h_next = o * tanh(c_next): c_next is seen through h_next too
    do = dh_next * tanh_c
    dc_next = dc_next + dh_next * o * (1 - tanh_c * tanh_c)
    # o = sigmoid(a_o)
    da_o = do * o * (1 - o)
    if weight_ch is not None:
        # a_o = a_o + p_o * c_next: c_next is seen through the output gate too
        p_i, p_f, p_o = split_last(weight_ch, 3)
        dc_next = dc_next + da_o * p_o
    # c_next = f * c + i * g
    df, dc = dc_next * c, dc_next * f
    di, dg = dc_next * g, dc_next * i
    # i, f, g = sigmoid(a_i), sigmoid(a_f), tanh(a_g)
    da_i, da_f, da_g = di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g)
    dweight_ch: tuple[Array, ...] = ()
    if weight_ch is not None:
        # a_i, a_f = a_i + p_i * c, a_f + p_f * c
        dc = dc + da_i * p_i + da_f * p_f
        dp = np.concatenate([da_i * c, da_f * c, da_o * c_next], axis=-1)  # (..., 3H)
        dweight_ch = (as_rows(dp).sum(axis=0),)  # (3H,)
    da = np.concatenate([da_i, da_f, da_g, da_o], axis=-1)  # (..., 4H)
    # a = linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)
    dx, dweight_ih, *dbias_ih = linear_backward(da, input_cache)
    dh, dweight_hh, *dbias_hh = linear_backward(da, state_cache)
    return dx, dh, dc, dweight_ih, dweight_hh, *dbias_ih, *dbias_hh, *dweight_ch
