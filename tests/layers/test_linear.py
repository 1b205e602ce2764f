"""The linear map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.source import Source
from npllm.layers import linear_backward, linear_forward


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (2, 0)])
def test_agrees_with_torch(torch, bias, lead):
    source = Source()
    args = (source.normal(*lead, 3), source.normal(4, 3), *([source.normal(4)] if bias else []))
    layer = Bound(linear_forward, linear_backward, args)
    assert_agrees_with_torch(torch, layer, torch.nn.functional.linear)


@given(seed=st.integers(0, 99), lead=st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_rows_are_independent_and_their_gradients_add_up(seed, lead):
    source = Source(seed)
    x, weight, bias = source.normal(*lead, 3), source.normal(2, 3), source.normal(2)
    y, dy, (dx, dweight, dbias) = Bound(linear_forward, linear_backward, (x, weight, bias)).run()
    dweights, dbiases = np.zeros_like(weight), np.zeros_like(bias)
    for row in np.ndindex(*lead):
        y_row, cache = linear_forward(x[row], weight, bias)
        assert_close(y[row], y_row, floor=1)
        dx_row, dweight_row, dbias_row = linear_backward(dy[row], cache)
        assert_close(dx[row], dx_row, floor=1)
        dweights += dweight_row
        dbiases += dbias_row
    assert_close((dweight, dbias), (dweights, dbiases), floor=1)


def test_a_width_of_zero():
    y, cache = linear_forward(np.ones((2, 0)), np.ones((3, 0)), np.arange(3.0))
    assert y.tolist() == [[0, 1, 2]] * 2
    assert [g.shape for g in linear_backward(np.ones((2, 3)), cache)] == [(2, 0), (3, 0), (3,)]


@pytest.mark.parametrize(
    ("x", "weight", "bias", "message"),
    [
        ((2, 3), (4,), None, r"weight must have shape \(O, I\), got \(4,\)"),
        ((2, 3), (4, 5), None, r"x must have shape \(\.\.\., 5\), got \(2, 3\)"),
        ((), (4, 5), None, r"x must have shape \(\.\.\., 5\), got \(\)"),
        ((2, 3), (4, 3), (3,), r"bias must have shape \(4,\), got \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit(x, weight, bias, message):
    with pytest.raises(ValueError, match=message):
        linear_forward(np.ones(x), np.ones(weight), None if bias is None else np.ones(bias))


def test_a_cotangent_of_another_shape():
    _, cache = linear_forward(np.ones((2, 3)), np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 4\), got \(4, 2\)"):
        linear_backward(np.ones((4, 2)), cache)


def test_a_gradient_lies_in_memory_as_its_weight():
    """GPT's weights are (I, O), and turned."""
    source = Source()
    x, weight = source.normal(5, 3), source.normal(4, 3)
    gradients = []
    for laid in (weight, np.asfortranarray(weight)):
        y, cache = linear_forward(x, laid)
        _, dweight = linear_backward(source.like(y) * 0 + 1, cache)
        assert dweight.flags.c_contiguous == laid.flags.c_contiguous
        gradients.append(dweight)
    np.testing.assert_allclose(*gradients, rtol=1e-14)
