"""layer_norm and rms_norm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.source import Source
from npllm.layers import (
    layer_norm_backward,
    layer_norm_forward,
    rms_norm_backward,
    rms_norm_forward,
)


@pytest.mark.parametrize("given_parameters", [0, 1, 2])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
def test_layer_norm_agrees_with_torch(torch, shape, eps, given_parameters):
    source = Source()
    args = (source.normal(*shape), source.normal(shape[-1]), source.normal(shape[-1]))
    layer = Bound(
        lambda *args: layer_norm_forward(*args, eps=eps),
        layer_norm_backward,
        args[: 1 + given_parameters],
    )
    assert_agrees_with_torch(
        torch, layer, lambda x, *p: torch.nn.functional.layer_norm(x, shape[-1:], *p, eps=eps)
    )


@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("eps", [None, 1e-5, 0.3])
@pytest.mark.parametrize("shape", [(7,), (2, 3, 7)])
def test_rms_norm_agrees_with_torch(torch, shape, eps, gain):
    source = Source()
    args = (source.normal(*shape), source.normal(shape[-1]))
    layer = Bound(
        lambda *args: rms_norm_forward(*args, eps=eps), rms_norm_backward, args[: 1 + gain]
    )
    assert_agrees_with_torch(
        torch, layer, lambda x, *p: torch.nn.functional.rms_norm(x, shape[-1:], *p, eps=eps)
    )


@given(seed=st.integers(0, 99), shift=st.floats(-10, 10), scale=st.floats(0.1, 10))
def test_neither_shift_nor_scale_matters(seed, shift, scale):
    x = Source(seed).normal(3, 6)
    y, _ = layer_norm_forward(x, eps=0.0)
    assert_close(layer_norm_forward(shift + scale * x, eps=0.0)[0], y, tolerance=1e-10)
    assert_close(y.mean(axis=-1), np.zeros(3), floor=1)
    assert_close((y * y).mean(axis=-1), np.ones(3))
    z, _ = rms_norm_forward(x, eps=0.0)
    assert_close(rms_norm_forward(scale * x, eps=0.0)[0], z)
    assert_close((z * z).mean(axis=-1), np.ones(3))
    centred = x - x.mean(axis=-1, keepdims=True)
    assert_close(rms_norm_forward(centred, eps=0.0)[0], y)


@pytest.mark.parametrize("forward", [layer_norm_forward, rms_norm_forward])
def test_shapes_that_do_not_fit_are_refused(forward):
    for x in (np.zeros(()), np.zeros((3, 0))):
        with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., E\) with E of 1"):
            forward(x)
    with pytest.raises(ValueError, match=r"weight must have shape \(4,\), got \(3,\)"):
        forward(np.zeros((3, 4)), np.zeros(3))
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\), got \(1, 4\)"):
        layer_norm_forward(np.zeros((3, 4)), np.zeros(4), np.zeros((1, 4)))
    backward = layer_norm_backward if forward is layer_norm_forward else rms_norm_backward
    with pytest.raises(ValueError, match=r"dy must have shape \(3, 4\), got \(4,\)"):
        backward(np.zeros(4), forward(np.ones((3, 4)))[1])


def test_a_constant_row_has_the_bias_for_its_value_and_no_gradient_of_its_sum():
    y, cache = layer_norm_forward(np.full((2, 3), 5.0), np.ones(3), np.arange(3.0))
    assert y.tolist() == [[0, 1, 2], [0, 1, 2]]
    dx, _, _ = layer_norm_backward(np.ones((2, 3)), cache)
    assert_close(dx, np.zeros((2, 3)), floor=1)


def test_layer_norm_adds_a_hundred_thousandth_where_nothing_else_is_said():
    x = np.array([-1e-3, 1e-3])  # variance 1e-6
    assert_close(layer_norm_forward(x)[0], x / np.sqrt(1.1e-5))


def test_a_row_of_one_has_no_direction_left():
    x = Source().normal(3, 1)
    y, cache = layer_norm_forward(x)
    assert (y == 0).all()
    assert (layer_norm_backward(x, cache)[0] == 0).all()
    y, cache = rms_norm_forward(x, eps=0.0)
    assert_close(y, np.sign(x))
    assert_close(rms_norm_backward(x, cache)[0], np.zeros((3, 1)), floor=1)


@pytest.mark.parametrize(("shape", "value"), [((1, 768), 1e36), ((2, 4), 1e38)])
def test_a_mean_does_not_overflow_where_its_sum_would(shape, value):
    y, _ = layer_norm_forward(
        np.full(shape, value, np.float32), None, np.ones(shape[1], np.float32)
    )
    np.testing.assert_array_equal(y, np.ones(shape))
