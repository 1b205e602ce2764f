"""One layer of an LSTM in one direction: the recurrence, and its backward through time.

The equations are those of :mod:`npllm.layers.lstm_cell`. What makes them fast here:

* what does not wait for the step before is done for the whole sequence at once: the input's share
  of all gates, one matrix product, before the forward's loop; in the backward the factors by which
  dh and dc reach the gates, before its loop, and the gradients of the weights, after it;
* all four gates take one tanh, since sigmoid(a) = (1 + tanh(a / 2)) / 2: with HALF and SHIFT
  constant over each gate, a gate is HALF * tanh(HALF * a) + SHIFT. The inner HALF is multiplied
  into the weights once a call. The backward uses the weights as they were given;
* where the input is rows of a table, W_ih is multiplied with the table and the rows of the product
  are looked up: once a word instead of once a position, since W (E x) = (W E) x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from npllm.layers.arrays import Array, Ids, Mask, as_rows, check_shape
from npllm.layers.embedding import EmbeddingCache, embedding_backward, embedding_forward


class DirectionWeights(NamedTuple):
    """The weights of one layer in one direction."""

    ih: Array  # (4H, I)
    hh: Array  # (4H, P)
    bias_ih: Array | None  # (4H,)
    bias_hh: Array | None  # (4H,)
    hr: Array | None  # (P, H)
    ch: Array | None  # (3H,), the peepholes of i, f and o

    @classmethod
    def pick(
        cls, weights: Mapping[str, Array], suffix: str, width: int, hidden: int, output_size: int
    ) -> DirectionWeights:
        """Take the weights named ``..._suffix``, having checked their shapes for I, H and P."""
        shapes = {
            "weight_ih": (4 * hidden, width),
            "weight_hh": (4 * hidden, output_size),
            "bias_ih": (4 * hidden,),
            "bias_hh": (4 * hidden,),
            "weight_hr": (output_size, hidden),
            "weight_ch": (3 * hidden,),
        }
        picked: list[Any] = []
        for name, shape in shapes.items():
            array = weights.get(f"{name}_{suffix}")
            if array is not None:
                check_shape(array, shape, f"{name}_{suffix}")
            picked.append(array)
        return cls(*picked)


class DirectionCache(NamedTuple):
    """What the backward needs of the forward."""

    x: Array  # (T, B, I), or the table (V, I)
    lookup: EmbeddingCache | None  # of the look-up in the table, or None
    h0: Array  # (B, P)
    weights: DirectionWeights
    real: Mask | None  # (T, B, 1)
    gates: Array  # (T, B, 4H)
    cells: Array  # (T + 1, B, H), the initial one first
    tanh_cells: Array  # (T, B, H)
    hidden: Array  # (T + 1, B, P), the initial one first
    unprojected: Array | None  # (T, B, H), o tanh(c) where a projection follows


def _gate_constants(hidden: int, dtype: np.dtype[np.inexact]) -> tuple[Array, Array]:
    """Return HALF and SHIFT: 1/2 and 1/2 for the sigmoid gates i, f, o; 1 and 0 for g."""
    half = np.full(4 * hidden, 0.5, dtype)
    half[2 * hidden : 3 * hidden] = 1
    return half, 1 - half


def lstm_direction_forward(
    x: Array,
    ids: Ids | None,
    h0: Array,
    c0: Array,
    weights: DirectionWeights,
    real: Mask | None,
) -> tuple[Array, Array, Array, DirectionCache]:
    """Run one layer in one direction; return y, h_n, c_n and the cache.

    Args:
        x: (T, B, I), or a table (V, I) where ``ids`` are given.
        ids: (T, B) rows of the table, or None.
        h0: (B, P).
        c0: (B, H).
        weights: of the layer in this direction.
        real: (T, B, 1), False beyond a sequence's end; None where all steps are real.
    """
    batch, hidden = c0.shape
    half, shift = _gate_constants(hidden, x.dtype)
    from_input = as_rows(x) @ (weights.ih * half[:, None]).T  # (TB, 4H), or (V, 4H)
    if weights.bias_ih is not None and weights.bias_hh is not None:
        from_input += (weights.bias_ih + weights.bias_hh) * half
    if ids is None:
        gates, lookup = from_input.reshape(*x.shape[:2], 4 * hidden), None  # (T, B, 4H)
    else:
        gates, lookup = embedding_forward(ids, from_input)
    steps = len(gates)
    recurrent = np.ascontiguousarray((weights.hh * half[:, None]).T)  # (P, 4H)
    peepholes = None if weights.ch is None else 0.5 * weights.ch.reshape(3, hidden)
    cells = np.empty((steps + 1, batch, hidden), x.dtype)
    h = np.empty((steps + 1, *h0.shape), x.dtype)
    tanh_cells = np.empty((steps, batch, hidden), x.dtype)
    unprojected = None if weights.hr is None else np.empty_like(tanh_cells)
    cells[0], h[0] = c0, h0
    for t in range(steps):
        a = gates[t]  # (B, 4H)
        a += h[t] @ recurrent
        if peepholes is not None:
            i, f, _, o = _gates(a)
            i += peepholes[0] * cells[t]
            f += peepholes[1] * cells[t]
            half_a_o = o.copy()  # the output gate waits for the new cell
        np.tanh(a, out=a)
        a *= half
        a += shift
        i, f, g, o = _gates(a)
        np.multiply(f, cells[t], out=cells[t + 1])
        cells[t + 1] += i * g
        if peepholes is not None:
            half_a_o += peepholes[2] * cells[t + 1]
            o[...] = 0.5 * np.tanh(half_a_o) + 0.5
        np.tanh(cells[t + 1], out=tanh_cells[t])
        if weights.hr is None or unprojected is None:
            np.multiply(o, tanh_cells[t], out=h[t + 1])
        else:
            np.multiply(o, tanh_cells[t], out=unprojected[t])
            np.matmul(unprojected[t], weights.hr.T, out=h[t + 1])
        if real is not None:
            np.copyto(cells[t + 1], cells[t], where=~real[t])
            np.copyto(h[t + 1], h[t], where=~real[t])
    y = h[1:] if real is None else np.where(real, h[1:], np.zeros((), x.dtype))
    cache = DirectionCache(x, lookup, h0, weights, real, gates, cells, tanh_cells, h, unprojected)
    return y, h[-1], cells[-1], cache


def lstm_direction_backward(
    dy: Array, dh: Array | None, dc: Array | None, cache: DirectionCache
) -> tuple[Array, Array, Array, dict[str, Array]]:
    """Return dx (or the table's gradient), dh0, dc0 and the gradients of the weights by name.

    Args:
        dy: (T, B, P).
        dh: (B, P), of the final state, or None for zeros.
        dc: (B, H), of the final state, or None for zeros.
        cache: what :func:`lstm_direction_forward` returned.
    """
    x, lookup, h0, weights, real, gates, cells, tanh_cells, h, unprojected = cache
    check_shape(dy, h[1:].shape, "dy")
    dh = np.zeros_like(h[0]) if dh is None else dh
    dc = np.zeros_like(cells[0]) if dc is None else dc
    check_shape(dh, h0.shape, "dh_n")
    check_shape(dc, cells[0].shape, "dc_n")
    if real is not None:
        # y = where(real, h, 0)
        dy = np.where(real, dy, np.zeros((), dy.dtype))
    dhr = None if weights.hr is None else np.zeros_like(weights.hr)
    peepholes = None if weights.ch is None else weights.ch.reshape(3, -1)
    through_c, da = _slopes(gates, cells[:-1], tanh_cells)
    for t in reversed(range(len(da))):
        dh_t = dh + dy[t]  # (B, P)
        if real is not None:
            dh_t *= real[t]
        # h = unprojected @ hr.T
        dunprojected = dh_t
        if weights.hr is not None and unprojected is not None:
            dunprojected = dh_t @ weights.hr  # (B, H)
            dhr += dh_t.T @ unprojected[t]
        # unprojected = o * tanh(c)
        dc_t = dunprojected * through_c[t]
        dc_t += dc
        if real is not None:
            dc_t *= real[t]
        i, f, g, o = _gates(da[t])
        o *= dunprojected
        if peepholes is not None:
            # a_o = ... + peepholes[2] * c
            dc_t += o * peepholes[2]
        # c = f * c_previous + i * g
        i *= dc_t
        f *= dc_t
        g *= dc_t
        # a = x @ ih.T + h_previous @ hh.T + biases
        dh_previous, dc_previous = da[t] @ weights.hh, dc_t * _gates(gates[t])[1]
        if real is not None:
            # beyond its length a sequence hands its state on unchanged
            dh_previous += np.where(real[t], np.zeros((), dh.dtype), dh)
            dc_previous += np.where(real[t], np.zeros((), dc.dtype), dc)
        if peepholes is not None:
            # a_i = ... + peepholes[0] * c_previous, a_f = ... + peepholes[1] * c_previous
            dc_previous += i * peepholes[0] + f * peepholes[1]
        dh, dc = dh_previous, dc_previous
    # gates = from_input[ids]
    dfrom_input = as_rows(da) if lookup is None else embedding_backward(da, lookup)  # (TB or V, 4H)
    # from_input = x @ ih.T + bias_ih + bias_hh
    gradients = {
        "weight_ih": dfrom_input.T @ as_rows(x),  # (4H, I)
        "weight_hh": as_rows(da).T @ as_rows(h[:-1]),  # (4H, P)
    }
    if weights.bias_ih is not None:
        dbias = dfrom_input.sum(axis=0)  # (4H,)
        gradients |= {"bias_ih": dbias, "bias_hh": dbias.copy()}
    if dhr is not None:
        gradients["weight_hr"] = dhr
    if weights.ch is not None:
        i, f, _, o = _gates(da)
        before, after = cells[:-1], cells[1:]
        dch = np.concatenate([i * before, f * before, o * after], axis=-1)  # (T, B, 3H)
        gradients["weight_ch"] = as_rows(dch).sum(axis=0)  # (3H,)
    dx = (dfrom_input @ weights.ih).reshape(x.shape)
    return dx, dh, dc, gradients


def _slopes(gates: Array, before: Array, tanh_cells: Array) -> tuple[Array, Array]:
    """Return what dh is multiplied with to reach c, and dc and dh to reach the gates' a.

    Args:
        gates: (T, B, 4H).
        before: (T, B, H), the cells before each step.
        tanh_cells: (T, B, H).

    Returns:
        (T, B, H), and (T, B, 4H), of which dc multiplies i, f and g, and dh multiplies o.
    """
    i, _, g, o = _gates(gates)
    # h = o * tanh(c)
    through_c = tanh_cells * tanh_cells
    np.subtract(1, through_c, out=through_c)
    through_c *= o
    # i, f, o = sigmoid(a), g = tanh(a)
    slopes = 1 - gates
    slopes *= gates
    of_i, of_f, of_g, of_o = _gates(slopes)
    np.multiply(g, g, out=of_g)
    np.subtract(1, of_g, out=of_g)
    # c = f * c_before + i * g
    of_i *= g
    of_f *= before
    of_g *= i
    of_o *= tanh_cells
    return through_c, slopes


def _gates(a: Array) -> tuple[Array, Array, Array, Array]:
    """Return the blocks i, f, g, o of the last axis, as views."""
    hidden = a.shape[-1] // 4
    return (
        a[..., :hidden],
        a[..., hidden : 2 * hidden],
        a[..., 2 * hidden : 3 * hidden],
        a[..., 3 * hidden :],
    )
