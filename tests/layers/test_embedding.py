"""The embedding and the one-hot vectors it stands for."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.source import Source, frozen
from npllm.layers import embedding_backward, embedding_forward, one_hot

any_shape = given(
    seed=st.integers(0, 99),
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    size=st.integers(1, 5),
    padding_idx=st.none() | st.integers(-5, 4),
)


def bound(ids, weight, padding_idx=None):
    forward = partial(embedding_forward, ids, padding_idx=padding_idx)
    return Bound(forward, embedding_backward, (weight,))


@pytest.mark.parametrize("padding_idx", [None, 0, 4, -1, -5])
@pytest.mark.parametrize("shape", [(), (20,), (3, 7), (2, 0)])
def test_agrees_with_torch(torch, padding_idx, shape):
    ids, weight = Source().ids(5, shape), Source().normal(5, 3)  # 20 draws of 5: some repeat
    layer = bound(ids, weight, padding_idx)
    reference = torch.nn.functional.embedding
    assert_agrees_with_torch(
        torch, layer, lambda w: reference(torch.tensor(ids), w, padding_idx=padding_idx)
    )


@any_shape
def test_is_the_product_with_one_hot_vectors(seed, shape, size, padding_idx):
    source = Source(seed)
    ids, weight = source.ids(size, shape), source.normal(size, 3)
    padding_idx = None if padding_idx is None else padding_idx % size
    y, dy, (dweight,) = bound(ids, weight, padding_idx).run()
    x = one_hot(ids, size)
    assert_close(y, x @ weight, tolerance=0)
    expected = x.reshape(-1, size).T @ dy.reshape(-1, 3)
    if padding_idx is not None:
        expected[padding_idx] = 0
    assert_close(dweight, expected, floor=1)


@any_shape
def test_repeated_ids_add_up(seed, shape, size, padding_idx):
    ids, weight = Source(seed).ids(size, shape), Source(seed).normal(size, 3)
    _, dy, (dweight,) = bound(ids, weight).run()
    expected = np.zeros_like(weight)
    np.add.at(expected, ids, dy)
    assert_close(dweight, expected, floor=1)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, list, int])
def test_ids_of_any_integer_type(kind):
    ids = 2 if kind is int else [2, 0, 2] if kind is list else np.array([2, 0, 2], kind)
    y, dy, (dweight,) = bound(ids, frozen(np.eye(3))).run()
    assert_close(y, np.eye(3)[ids], tolerance=0)
    assert_close(dweight.sum(axis=0), dy.reshape(-1, 3).sum(axis=0))


@pytest.mark.parametrize(
    ("ids", "shape", "padding_idx", "error", "message"),
    [
        ([0, 3], (3, 2), None, ValueError, r"ids must lie in \[0, 3\), got 3"),
        ([0, -1], (3, 2), None, ValueError, r"ids must lie in \[0, 3\), got -1"),
        ([[0, 7], [-1, 9]], (3, 2), None, ValueError, "got 7"),  # the first of them
        ([0.0], (3, 2), None, TypeError, "ids must be integers, got float64"),
        ([True], (3, 2), None, TypeError, "ids must be integers, got bool"),
        ([0], (3,), None, ValueError, r"weight must have shape \(V, E\), got \(3,\)"),
        ([0], (3, 2), 3, ValueError, r"padding_idx must lie in \[-3, 3\), got 3"),
        ([0], (3, 2), -4, ValueError, r"padding_idx must lie in \[-3, 3\), got -4"),
    ],
)
def test_refuses(ids, shape, padding_idx, error, message):
    with pytest.raises(error, match=message):
        embedding_forward(ids, np.ones(shape), padding_idx=padding_idx)


def test_one_hot_is_of_the_given_dtype_and_else_float64():
    assert one_hot([1], 2).dtype == np.float64
    for dtype in (np.float32, np.complex128, np.int8):
        assert_close(one_hot([[1], [0]], 2, dtype), np.array([[[0, 1]], [[1, 0]]], dtype))


def test_one_hot_refuses_an_id_out_of_range():
    with pytest.raises(ValueError, match=r"ids must lie in \[0, 3\), got 5"):
        one_hot([5], 3)


def test_a_cotangent_of_another_shape():
    _, cache = embedding_forward([0, 1], np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 2\), got \(4,\)"):
        embedding_backward(np.ones(4), cache)


def test_a_gradient_is_added_onto_an_array():
    source = Source()
    y, cache = embedding_forward([2, 0, 2], source.normal(4, 3))
    dy, start = source.like(y), source.normal(4, 3)
    onto = start.copy()
    assert embedding_backward(dy, cache, onto) is onto
    np.testing.assert_allclose(onto, start + embedding_backward(dy, cache), rtol=1e-14)
