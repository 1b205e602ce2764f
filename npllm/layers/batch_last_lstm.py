"""One layer of an LSTM in one direction, the sequences as columns: fast, and less plain to read.

It is the function of :mod:`npllm.layers.unrolled_lstm`, without peepholes, and proven equal to it.
What it trades for speed:

* **batch last**: a step is one product, a = W [x; h; 1] with W = [W_ih W_hh b], (4H, I + P + 1),
  and x_t, h_(t-1) and a row of ones one below the other in one buffer. A BLAS is faster with few
  columns than with few rows, and each gate is one block of memory;
* an x that is one-hot picks a column of W_ih: it comes as ids, and costs no product in a step;
* all four gates take one tanh, since sigmoid(a) = (1 + tanh(a / 2)) / 2: with HALF and SHIFT
  constant over each gate, a gate is HALF * tanh(HALF * a) + SHIFT. The inner HALF is multiplied
  into W once a call. The backward uses the weights as they were given;
* only dh waits for the step after: dx and the gradients of the weights are products over some
  steps at once, as many as stay in the cache, and so is what the loop needs besides;
* steps beyond a sequence's end run too: its state is picked where it ends, and its gradient
  enters there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.layers.arrays import Array, Ids, Mask, as_rows
from npllm.layers.embedding import one_hot
from npllm.layers.lstm_cell import State
from npllm.layers.unrolled_lstm import checked_cotangents

PIECE = 2**19  # numbers of the gates that the backward takes at a time: 2 MB in float32
PRODUCT, DEPTH, ROWS = 10**6, 512, 16  # a block's multiplications and depth, and its fewest rows


class BatchLastCache(NamedTuple):
    """What the backward needs of the forward."""

    columns: Array  # (T + 1, K, B): x_t, unless it is ids, h_(t-1) and ones; of the last, only h
    ids: Ids | None  # (T, B)
    weight_ih: Array
    weight_hh: Array
    has_bias: bool
    weight_hr: Array | None
    lengths: Ids | None  # (B,)
    gates: Array  # (T, 4, H, B)
    cells: Array  # (T + 1, H, B), the initial one first
    tanh_cells: Array  # (T, H, B)
    unprojected: Array | None  # (T, H, B), o tanh(c) where a projection follows

    def by_rows(self) -> Array:
        """Return i, f, g and o, (T, B, 4, H)."""
        return np.ascontiguousarray(np.moveaxis(self.gates, 3, 1))


def batch_last_lstm_forward(
    x: Array,
    h0: Array,
    c0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    weight_hr: Array | None = None,
    lengths: Ids | None = None,
) -> tuple[tuple[Array, State], BatchLastCache]:
    """Return (y, (h_n, c_n)) and the cache.

    Args:
        x: (T, B, I); or (T, B) integers in [0, I), where x is one-hot.
        h0: (B, P).
        c0: (B, H).
        weight_ih: (4H, I), the blocks in the order i, f, g, o.
        weight_hh: (4H, P).
        bias_ih: (4H,) or None.
        bias_hh: (4H,) or None; both or neither.
        weight_hr: (P, H), the projection; None without, and P = H.
        lengths: (B,) how many steps of each sequence are real; None where all are.
    """
    ids = x if x.ndim == 2 else None
    (steps, batch), hidden, dtype = x.shape[:2], c0.shape[1], weight_hh.dtype
    half = np.array([0.5, 0.5, 1, 0.5], dtype).repeat(hidden)[:, None]  # (4H, 1), of i, f, g, o
    blocks = [weight_hh]
    if bias_ih is not None and bias_hh is not None:
        blocks.append((bias_ih + bias_hh)[:, None])
    width = 0
    if ids is None:
        blocks, width, dtype = [weight_ih, *blocks], x.shape[2], x.dtype
    else:
        table = np.ascontiguousarray((weight_ih * half).T)  # (I, 4H)
    joined = in_blocks(np.concatenate(blocks, axis=1) * half, batch)  # (n, 4H / n, K)
    half = half.repeat(batch, axis=1)  # (4H, B): equal shapes take half the time of broadcast ones
    shift = 1 - half
    columns = np.empty((steps + 1, joined.shape[-1], batch), dtype)
    if ids is None:
        columns[:-1, :width] = x.swapaxes(1, 2)
    columns[:, width + h0.shape[1] :] = 1
    h = columns[:, width : width + h0.shape[1]]  # (T + 1, P, B)
    lengths = None if lengths is None else lengths.copy()  # the caller may change them
    gates = np.empty((steps, 4 * hidden, batch), dtype)
    cells = np.empty((steps + 1, hidden, batch), dtype)
    tanh_cells = np.empty((steps, hidden, batch), dtype)
    unprojected = None if weight_hr is None else np.empty_like(tanh_cells)
    h[0], cells[0] = h0.T, c0.T
    for t in range(steps):
        a = gates[t]  # (4H, B)
        np.matmul(joined, columns[t], out=a.reshape(*joined.shape[:2], batch))
        if ids is not None:
            a += table[ids[t]].T
        np.tanh(a, out=a)
        a *= half
        a += shift
        i, f, g, o = a.reshape(4, hidden, batch)
        c = np.multiply(f, cells[t], out=cells[t + 1])
        c += i * g
        np.tanh(c, out=tanh_cells[t])
        if weight_hr is None or unprojected is None:
            np.multiply(o, tanh_cells[t], out=h[t + 1])
        else:
            np.multiply(o, tanh_cells[t], out=unprojected[t])
            np.matmul(weight_hr, unprojected[t], out=h[t + 1])
    gates = gates.reshape(steps, 4, hidden, batch)
    weights = (weight_ih, weight_hh, bias_ih is not None, weight_hr)
    cache = BatchLastCache(columns, ids, *weights, lengths, gates, cells, tanh_cells, unprojected)
    y = np.ascontiguousarray(h[1:].swapaxes(1, 2))  # (T, B, P)
    if lengths is None:
        return (y, (h[-1].T, cells[-1].T)), cache
    ends = lengths, slice(None), np.arange(batch)
    return (np.where(_real(steps, lengths), y, 0), (h[ends], cells[ends])), cache


def batch_last_lstm_backward(
    dy: tuple[Array, State | None], cache: BatchLastCache
) -> tuple[Array | None, ...]:
    """Return dx, dh0, dc0 and the gradients of the weights that were given, in their order.

    Args:
        dy: (dy, (dh_n, dc_n)), shaped as the forward's result; None for the pair where it is zero.
        cache: what :func:`batch_last_lstm_forward` returned.

    Returns:
        dx (T, B, I), or None where x was ids; and the others, each shaped as its argument.
    """
    columns, ids, weight_ih, weight_hh, has_bias, weight_hr, lengths, gates, *_ = cache
    steps, _, hidden, batch = gates.shape
    dout, (dh_n, dc_n) = checked_cotangents(
        dy, (steps, batch, weight_hh.shape[1]), hidden, columns.dtype
    )
    if lengths is not None:
        # y = where(real, h, 0)
        dout = np.where(_real(steps, lengths), dout, 0)
    dout = np.ascontiguousarray(dout.swapaxes(1, 2))  # (T, P, B)
    dh, dc = (d.copy() for d in _entering(dh_n.T, dc_n.T, lengths, steps))
    dx = None if ids is not None else np.empty((steps, batch, weight_ih.shape[1]), columns.dtype)
    inputs, outputs = weight_ih.shape[1], weight_hh.shape[1]
    djoined = np.zeros((4 * hidden, inputs + outputs + has_bias), weight_hh.dtype)
    dhr = [] if weight_hr is None else [np.zeros_like(weight_hr)]
    back = in_blocks(weight_hh.T, batch)  # (n, P / n, 4H)
    size = max(1, PIECE // max(1, 4 * hidden * batch))
    for stop in range(steps, 0, -size):
        piece = slice(max(0, stop - size), stop)
        through_c, of_piece = _slopes(cache, piece)
        for t in reversed(range(piece.start, stop)):
            dh += dout[t]  # (P, B)
            dunprojected = dh
            if weight_hr is not None and cache.unprojected is not None:
                # h = weight_hr @ unprojected
                dhr[0] += dh @ cache.unprojected[t].T
                dunprojected = weight_hr.T @ dh  # (H, B)
            # unprojected = o * tanh(c)
            dc += dunprojected * through_c[t - piece.start]
            da_t = of_piece[t - piece.start]  # (4, H, B)
            da_t[3] *= dunprojected
            # c = f * c_previous + i * g
            da_t[:3] *= dc
            dc *= gates[t, 1]
            # a = weight_hh @ h_previous + ...
            blocks = dh.reshape(*back.shape[:2], batch)
            np.matmul(back, da_t.reshape(4 * hidden, batch), out=blocks)
            if lengths is not None:
                # h_n, c_n = h[lengths], cells[lengths]
                dh_end, dc_end = _entering(dh_n.T, dc_n.T, lengths, t)
                dh += dh_end
                dc += dc_end
        # a = [weight_ih weight_hh bias_ih+bias_hh] @ [x; h_previous; 1]
        n = stop - piece.start
        da = of_piece.reshape(n, 4 * hidden, batch).swapaxes(0, 1).reshape(4 * hidden, n * batch)
        djoined += da @ _rows(cache, piece)
        if dx is not None:
            np.matmul(da.T, weight_ih, out=as_rows(dx[piece]))
    dih, dhh = djoined[:, :inputs].copy(), djoined[:, inputs : inputs + outputs].copy()
    dbias = djoined[:, inputs + outputs :].sum(axis=1)  # of one column, or none
    return dx, dh.T, dc.T, dih, dhh, *[dbias, dbias.copy()] * has_bias, *dhr


def in_blocks(weight: Array, columns: int) -> Array:
    """Return (M, K) as blocks of rows, (n, M / n, K), for a product with a few columns.

    Before a product a BLAS copies its factors, which many columns pay for. OpenBLAS's AVX-512
    kernels for at most 10^6 multiplications do not, and with 32 columns are up to 1.7 times as
    fast; beyond a depth of 512 they no longer are, and elsewhere the blocks cost 3 to 16%.
    """
    rows, depth = weight.shape
    fewest = max(1, -(-rows * depth * columns // PRODUCT))
    many = range(fewest, rows // ROWS + 1) if depth <= DEPTH else ()
    n = next((n for n in many if rows % n == 0), 1)
    return weight.reshape(n, rows // n, depth)


def _rows(cache: BatchLastCache, piece: slice) -> Array:
    """Return x, h_previous and ones of some steps in rows, (T B, I + P + 1)."""
    rows, ids = cache.columns[piece].swapaxes(1, 2), cache.ids
    if ids is not None:
        x = one_hot(ids[piece], cache.weight_ih.shape[1], rows.dtype)
        rows = np.concatenate([x, rows], axis=2)
    return as_rows(rows)


def _real(steps: int, lengths: Ids) -> Mask:
    """Return (T, B, 1): which steps are within their sequence."""
    return np.arange(steps)[:, None, None] < lengths[:, None]


def _entering(dh_n: Array, dc_n: Array, lengths: Ids | None, t: int) -> tuple[Array, Array]:
    """Return what of the final state's gradient enters at step t: that of sequences which end."""
    if lengths is None:
        return dh_n, dc_n
    return np.where(lengths == t, dh_n, 0), np.where(lengths == t, dc_n, 0)


def _slopes(cache: BatchLastCache, piece: slice) -> tuple[Array, Array]:
    """Return what dh is multiplied with to reach c, and dc and dh to reach the gates' a.

    Returns:
        (T, H, B), and (T, 4, H, B), of which dc multiplies i, f and g, and dh multiplies o, T the
        steps of the piece.
    """
    gates, tanh_cells = cache.gates[piece], cache.tanh_cells[piece]
    i, _, g, o = gates.swapaxes(0, 1)
    # h = o * tanh(c)
    through_c = tanh_cells * tanh_cells
    np.subtract(1, through_c, out=through_c)
    through_c *= o
    # i, f, o = sigmoid(a), g = tanh(a)
    slopes = 1 - gates
    slopes *= gates
    of_i, of_f, of_g, of_o = slopes.swapaxes(0, 1)
    np.multiply(g, g, out=of_g)
    np.subtract(1, of_g, out=of_g)
    # c = f * c_before + i * g
    of_i *= g
    of_f *= cache.cells[piece]
    of_g *= i
    of_o *= tanh_cells
    return through_c, slopes
