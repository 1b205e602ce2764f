"""One layer of an LSTM in one direction: the recurrence, and its backward through time.

The equations are those of :mod:`npllm.layers.lstm_cell`. Two things make them fast here:

* the input's share of all gates is one matrix product for the whole sequence, before the loop;
* all four gates take one tanh, since sigmoid(a) = (1 + tanh(a / 2)) / 2: with HALF and SHIFT
  constant over each gate, a gate is HALF * tanh(HALF * a) + SHIFT. The inner HALF is multiplied
  into the weights once a call. The backward uses the weights as they were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from npllm.layers.arrays import Array, as_rows, check_shape


class DirectionWeights(NamedTuple):
    """The weights of one layer in one direction."""

    ih: Array  # (4H, I)
    hh: Array  # (4H, P)
    bias_ih: Array | None  # (4H,)
    bias_hh: Array | None  # (4H,)
    hr: Array | None  # (P, H)

    @classmethod
    def pick(cls, weights: Mapping[str, Array], suffix: str, x: Array) -> DirectionWeights:
        """Take the weights named ``..._suffix``, having checked their shapes."""
        hr = weights.get(f"weight_hr_{suffix}")
        hidden = len(weights[f"weight_hh_{suffix}"]) // 4
        shown = hidden if hr is None else len(hr)
        shapes = {
            "weight_ih": (4 * hidden, x.shape[-1]),
            "weight_hh": (4 * hidden, shown),
            "bias_ih": (4 * hidden,),
            "bias_hh": (4 * hidden,),
            "weight_hr": (shown, hidden),
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

    x: Array  # (T, B, I)
    h0: Array  # (B, P)
    weights: DirectionWeights
    real: Array | None  # (T, B, 1)
    gates: Array  # (T, B, 4H)
    cells: Array  # (T + 1, B, H), the initial one first
    tanh_cells: Array  # (T, B, H)
    hidden: Array  # (T + 1, B, P), the initial one first
    shown: Array | None  # (T, B, H), o tanh(c) where a projection follows


def _gate_constants(hidden: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return HALF and SHIFT: 1/2 and 1/2 for the sigmoid gates i, f, o; 1 and 0 for g."""
    half = np.full(4 * hidden, 0.5, dtype)
    half[2 * hidden : 3 * hidden] = 1
    return half, 1 - half


def lstm_direction_forward(
    x: Array, h0: Array, c0: Array, weights: DirectionWeights, real: Array | None
) -> tuple[Array, Array, Array, DirectionCache]:
    """Run one layer in one direction; return y, h_n, c_n and the cache."""
    (steps, batch, _), hidden = x.shape, c0.shape[-1]
    half, shift = _gate_constants(hidden, x.dtype)
    gates = as_rows(x) @ (weights.ih * half[:, None]).T  # (TB, 4H)
    if weights.bias_ih is not None and weights.bias_hh is not None:
        gates += (weights.bias_ih + weights.bias_hh) * half
    gates = gates.reshape(steps, batch, 4 * hidden)
    recurrent = np.ascontiguousarray((weights.hh * half[:, None]).T)  # (P, 4H)
    cells = np.empty((steps + 1, batch, hidden), x.dtype)
    h = np.empty((steps + 1, *h0.shape), x.dtype)
    tanh_cells = np.empty((steps, batch, hidden), x.dtype)
    shown = None if weights.hr is None else np.empty_like(tanh_cells)
    cells[0], h[0] = c0, h0
    for t in range(steps):
        a = gates[t]  # (B, 4H)
        a += h[t] @ recurrent
        np.tanh(a, out=a)
        a *= half
        a += shift
        i, f, g, o = _four(a)
        np.multiply(f, cells[t], out=cells[t + 1])
        cells[t + 1] += i * g
        np.tanh(cells[t + 1], out=tanh_cells[t])
        if weights.hr is None or shown is None:
            np.multiply(o, tanh_cells[t], out=h[t + 1])
        else:
            np.multiply(o, tanh_cells[t], out=shown[t])
            np.matmul(shown[t], weights.hr.T, out=h[t + 1])
        if real is not None:
            np.copyto(cells[t + 1], cells[t], where=~real[t])
            np.copyto(h[t + 1], h[t], where=~real[t])
    y = h[1:] if real is None else np.where(real, h[1:], np.zeros((), x.dtype))
    cache = DirectionCache(x, h0, weights, real, gates, cells, tanh_cells, h, shown)
    return y, h[-1], cells[-1], cache


def lstm_direction_backward(
    dy: Array, dh: Array | None, dc: Array | None, cache: DirectionCache
) -> tuple[Array, Array, Array, dict[str, Array]]:
    """Return dx, dh0, dc0 and the gradients of the weights by name."""
    x, h0, weights, real, gates, cells, tanh_cells, h, shown = cache
    steps = len(tanh_cells)
    check_shape(dy, h[1:].shape, "dy")
    dh = np.zeros_like(h0) if dh is None else dh
    dc = np.zeros_like(cells[0]) if dc is None else dc
    check_shape(dh, h0.shape, "dh_n")
    check_shape(dc, cells[0].shape, "dc_n")
    if real is not None:
        # y = where(real, h, 0)
        dy = np.where(real, dy, np.zeros((), dy.dtype))
    dhr = None if weights.hr is None else np.zeros_like(weights.hr)
    da = np.empty_like(gates)  # (T, B, 4H)
    for t in reversed(range(steps)):
        i, f, g, o = _four(gates[t])
        da_i, da_f, da_g, da_o = _four(da[t])
        dh_t = dh + dy[t]  # (B, P)
        if real is not None:
            dh_t *= real[t]
        # h = shown @ hr.T
        dshown = dh_t
        if weights.hr is not None and shown is not None:
            dshown = dh_t @ weights.hr  # (B, H)
            dhr += dh_t.T @ shown[t]
        # shown = o * tanh(c)
        dc_t = dshown * o
        dc_t *= 1 - tanh_cells[t] * tanh_cells[t]
        dc_t += dc
        if real is not None:
            dc_t *= real[t]
        # o = sigmoid(a_o)
        np.multiply(dshown, tanh_cells[t], out=da_o)
        da_o *= o * (1 - o)
        # c = f * c_previous + i * g, i = sigmoid(a_i), f = sigmoid(a_f), g = tanh(a_g)
        np.multiply(dc_t, g, out=da_i)
        da_i *= i * (1 - i)
        np.multiply(dc_t, cells[t], out=da_f)
        da_f *= f * (1 - f)
        np.multiply(dc_t, i, out=da_g)
        da_g *= 1 - g * g
        # a = x @ ih.T + h_previous @ hh.T + biases
        dh_previous, dc_previous = da[t] @ weights.hh, dc_t * f
        if real is not None:
            # beyond its length a sequence hands its state on unchanged
            dh_previous += np.where(real[t], np.zeros((), dh.dtype), dh)
            dc_previous += np.where(real[t], np.zeros((), dc.dtype), dc)
        dh, dc = dh_previous, dc_previous
    flat = as_rows(da)  # (TB, 4H)
    gradients = {
        "weight_ih": flat.T @ as_rows(x),  # (4H, I)
        "weight_hh": flat.T @ as_rows(h[:-1]),  # (4H, P)
    }
    if weights.bias_ih is not None:
        dbias = flat.sum(axis=0)  # (4H,)
        gradients |= {"bias_ih": dbias, "bias_hh": dbias.copy()}
    if dhr is not None:
        gradients["weight_hr"] = dhr
    dx = (flat @ weights.ih).reshape(x.shape)
    return dx, dh, dc, gradients


def _four(a: Array) -> tuple[Array, Array, Array, Array]:
    """Return the blocks i, f, g, o of the last axis, as views."""
    hidden = a.shape[-1] // 4
    return (
        a[..., :hidden],
        a[..., hidden : 2 * hidden],
        a[..., 2 * hidden : 3 * hidden],
        a[..., 3 * hidden :],
    )
