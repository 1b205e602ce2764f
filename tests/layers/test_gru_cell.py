"""One step of the GRU."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.layers.gru_cell import gru_cell_arguments
from npllm.evidence.source import Source
from npllm.layers import gru_cell_backward, gru_cell_forward

both_forms = pytest.mark.parametrize("reset_after", [True, False])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (6,), (0,)])
def test_agrees_with_torch(torch, bias, lead):
    layer = gru_cell_arguments(Source(), lead, 3, 4, bias=bias)
    cell = torch.nn.GRUCell(3, 4, bias=bias, dtype=torch.float64)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def reference(x, h, *weights):
        weights = dict(zip(names, weights, strict=False))
        return torch.func.functional_call(cell, weights, (x, h))

    assert_agrees_with_torch(torch, layer, reference)


@both_forms
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (6,), (2, 3), (0,)])
def test_agrees_with_the_equations_in_torch(torch, reset_after, bias, lead):
    def reference(x, h, weight_ih, weight_hh, *biases):
        w_r, w_z, w_n = weight_ih.chunk(3)
        u_r, u_z, u_n = weight_hh.chunk(3)
        b_r, b_z, b_n = biases[0].chunk(3) if biases else (0, 0, 0)
        c_r, c_z, c_n = biases[1].chunk(3) if biases else (0, 0, 0)
        r = torch.sigmoid(x @ w_r.T + b_r + h @ u_r.T + c_r)
        z = torch.sigmoid(x @ w_z.T + b_z + h @ u_z.T + c_z)
        of_state = r * (h @ u_n.T + c_n) if reset_after else (r * h) @ u_n.T + c_n
        return (1 - z) * torch.tanh(x @ w_n.T + b_n + of_state) + z * h

    layer = gru_cell_arguments(Source(), lead, 3, 4, bias=bias, reset_after=reset_after)
    assert_agrees_with_torch(torch, layer, reference)


def test_steps_agree_with_torch_over_a_sequence(torch):
    x, h0, *weights = gru_cell_arguments(Source(), (6, 2), 3, 4).args

    def forward(x, h, *weights):
        hs, caches = [], []
        for x_t in x:
            h, cache = gru_cell_forward(x_t, h, *weights)
            hs.append(h)
            caches.append(cache)
        return np.stack(hs), caches

    def backward(dy, caches):
        dh, dxs, dweights = 0, [], [0, 0, 0, 0]
        for dy_t, cache in zip(dy[::-1], caches[::-1], strict=True):
            dx, dh, *step = gru_cell_backward(dy_t + dh, cache)
            dxs.append(dx)
            dweights = [total + dweight for total, dweight in zip(dweights, step, strict=True)]
        return np.stack(dxs[::-1]), dh, *dweights

    gru = torch.nn.GRU(3, 4, dtype=torch.float64)

    def reference(x, h, *weights):
        weights = dict(zip([name for name, _ in gru.named_parameters()], weights, strict=True))
        return torch.func.functional_call(gru, weights, (x, h[None]))[0]

    assert_agrees_with_torch(torch, Bound(forward, backward, (x, h0[0], *weights)), reference)


def test_the_reset_is_on_the_product_where_nothing_else_is_said():
    x, h, *weights = gru_cell_arguments(Source(), (6,), 3, 4).args
    y, cache = gru_cell_forward(x, h, *weights)
    assert_close(gru_cell_forward(x, h, *weights, reset_after=True)[0], y, tolerance=0)
    assert cache.reset_after


@given(seed=st.integers(0, 99))
def test_the_two_forms_are_one_where_the_product_is_elementwise(seed):
    x, h, weight_ih, weight_hh, bias_ih, bias_hh = gru_cell_arguments(Source(seed), (6,), 3, 4).args
    weight_hh, bias_hh = weight_hh.copy(), bias_hh.copy()
    weight_hh[8:] *= np.eye(4)
    bias_hh[8:] = 0
    args = (x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    before, after = (gru_cell_forward(*args, reset_after=form)[0] for form in (False, True))
    assert_close(before, after)
    bias_hh[8:] = 1  # torch's form resets the bias too
    before, after = (gru_cell_forward(*args, reset_after=form)[0] for form in (False, True))
    assert np.abs(before - after).max() > 1e-3


@both_forms
@given(seed=st.integers(0, 99))
def test_the_gates_open_and_close(reset_after, seed):
    x, h, *weights, bias_ih, bias_hh = gru_cell_arguments(Source(seed), (6,), 3, 4).args

    def step(r=0.0, z=0.0, h=h):
        bias = bias_ih + np.repeat([r, z, 0.0], 4)
        return gru_cell_forward(x, h, *weights, bias, bias_hh, reset_after=reset_after)[0]

    y = step()
    assert (np.abs(y) <= np.maximum(np.abs(h), 1)).all()  # between n and h
    assert_close(step(z=100.0), h, tolerance=0)
    assert_close(step(r=-100.0, z=-100.0), step(r=-100.0, z=-100.0, h=2 * h))
    n = step(r=100.0, z=-100.0)
    x_n, h_n = x @ weights[0][8:].T + bias_ih[8:], h @ weights[1][8:].T + bias_hh[8:]
    assert_close(n, np.tanh(x_n + h_n))


GOOD = {
    "x": (2, 3),
    "h": (2, 4),
    "weight_ih": (12, 3),
    "weight_hh": (12, 4),
    "bias_ih": (12,),
    "bias_hh": (12,),
}


@both_forms
@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (2, 5), "x must have shape (2, 3), got (2, 5)"),
        ("x", (3, 3), "x must have shape (2, 3), got (3, 3)"),
        ("h", (), "h must have shape (..., H), got ()"),
        ("h", (2, 5), "weight_hh must have shape (15, 5), got (12, 4)"),
        ("h", (3, 4), "x must have shape (3, 3), got (2, 3)"),
        ("weight_ih", (16, 3), "weight_ih must have shape (12, I), got (16, 3)"),
        ("weight_ih", (12,), "weight_ih must have shape (12, I), got (12,)"),
        ("weight_hh", (16, 4), "weight_hh must have shape (12, 4), got (16, 4)"),
        ("bias_ih", (4,), "bias_ih must have shape (12,), got (4,)"),
        ("bias_hh", (1, 12), "bias_hh must have shape (12,), got (1, 12)"),
        ("bias_ih", None, "bias_ih and bias_hh must be given both or neither"),
        ("bias_hh", None, "bias_ih and bias_hh must be given both or neither"),
    ],
)
def test_shapes_that_do_not_fit(reset_after, name, shape, message):
    args = [None if s is None else np.ones(s) for s in (GOOD | {name: shape}).values()]
    with pytest.raises(ValueError, match=re.escape(message)):
        gru_cell_forward(*args, reset_after=reset_after)


@both_forms
def test_a_cotangent_of_another_shape(reset_after):
    _, cache = gru_cell_forward(*map(np.ones, GOOD.values()), reset_after=reset_after)
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 4\), got \(1, 4\)"):
        gru_cell_backward(np.ones((1, 4)), cache)
