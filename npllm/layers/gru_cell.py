"""One step of a GRU: the equations themselves, with the new gate in both forms.

Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation" (2014), equations 5 to 8, in torch's layout. The paper, as published, resets the state
before it is multiplied with the new gate's weights; torch and cuDNN reset the product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.layers.activations import sigmoid
from npllm.layers.arrays import Array, check_dy, split_last
from npllm.layers.cells import check_cell
from npllm.layers.linear import LinearCache, linear_backward, linear_forward


class GRUCellCache(NamedTuple):
    """What the backward needs of the forward: each (..., H) but the option and the maps' caches."""

    h: Array
    r: Array
    z: Array
    n: Array
    h_n: Array  # W_hn h + b_hn, or W_hn (r h) + b_hn
    reset_after: bool
    input: LinearCache
    state: LinearCache  # of the rows of r and z
    new: LinearCache  # of the rows of n


def gru_cell_forward(
    x: Array,
    h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    reset_after: bool = True,
) -> tuple[Array, GRUCellCache]:
    """Take one step from the state h to the state h'.

    With W_ih, W_hh, b_ih and b_hh each cut in three blocks of width H, and all products elementwise
    but those with a W::

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)     how much of the state n sees
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)     how much of it to keep
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))    what to write
        h' = (1 - z) n + z h

    That is torch's n. With ``reset_after=False`` it is the paper's, the state reset before the
    product: each element of n then sees all of r, and the bias is not reset::

        n = tanh(W_in x + b_in + W_hn (r h) + b_hn)

    Args:
        x: (..., I).
        h: (..., H).
        weight_ih: (3H, I), the blocks in the order r, z, n.
        weight_hh: (3H, H).
        bias_ih: (3H,) or None.
        bias_hh: (3H,) or None; both or neither.
        reset_after: whether r multiplies what W_hn makes of the state, or the state itself.

    Returns:
        h' of shape (..., H), and the cache of :func:`gru_cell_backward`.

    Raises:
        ValueError: the shapes do not fit, or one bias is given without the other.

    >>> zero, bias_hh = np.zeros, np.array([0.0, 0.0, np.log(4.0)])  # r and z are 1/2
    >>> args = (zero(2), zero(1), zero((3, 2)), zero((3, 1)), zero(3), bias_hh)
    >>> h, _ = gru_cell_forward(*args)  # n = tanh(log(4) / 2) = tanh(log 2) = 3/5
    >>> h.round(12).tolist()
    [0.3]
    >>> h, _ = gru_cell_forward(*args, reset_after=False)  # n = tanh(log 4) = 15/17
    >>> bool(np.isclose(h[0], 15 / 34))
    True
    """
    check_cell(3, x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    cut = [2 * h.shape[-1]]  # r and z, which take h as it is, and n
    w_rz, w_n = np.split(weight_hh, cut)  # (2H, H), (H, H)
    b_rz, b_n = (None, None) if bias_hh is None else np.split(bias_hh, cut)  # (2H,), (H,)
    from_input, input_cache = linear_forward(x, weight_ih, bias_ih)  # (..., 3H)
    x_rz, x_n = np.split(from_input, cut, axis=-1)  # (..., 2H), (..., H)
    h_rz, state_cache = linear_forward(h, w_rz, b_rz)  # (..., 2H)
    r, z = split_last(sigmoid(x_rz + h_rz), 2)  # (..., H) each
    if reset_after:
        h_n, new_cache = linear_forward(h, w_n, b_n)  # (..., H)
        a_n = x_n + r * h_n
    else:
        h_n, new_cache = linear_forward(r * h, w_n, b_n)  # (..., H)
        a_n = x_n + h_n
    n = np.tanh(a_n)
    h_next = (1 - z) * n + z * h
    caches = input_cache, state_cache, new_cache
    return h_next, GRUCellCache(h, r, z, n, h_n, reset_after, *caches)


def gru_cell_backward(dy: Array, cache: GRUCellCache) -> tuple[Array, ...]:
    """Return dx, dh, dweight_ih, dweight_hh and, where they were given, dbias_ih and dbias_hh.

    dh is a sum of three: the state is kept by z, seen by n, and seen by the gates r and z. All that
    reaches r comes through n, by the product rule: of r and W_hn h + b_hn, or of r and h.

    Args:
        dy: (..., H), of h'.
        cache: what :func:`gru_cell_forward` returned.
    """
    h, r, z, n, h_n, reset_after, input_cache, state_cache, new_cache = cache
    check_dy(dy, h.shape, h.dtype)
    # h_next = (1 - z) * n + z * h
    dz, dn, dh = dy * (h - n), dy * (1 - z), dy * z
    # n = tanh(a_n)
    da_n = dn * (1 - n * n)
    if reset_after:
        # a_n = x_n + r * h_n
        dr, dh_n = da_n * h_n, da_n * r
        # h_n = linear(h, w_n, b_n)
        dseen, dw_n, *db_n = linear_backward(dh_n, new_cache)
        dh = dh + dseen
    else:
        # a_n = x_n + h_n, h_n = linear(r * h, w_n, b_n)
        dreset, dw_n, *db_n = linear_backward(da_n, new_cache)
        dr, dh = dreset * h, dh + dreset * r
    # r, z = sigmoid(x_rz + h_rz)
    da_r, da_z = dr * r * (1 - r), dz * z * (1 - z)
    da_rz = np.concatenate([da_r, da_z], axis=-1)  # (..., 2H)
    # h_rz = linear(h, w_rz, b_rz)
    dgated, dw_rz, *db_rz = linear_backward(da_rz, state_cache)
    dh = dh + dgated
    # x_rz, x_n = linear(x, weight_ih, bias_ih)
    da = np.concatenate([da_rz, da_n], axis=-1)  # (..., 3H)
    dx, dweight_ih, *dbias_ih = linear_backward(da, input_cache)
    # w_rz, w_n = weight_hh and b_rz, b_n = bias_hh, cut
    dweight_hh = np.concatenate([dw_rz, dw_n])  # (3H, H)
    dbias_hh = (np.concatenate([*db_rz, *db_n]),) if db_n else ()  # (3H,)
    return dx, dh, dweight_ih, dweight_hh, *dbias_ih, *dbias_hh
