"""One step of the LSTM."""

import re

import numpy as np
import pytest
from layer_checks import assert_agrees_with_torch, assert_close

from npllm.evidence.layers.lstm_cell import lstm_cell_arguments
from npllm.evidence.source import Source
from npllm.layers import lstm_cell_backward, lstm_cell_forward


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (6,), (0,)])
def test_agrees_with_torch(torch, bias, lead):
    layer = lstm_cell_arguments(Source(), lead, 3, 4, bias=bias)
    cell = torch.nn.LSTMCell(3, 4, bias=bias, dtype=torch.float64)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def reference(x, h, c, *weights):
        weights = dict(zip(names, weights, strict=False))
        return torch.func.functional_call(cell, weights, (x, (h, c)))

    assert_agrees_with_torch(torch, layer, reference)


@pytest.mark.parametrize("lead", [(), (6,), (2, 3), (0,)])
def test_peepholes_agree_with_torch(torch, lead):
    def reference(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, weight_ch):
        a = x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh
        (a_i, a_f, a_g, a_o), (p_i, p_f, p_o) = a.chunk(4, -1), weight_ch.chunk(3)
        i, f = torch.sigmoid(a_i + p_i * c), torch.sigmoid(a_f + p_f * c)
        c = f * c + i * torch.tanh(a_g)
        return torch.sigmoid(a_o + p_o * c) * torch.tanh(c), c

    layer = lstm_cell_arguments(Source(), lead, 3, 4, peepholes=True)
    assert_agrees_with_torch(torch, layer, reference)


def test_peepholes_of_zero_see_nothing():
    x, h, c, *weights, peepholes = lstm_cell_arguments(Source(), (6,), 3, 4, peepholes=True).args
    expected, _ = lstm_cell_forward(x, h, c, *weights)
    y, _ = lstm_cell_forward(x, h, c, *weights, np.zeros_like(peepholes))
    assert_close(y, expected, tolerance=0)


GOOD = {
    "x": (2, 3),
    "h": (2, 4),
    "c": (2, 4),
    "weight_ih": (16, 3),
    "weight_hh": (16, 4),
    "bias_ih": (16,),
    "bias_hh": (16,),
    "weight_ch": (12,),
}


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (2, 5), "x must have shape (2, 3), got (2, 5)"),
        ("x", (3, 3), "x must have shape (2, 3), got (3, 3)"),
        ("x", (), "x must have shape (2, 3), got ()"),
        ("h", (), "h must have shape (..., H), got ()"),
        ("h", (2, 5), "weight_hh must have shape (16, 5), got (16, 4)"),
        ("c", (2, 5), "c must have shape (2, 4), got (2, 5)"),
        ("weight_ih", (12, 3), "weight_ih must have shape (16, I), got (12, 3)"),
        ("weight_ih", (16,), "weight_ih must have shape (16, I), got (16,)"),
        ("weight_hh", (16, 3), "weight_hh must have shape (16, 4), got (16, 3)"),
        ("bias_ih", (4,), "bias_ih must have shape (16,), got (4,)"),
        ("bias_hh", (4,), "bias_hh must have shape (16,), got (4,)"),
        ("weight_ch", (16,), "weight_ch must have shape (12,), got (16,)"),
        ("bias_hh", None, "bias_ih and bias_hh must be given both or neither"),
    ],
)
def test_shapes_that_do_not_fit(name, shape, message):
    args = [None if s is None else np.ones(s) for s in (GOOD | {name: shape}).values()]
    with pytest.raises(ValueError, match=re.escape(message)):
        lstm_cell_forward(*args)


@pytest.mark.parametrize(("dh", "dc", "name"), [(1, 2, "dh'"), (2, 1, "dc'")])
def test_cotangents_of_another_shape(dh, dc, name):
    _, cache = lstm_cell_forward(*map(np.ones, GOOD.values()))
    with pytest.raises(ValueError, match=rf"{name} must have shape \(2, 4\), got \(1, 4\)"):
        lstm_cell_backward((np.ones((dh, 4)), np.ones((dc, 4))), cache)
