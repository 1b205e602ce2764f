"""softmax, log_softmax and logsumexp."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import HUGE, assert_agrees_with_torch, assert_close

from npllm import layers
from npllm.evidence import Bound
from npllm.evidence.source import Source, frozen
from npllm.layers import (
    log_softmax_forward,
    logsumexp_forward,
    softmax_backward,
    softmax_forward,
)

PAIRS = {
    name: (getattr(layers, f"{name}_forward"), getattr(layers, f"{name}_backward"))
    for name in ("softmax", "log_softmax", "logsumexp")
}
SOME_HIDDEN = frozen([[0.5, -np.inf, 1.0], [-np.inf, 2.0, -np.inf]])

every_pair = pytest.mark.parametrize("name", PAIRS)


def bound(name, x, axis=-1):
    forward, backward = PAIRS[name]
    return Bound(lambda x: forward(x, axis=axis), backward, (x,))


@every_pair
@pytest.mark.parametrize(
    ("shape", "axis"), [*(((3, 4, 5), axis) for axis in range(-3, 3)), ((4,), 0), ((4, 1), 1)]
)
def test_agrees_with_torch(torch, name, shape, axis):
    layer = bound(name, Source().normal(*shape), axis)
    assert_agrees_with_torch(torch, layer, lambda x: getattr(torch, name)(x, axis))


@pytest.mark.parametrize("name", ["softmax", "logsumexp"])
def test_hidden_entries_agree_with_torch(torch, name):
    reference = getattr(torch, name)
    assert_agrees_with_torch(torch, bound(name, SOME_HIDDEN), lambda x: reference(x, -1))


@pytest.mark.parametrize(("name", "value"), [("softmax", 0.0), ("logsumexp", -np.inf)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_without_a_choice_has_no_gradient(name, value, dtype):
    y, _, (dx,) = bound(name, frozen(np.full((2, 3), -np.inf, dtype))).run()
    assert (y == value).all()
    assert (dx == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_logarithm_of_no_choice_stays_minus_infinity_and_passes_the_cotangent_on(dtype):
    y, dy, (dx,) = bound("log_softmax", frozen(np.full((2, 3), -np.inf, dtype))).run()
    assert (y == -np.inf).all()
    assert_close(dx, dy, tolerance=0)


@given(
    seed=st.integers(0, 99),
    axis=st.integers(-3, 2),
    scale=st.sampled_from([1.0, HUGE]),
    shift=st.floats(-HUGE, HUGE),
)
def test_the_three_belong_together(seed, axis, scale, shift):
    x = Source(seed, scale=scale).normal(2, 3, 4)
    (p, _), (log_p, _), (total, _) = (PAIRS[name][0](x, axis=axis) for name in PAIRS)
    assert_close(p.sum(axis), np.ones(total.shape))
    assert_close(np.exp(log_p), p)
    assert_close(x - np.expand_dims(total, axis), log_p, floor=scale)
    # one number added to all scores changes nothing but their rounding
    assert_close(
        softmax_forward(x + shift, axis=axis)[0], p, tolerance=8 * HUGE * np.finfo(float).eps
    )
    assert_close(
        softmax_forward(np.moveaxis(x, axis, -1))[0], np.moveaxis(p, axis, -1), tolerance=1e-15
    )


@pytest.mark.parametrize(("shape", "axis"), [((2, 0), -1), ((0, 2), 0)])
def test_an_empty_axis_has_nothing_to_choose_from(shape, axis):
    x = np.zeros(shape)
    assert (
        softmax_forward(x, axis=axis)[0].shape
        == log_softmax_forward(x, axis=axis)[0].shape
        == shape
    )
    assert logsumexp_forward(x, axis=axis)[0].tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("forward", [softmax_forward, log_softmax_forward, logsumexp_forward])
def test_a_number_has_no_axis(forward):
    with pytest.raises(ValueError, match=r"x must have an axis to run along, got shape \(\)"):
        forward(np.zeros(()))


def test_a_cotangent_of_another_shape_is_refused():
    _, cache = softmax_forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=re.escape("dy must have shape (2, 3), got (2, 1)")):
        softmax_backward(np.ones((2, 1)), cache)
