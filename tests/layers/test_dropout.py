"""Dropout: random, so its mask is what can be checked."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_close

from npllm.evidence.source import Source
from npllm.layers import dropout_backward, dropout_forward
from npllm.layers.dropout import RowsOfDraws


def generator():
    return np.random.default_rng(3)


@given(p=st.floats(0, 1), shape=st.lists(st.integers(0, 5), max_size=3).map(tuple))
def test_each_element_is_dropped_or_scaled_forwards_and_backwards(p, shape):
    x = Source().uniform(*shape)  # no zeros
    y, cache = dropout_forward(x, p=p, rng=generator())
    dy = Source(1).uniform(*shape)
    dx = dropout_backward(dy, cache)
    scale = 1 / (1 - p) if p < 1 else 0.0
    assert_close(y, np.where(y == 0, 0, x * scale), tolerance=1e-15)
    assert_close(dx, np.where(y == 0, 0, dy * scale), tolerance=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("axis", "shape"), [(0, (2, 3, 4)), (1, (3, 2, 4)), (2, (3, 4, 2))])
def test_some_rows_are_drawn_as_in_the_whole(axis, shape, dtype):
    whole, rng = generator(), generator()
    full = whole.random((*shape[:axis], 5, *shape[axis + 1 :]), dtype=dtype)
    rows = RowsOfDraws(rng, 5, slice(1, 3), axis).random(shape, dtype=dtype)
    assert_close(rows, full.take([1, 2], axis), tolerance=0)
    assert rows.dtype == dtype
    assert rng.random() == whole.random()  # which stands where the whole would have left it


def test_rows_are_drawn_in_float64_where_nothing_is_said():
    assert RowsOfDraws(generator(), 5, slice(1, 3), axis=0).random((2,)).dtype == np.float64


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_expectation_is_kept(p):
    n = 100_000
    y, _ = dropout_forward(np.ones(n), p=p, rng=generator())
    # an element's variance is 1 / (1 - p) - 1; a mean beyond 5 sigma is one in two million
    sigma = math.sqrt(p / (1 - p) / n)
    assert abs(y.mean() - 1) < 5 * sigma
    assert abs((y == 0).mean() - p) < 5 * sigma * (1 - p)


def test_half_is_dropped_where_nothing_is_said():
    x = np.ones((50, 50))
    y, _ = dropout_forward(x, rng=np.random.default_rng(0))
    assert np.array_equal(y, dropout_forward(x, p=0.5, rng=np.random.default_rng(0))[0])
    assert set(np.unique(y)) == {0.0, 2.0}


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_a_generator_gives_every_dtype_the_same_mask(p):
    masks = [
        dropout_forward(np.ones((7, 5), dtype), p=p, rng=generator())[0] != 0
        for dtype in (np.float32, np.float64, np.complex128)
    ]
    assert 0 < masks[0].sum() < masks[0].size
    assert all((mask == masks[0]).all() for mask in masks)


def test_what_is_kept_can_be_told_from_the_generator():
    draws = generator().random((7, 5), np.float32)
    p = float(draws[3, 2])  # a number of [0, 1) is below p with probability p, and not equal to it
    y, _ = dropout_forward(np.ones((7, 5)), p=p, rng=generator())
    assert ((y != 0) == (draws >= p)).all()
    assert y[3, 2] != 0


def test_a_generator_goes_on_from_draw_to_draw():
    rng, x = generator(), np.ones(50)
    assert (dropout_forward(x, p=0.5, rng=rng)[0] != dropout_forward(x, p=0.5, rng=rng)[0]).any()


@pytest.mark.parametrize("options", [{"p": 0.0}, {"p": 0.5, "training": False}])
def test_off_needs_no_generator_and_changes_nothing(options):
    x = Source().normal(4, 3)
    y, cache = dropout_forward(x, **options)
    assert_close(y, x, tolerance=0)
    assert_close(dropout_backward(x, cache), x, tolerance=0)


def test_certain_loss_is_zero_in_torch_too(torch):
    x = Source().normal(4, 3)
    y, cache = dropout_forward(x, p=1.0, rng=generator())
    assert_close(y, torch.nn.functional.dropout(torch.tensor(x), 1.0).numpy())
    assert_close(dropout_backward(x, cache), np.zeros_like(x))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=rf"p must lie in \[0, 1\], got {p}"):
        dropout_forward(np.ones(3), p=p, rng=generator())


def test_a_mask_needs_a_generator():
    with pytest.raises(ValueError, match=r"rng must be a numpy\.random\.Generator .*, got None"):
        dropout_forward(np.ones(3), p=0.5)


def test_a_cotangent_of_another_shape():
    _, cache = dropout_forward(np.ones((2, 3)), p=0.5, rng=generator())
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3\), got \(3,\)"):
        dropout_backward(np.ones(3), cache)
