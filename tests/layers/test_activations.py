"""Sigmoid, tanh, relu, gelu and silu."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import HUGE, assert_agrees_with_torch

from npllm import layers
from npllm.evidence import Bound
from npllm.evidence.source import Source, frozen
from npllm.layers import gelu_backward, gelu_forward, relu_backward, relu_forward, sigmoid_forward

ENDS = [0.0, -0.0, 40.0, -40.0, HUGE, -HUGE]


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "gelu", "silu"])
@pytest.mark.parametrize("x", [Source().normal(3, 5), frozen(ENDS), frozen(0.3)], ids=np.shape)
def test_agrees_with_torch(torch, name, x):
    pair = getattr(layers, f"{name}_forward"), getattr(layers, f"{name}_backward")
    reference = getattr(torch.nn.functional, name)
    assert_agrees_with_torch(torch, Bound(*pair, (x,)), reference)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("x", [Source().normal(3, 5), frozen(ENDS), frozen(0.3)], ids=np.shape)
def test_both_gelus_agree_with_torch(torch, approximate, x):
    layer = Bound(lambda x: gelu_forward(x, approximate=approximate), gelu_backward, (x,))
    reference = torch.nn.functional.gelu
    assert_agrees_with_torch(torch, layer, lambda x: reference(x, approximate=approximate))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "gelu", "silu"])
def test_none_hides_what_is_not_a_number(name):
    y, _ = getattr(layers, f"{name}_forward")(np.array([np.nan, 1.0]))
    assert np.isnan(y).tolist() == [True, False]


def test_relu_at_zero_and_at_what_is_not_a_number():
    """As in torch: nothing comes back from a zero, and what is not a number hides no gradient."""
    y, cache = relu_forward(np.array([0, 1, -1, 0, np.nan]) + 1e-20j * np.array([1, 1, 1, -1, 0]))
    assert y.imag[:4].tolist() == [0, 1e-20, 0, 0]
    assert relu_backward(np.ones(5, complex), cache).tolist() == [0, 1, 0, 0, 1]


@given(st.floats(-700, 700))
def test_sigmoid_keeps_its_digits_at_both_ends(x):
    y, _ = sigmoid_forward(np.array([x, -x]))
    # sigmoid(x) / sigmoid(-x) = exp(x), where one of the two may be tiny
    assert np.log(y[0]) - np.log(y[1]) == pytest.approx(x, rel=1e-14, abs=1e-15)


def test_gelu_names_the_forms_it_knows():
    with pytest.raises(ValueError, match='approximate must be "none" or "tanh", got \'erf\''):
        gelu_forward(np.ones(2), approximate="erf")


def test_the_tanh_form_has_its_slope_as_far_as_the_dtype_goes():
    """0.044715 x^2 has room where x^2 alone has none."""
    with np.errstate(over="ignore"):  # of u, whose tanh is 1
        y, cache = gelu_forward(np.array([5e19], np.float32), approximate="tanh")
        assert y.tolist() == [np.float32(5e19)]
        assert gelu_backward(np.ones(1, np.float32), cache).tolist() == [1]
