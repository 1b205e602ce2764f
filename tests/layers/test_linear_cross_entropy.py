"""The loss of a linear map whose outputs are never held at once."""

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_close

from npllm.evidence.source import Source
from npllm.layers import (
    cross_entropy_backward,
    cross_entropy_forward,
    linear_backward,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
    linear_cross_entropy_gradients,
    linear_forward,
)
from npllm.layers.softmax import row_shift


@given(
    seed=st.integers(0, 99),
    lead=st.lists(st.integers(1, 3), max_size=2).map(tuple),
    classes=st.integers(1, 6),
    logits=st.integers(1, 50),
    bias=st.booleans(),
)
def test_it_is_the_two_layers_after_one_another(seed, lead, classes, logits, bias):
    source = Source(seed)
    x, weight = source.normal(*lead, 3), source.normal(classes, 3)
    b = source.normal(classes) if bias else None
    targets = np.where(source.mask(*lead), source.ids(classes, lead), -100)
    scores, linear_cache = linear_forward(x, weight, b)
    loss, loss_cache = cross_entropy_forward(scores, targets, reduction="sum")
    plain = linear_backward(cross_entropy_backward(0.7, loss_cache), linear_cache)
    fused, cache = linear_cross_entropy_forward(x, weight, targets, b, logits=logits)
    assert_close(fused, loss)
    assert_close(linear_cross_entropy_backward(0.7, cache), plain, floor=1)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("logits", [1, 21, 10**6])
def test_the_gradients_at_once_are_those_of_the_pair(with_bias, logits):
    source = Source()
    x, weight = source.normal(2, 3, 4), source.normal(7, 4)
    targets = np.array([[0, 6, -1], [3, 3, 5]])
    arguments = x, weight, targets, *([source.normal(7)] if with_bias else [])
    options = {"ignore_index": -1, "logits": logits}
    expected, cache = linear_cross_entropy_forward(*arguments, **options)
    loss, gradients = linear_cross_entropy_gradients(*arguments, **options)
    assert_close(loss, expected)
    assert_close(gradients, linear_cross_entropy_backward(1.0, cache), floor=1)


def test_a_row_with_nothing_to_choose_from():
    x, weight, targets = Source().normal(2, 3), Source(1).normal(4, 3), np.array([1, 2])
    nothing = np.full(4, -np.inf)
    scores, _ = linear_forward(x, weight, nothing)
    expected, loss_cache = cross_entropy_forward(scores, targets, reduction="sum")
    loss, cache = linear_cross_entropy_forward(x, weight, targets, nothing)
    assert loss == expected == np.inf
    *_, dbias = linear_cross_entropy_backward(1.0, cache)
    assert_close(dbias, cross_entropy_backward(1.0, loss_cache).sum(axis=0))


def test_an_input_of_no_width_leaves_the_bias():
    x, weight, bias = np.zeros((2, 0)), np.zeros((4, 0)), np.zeros(4)
    loss, (dx, dweight, dbias) = linear_cross_entropy_gradients(x, weight, np.array([1, 2]), bias)
    assert_close(loss, np.asarray(2 * np.log(4)))
    assert (dx.shape, dweight.shape) == (x.shape, weight.shape)
    assert dbias.tolist() == [0.5, -0.5, -0.5, 0.5]


def test_the_cotangent_is_a_scalar():
    x, weight = Source(0, np.float32).normal(2, 3), Source(1, np.float32).normal(4, 3)
    _, cache = linear_cross_entropy_forward(x, weight, np.array([1, 2]))
    assert {d.dtype for d in linear_cross_entropy_backward(1.0, cache)} == {np.dtype(np.float32)}
    with pytest.raises(ValueError, match=r"^dy must have shape \(\), got \(2,\)"):
        linear_cross_entropy_backward(np.ones(2), cache)


def test_the_logits_are_never_held():
    rows, classes = 256, 4000
    source = Source(0, np.float32)
    x, weight = source.normal(rows, 4), source.normal(classes, 4)
    targets = np.arange(rows)

    def peak(logits):
        tracemalloc.start()
        _, cache = linear_cross_entropy_forward(x, weight, targets, logits=logits)
        linear_cross_entropy_backward(1.0, cache)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    held = 4 * rows * classes  # bytes
    assert peak(8 * classes) < held / 4
    assert peak(rows * classes) > held  # a control: all at once


def test_what_does_not_fit_is_refused():
    x, weight = np.zeros((2, 3)), np.zeros((4, 3))
    with pytest.raises(TypeError, match="targets must be integers, got float64"):
        linear_cross_entropy_forward(x, weight, np.zeros(2))
    with pytest.raises(TypeError, match="targets must be integers, got bool"):
        linear_cross_entropy_forward(x, weight, np.zeros(2, bool))
    with pytest.raises(ValueError, match=r"targets must have shape \(2,\), got \(3,\)"):
        linear_cross_entropy_forward(x, weight, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"targets must have shape \(2, 2\), got \(4,\)"):
        linear_cross_entropy_forward(np.zeros((2, 2, 3)), weight, np.zeros(4, int))
    with pytest.raises(ValueError, match=r"^targets must lie in \[0, 4\), got 4"):
        linear_cross_entropy_forward(x, weight, np.array([0, 4]))


def test_any_id_may_be_the_one_that_does_not_count():
    x, weight = Source().normal(3, 2), Source(1).normal(4, 2)
    loss, cache = linear_cross_entropy_forward(x, weight, np.array([0, 1, 2]), ignore_index=1)
    expected, _ = linear_cross_entropy_forward(x, weight, np.array([0, -100, 2]))
    assert loss == expected
    assert not linear_cross_entropy_backward(1.0, cache)[0][1].any()


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("logits", [1, 7, 8, 100])
def test_as_many_rows_as_may_be_held_come_at_a_time(monkeypatch, classes, logits):
    module, seen = sys.modules["npllm.layers.linear_cross_entropy"], []
    monkeypatch.setattr(
        module, "linear_forward", lambda x, *args: seen.append(len(x)) or linear_forward(x, *args)
    )
    x, weight = np.zeros((12, 3)), np.zeros((classes, 3))
    linear_cross_entropy_forward(x, weight, np.zeros(12, int), logits=logits)
    assert sum(seen) == 12
    assert seen[0] == min(12, max(1, logits // classes))


def test_no_row_has_no_loss():
    loss, cache = linear_cross_entropy_forward(np.zeros((0, 3)), np.ones((4, 3)), np.zeros(0, int))
    assert loss == 0
    dx, dweight = linear_cross_entropy_backward(1.0, cache)
    assert dx.shape == (0, 3)
    assert not dweight.any()
    loss, _ = linear_cross_entropy_forward(np.zeros((0, 3)), np.ones((0, 3)), np.zeros(0, int))
    assert loss == 0


@pytest.mark.parametrize("words", [1, 12, 10**6])  # numbers: no row of it, three, all
@pytest.mark.parametrize("numbers", [1, 20, 10**6])
@pytest.mark.parametrize("with_bias", [False, True])
def test_gradients_are_added_onto_arrays_a_block_at_a_time(monkeypatch, words, numbers, with_bias):
    module, source = sys.modules["npllm.layers.linear_cross_entropy"], Source()
    x, weight = source.normal(5, 4), source.normal(7, 4)
    arguments = x, weight, np.array([0, 6, -100, 3, 3]), *([source.normal(7)] if with_bias else [])
    loss, (dx, *others) = linear_cross_entropy_gradients(*arguments)
    start = [source.like(other) for other in others]
    seen = []

    def noted(logits):
        seen.append(len(logits))
        return row_shift(logits)

    monkeypatch.setattr(module, "row_shift", noted)
    monkeypatch.setattr(module, "WORDS", words)
    monkeypatch.setattr(module, "numbers_at_a_time", lambda: numbers)
    onto = [array.copy() for array in start]
    again, (again_dx, *sums) = linear_cross_entropy_gradients(*arguments, logits=21, onto=onto)
    assert seen == ([1] * 5 if numbers == 1 else [2, 1, 2] if numbers == 20 else [3, 2])
    assert_close(again, loss)
    assert_close(again_dx, dx)
    for total, own, first, other in zip(sums, onto, start, others, strict=True):
        assert total is own
        assert_close(total, first + other, floor=1)
