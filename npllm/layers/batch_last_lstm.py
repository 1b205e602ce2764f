"""One layer of an LSTM in one direction, the sequences as columns: fast, and less plain to read.

It is the function of :mod:`npllm.layers.unrolled_lstm`, without peepholes, and proven equal to it.
What it trades for speed:

* **batch last**: a step is one product, a = W [x; h; 1] with W = [W_ih W_hh b], (4H, I + P + 1),
  and x_t, h_(t-1) and a row of ones one below the other in one buffer. A BLAS is faster with few
  columns than with few rows, and each gate is one block of memory. The backward's W^T da holds
  dx and dh, and its da [x; h; 1]^T the gradients of all weights;
* all four gates take one tanh, since sigmoid(a) = (1 + tanh(a / 2)) / 2: with HALF and SHIFT
  constant over each gate, a gate is HALF * tanh(HALF * a) + SHIFT. The inner HALF is multiplied
  into W once a call. The backward uses the weights as they were given;
* the backward takes some steps at a time, so that what it needs of them stays in the cache;
* steps beyond a sequence's end run too: its state is picked where it ends, and its gradient
  enters there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.layers.arrays import Array, Ids, Mask
from npllm.layers.lstm_cell import State
from npllm.layers.unrolled_lstm import checked_cotangents

PIECE = 2**18  # numbers of the gates that the backward takes at a time: 1 MB in float32


class BatchLastCache(NamedTuple):
    """What the backward needs of the forward."""

    columns: Array  # (T + 1, K, B): x_t, h_(t-1) and, with biases, ones; of the last, only h
    weight_ih: Array
    weight_hh: Array
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
        x: (T, B, I). It and y cost nothing to turn where their memory has the batch last.
        h0: (B, P).
        c0: (B, H).
        weight_ih: (4H, I), the blocks in the order i, f, g, o.
        weight_hh: (4H, P).
        bias_ih: (4H,) or None.
        bias_hh: (4H,) or None; both or neither.
        weight_hr: (P, H), the projection; None without, and P = H.
        lengths: (B,) how many steps of each sequence are real; None where all are.
    """
    (steps, batch, width), (output_size, hidden) = x.shape, (h0.shape[1], c0.shape[1])
    blocks = [weight_ih, weight_hh]
    if bias_ih is not None and bias_hh is not None:
        blocks.append((bias_ih + bias_hh)[:, None])
    half = np.array([0.5, 0.5, 1, 0.5], x.dtype)[:, None, None]  # of i, f, g, o
    shift = 1 - half
    joined = np.concatenate(blocks, axis=1)  # (4H, K)
    joined.reshape(4, hidden, -1)[...] *= half
    columns = np.empty((steps + 1, joined.shape[1], batch), x.dtype)
    columns[:-1, :width] = x.swapaxes(1, 2)
    columns[:, width + output_size :] = 1
    h = columns[:, width : width + output_size]  # (T + 1, P, B)
    gates = np.empty((steps, 4, hidden, batch), x.dtype)
    cells = np.empty((steps + 1, hidden, batch), x.dtype)
    tanh_cells = np.empty((steps, hidden, batch), x.dtype)
    unprojected = None if weight_hr is None else np.empty_like(tanh_cells)
    h[0], cells[0] = h0.T, c0.T
    for t in range(steps):
        i, f, g, o = a = gates[t]  # (H, B) each
        np.matmul(joined, columns[t], out=a.reshape(4 * hidden, batch))
        np.tanh(a, out=a)
        a *= half
        a += shift
        np.multiply(f, cells[t], out=cells[t + 1])
        cells[t + 1] += i * g
        np.tanh(cells[t + 1], out=tanh_cells[t])
        if weight_hr is None or unprojected is None:
            np.multiply(o, tanh_cells[t], out=h[t + 1])
        else:
            np.multiply(o, tanh_cells[t], out=unprojected[t])
            np.matmul(weight_hr, unprojected[t], out=h[t + 1])
    weights = (weight_ih, weight_hh, weight_hr)
    cache = BatchLastCache(columns, *weights, lengths, gates, cells, tanh_cells, unprojected)
    y = h[1:].swapaxes(1, 2)  # (T, B, P)
    if lengths is None:
        return (y, (h[-1].T, cells[-1].T)), cache
    ends = lengths, slice(None), np.arange(batch)
    return (np.where(_real(steps, lengths), y, 0), (h[ends], cells[ends])), cache


def batch_last_lstm_backward(
    dy: tuple[Array, State | None], cache: BatchLastCache, *, for_x: bool = True
) -> tuple[Array, ...]:
    """Return dx, dh0, dc0 and the gradients of the weights that were given, in their order.

    Args:
        dy: (dy, (dh_n, dc_n)), shaped as the forward's result; None for the pair where it is zero.
        cache: what :func:`batch_last_lstm_forward` returned.
        for_x: False leaves dx out: its last axis is empty then.
    """
    columns, weight_ih, weight_hh, weight_hr, lengths, gates, *_, unprojected = cache
    steps, _, hidden, batch = gates.shape
    dout, (dh_n, dc_n) = checked_cotangents(dy, (steps, batch, weight_hh.shape[1]), hidden)
    if lengths is not None:
        # y = where(real, h, 0)
        dout = np.where(_real(steps, lengths), dout, 0)
    dout = np.ascontiguousarray(dout.swapaxes(1, 2))  # (T, P, B)
    dh, dc = _entering(dh_n.T, dc_n.T, lengths, steps)
    width = weight_ih.shape[1] if for_x else 0
    back = np.concatenate([weight_ih[:, :width], weight_hh], axis=1).T  # (I + P, 4H)
    dcolumns = np.empty((steps, len(back), batch), columns.dtype)
    da = np.empty((4 * hidden, steps, batch), columns.dtype)
    dhr = [] if weight_hr is None else [np.zeros_like(weight_hr)]
    size = max(1, PIECE // max(1, 4 * hidden * batch))
    for stop in range(steps, 0, -size):
        piece = slice(max(0, stop - size), stop)
        through_c, of_piece = _slopes(cache, piece)
        for t in reversed(range(piece.start, stop)):
            dh_t = dunprojected = dh + dout[t]  # (P, B)
            if weight_hr is not None and unprojected is not None:
                # h = weight_hr @ unprojected
                dhr[0] += dh_t @ unprojected[t].T
                dunprojected = weight_hr.T @ dh_t  # (H, B)
            # unprojected = o * tanh(c)
            dc_t = dunprojected * through_c[t - piece.start]
            dc_t += dc
            da_t = of_piece[t - piece.start]  # (4, H, B)
            da_t[3] *= dunprojected
            # c = f * c_previous + i * g
            da_t[:3] *= dc_t
            dc = np.multiply(dc_t, gates[t, 1], out=dc_t)
            # a = joined @ columns
            np.matmul(back, da_t.reshape(4 * hidden, batch), out=dcolumns[t])
            dh = dcolumns[t, width:]
            if lengths is not None:
                # h_n, c_n = h[lengths], cells[lengths]
                entering = _entering(dh_n.T, dc_n.T, lengths, t)
                dh, dc = dh + entering[0], dc + entering[1]
        da[:, piece] = of_piece.reshape(stop - piece.start, 4 * hidden, batch).swapaxes(0, 1)
    # joined = [weight_ih, weight_hh, bias_ih + bias_hh]
    rows = columns[:-1].swapaxes(0, 1).reshape(len(columns[0]), steps * batch).T  # (T B, K)
    inputs = weight_ih.shape[1]
    blocks = np.split(rows, [inputs, inputs + weight_hh.shape[1]], axis=1)
    dih, dhh, dbias = (da.reshape(4 * hidden, steps * batch) @ block for block in blocks)
    dx = dcolumns[:, :width].swapaxes(1, 2)  # (T, B, I)
    return dx, dh.T, dc.T, dih, dhh, *dbias.T, *dbias.T.copy(), *dhr


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
