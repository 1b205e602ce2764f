"""One rule for all layers: floats of one dtype, a cotangent like the result, or an error's name."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from layer_checks import arrays, named_leaves, tree_map

from npllm import layers
from npllm.evidence import ARGUMENTS
from npllm.evidence.source import Source
from npllm.layers import (
    attention_backward,
    attention_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    dropout_forward,
    logsumexp_backward,
    logsumexp_forward,
    lstm_forward,
    relu_backward,
    relu_forward,
    tiled_attention_backward,
    tiled_attention_forward,
)

every_layer = pytest.mark.parametrize("build", ARGUMENTS.values(), ids=ARGUMENTS)
LEAD, N, M = (2,), 3, 4
# what is refused in the place of float64: how it is made, and what the message calls it
OTHERS: dict[str, Callable[[Any], Any]] = {
    "integers": lambda a: np.ones(a.shape, np.int64),
    "booleans": lambda a: np.ones(a.shape, np.bool_),
    "float16": lambda a: a.astype(np.float16),
    "objects": lambda a: a.astype(object),
    "another float": lambda a: a.astype(np.float32),
}


def with_leaf(tree: Any, path: str, change: Callable[[Any], Any], name: str = "") -> Any:
    """Return the tree, its leaf at a path changed."""
    if isinstance(tree, dict):
        return {k: with_leaf(v, path, change, f"{name}[{k}]") for k, v in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(with_leaf(v, path, change, f"{name}[{k}]") for k, v in enumerate(tree))
    return change(tree) if name == path else tree


def is_data(name: str, path: str) -> bool:
    """Return whether it is a distribution to learn, which takes the logits' dtype."""
    return name.startswith("cross_entropy, soft") and path == "[1]"


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_is_no_float_of_the_others_dtype_is_refused(name: str) -> None:
    layer = ARGUMENTS[name](Source(0), LEAD, N, M)
    paths = [path for path, _ in named_leaves(layer.args)]
    for path, other in product(paths, OTHERS):
        alone = len(paths) == 1 or name.startswith("cross_entropy, soft")
        if other == "another float" and alone:
            continue  # there is nothing it must not differ from
        if is_data(name, path) and other == "float16":
            continue
        args = with_leaf(layer.args, path, OTHERS[other])
        # integers in the place of a distribution are classes, of another shape
        with pytest.raises((TypeError, ValueError), match=r"^[\w.]+ must (be|have) "):
            layer.forward(*args)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_message_names_the_argument(name: str) -> None:
    layer = ARGUMENTS[name](Source(0), LEAD, N, M)
    for path in (path for path, _ in named_leaves(layer.args) if not is_data(name, path)):
        args = with_leaf(layer.args, path, OTHERS["float16"])
        with pytest.raises(TypeError, match=r"^[\w.]+ must be .* got float16$") as told:
            layer.forward(*args)
        key = re.findall(r"\[([^\]]*)\]", path)[-1]
        if not key.isdigit():  # the name of a weight
            assert str(told.value).startswith(f"{key} must be ")


@every_layer
def test_a_cotangent_has_the_shape_of_the_result(build: Any) -> None:
    layer = build(Source(0), LEAD, N, M)
    y, cache = layer.forward(*layer.args)
    dy = Source(1).like(y)
    for path, a in named_leaves(dy):
        for shape in {(1, *a.shape), a.shape[1:], (*a.shape[:-1], 1), (*a.shape, 1)} - {a.shape}:
            wrong = with_leaf(dy, path, lambda a, shape=shape: np.ones(shape))
            with pytest.raises(ValueError, match=r"^d[\w']+ must have shape .*, got "):
                layer.backward(wrong, cache)


@every_layer
def test_a_cotangent_has_the_dtype_of_the_result(build: Any) -> None:
    layer = build(Source(0), LEAD, N, M)
    y, cache = layer.forward(*layer.args)
    dy = Source(1).like(y)
    for path, a in named_leaves(dy):
        if a.ndim == 0:
            continue  # of a loss any number will do: 1.0
        for other in OTHERS.values():
            with pytest.raises(TypeError, match=r"^d[\w']+ must be "):
                layer.backward(with_leaf(dy, path, other), cache)


@every_layer
def test_a_caller_may_have_every_warning_raise(build: Any) -> None:
    for scale in (1.0, 1e3, 1e-200):
        layer = build(Source(0, scale=scale), LEAD, N, M)
        y, _, gradients = layer.run()
        with np.errstate(all="raise"):
            again, _, others = layer.run()
        for one, other in zip(arrays((y, gradients)), arrays((again, others)), strict=True):
            assert np.array_equal(one, other)


def test_relu_passes_on_what_is_no_number() -> None:
    y, cache = relu_forward(np.array([-1.0, np.nan, 2.0]))
    np.testing.assert_array_equal(y, [0, np.nan, 2])
    assert relu_backward(np.ones(3), cache).tolist() == [0, 1, 1]


def test_the_logarithm_of_an_infinite_sum() -> None:
    x = np.array([[0.0, np.inf, np.inf], [1.0, 2.0, -np.inf]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, cache = logsumexp_forward(x)
        dx = logsumexp_backward(np.ones(2), cache)
    assert y[0] == np.inf
    assert np.isclose(y[1], np.log(np.exp(1) + np.exp(2)))
    assert dx[0].tolist() == [0, 0.5, 0.5]
    assert np.isclose(dx[1].sum(), 1)
    assert np.isnan(logsumexp_forward(np.array([np.nan, np.inf]))[0])  # it is not hidden


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (attention_forward, attention_backward),
        (tiled_attention_forward, tiled_attention_backward),
    ],
)
@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("options", [{}, {"softcap": 2.0}])
def test_a_key_that_is_hidden_may_hold_anything(
    forward: Any, backward: Any, broken: float, options: dict[str, float]
) -> None:
    rng = np.random.default_rng(0)
    q, k, v, dy = (rng.normal(size=(4, 3)) for _ in range(4))
    mask = np.ones((4, 4), np.bool_)
    mask[:, 2] = False
    y, cache = forward(q, k, v, mask=mask, **options)
    right = tree_map(np.copy, backward(dy, cache))
    k[2] = v[2] = broken
    y_broken, cache = forward(q, k, v, mask=mask, **options)
    np.testing.assert_allclose(y_broken, y, rtol=1e-14)
    for one, other in zip(backward(dy, cache), right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)
    if broken == np.inf:
        return  # a score of -inf would hide it
    mask[1, 2] = True  # who sees it is told
    y_seen, _ = forward(q, k, v, mask=mask, **options)
    assert not np.isfinite(y_seen[1]).any()
    assert np.isfinite(y_seen[[0, 2, 3]]).all()


def test_class_weights_that_leave_nothing_cost_nothing() -> None:
    logits, targets = np.random.default_rng(0).normal(size=(3, 4)), np.array([1, 1, 2])
    weight = np.array([1.0, 0.0, 0.0, 1.0])  # none of the classes that occur
    loss, cache = cross_entropy_forward(logits, targets, weight=weight)
    assert loss == 0
    assert not cross_entropy_backward(1.0, cache).any()


def test_class_weights_that_cancel_are_refused() -> None:
    logits, targets = np.zeros((2, 3)), np.array([0, 1])
    with pytest.raises(ValueError, match="weight must be 0 or more, got -1"):
        cross_entropy_forward(logits, targets, weight=np.array([1.0, -1.0, 0.0]))


def test_an_index_to_ignore_is_for_integers() -> None:
    distributions = np.full((2, 4), 0.25)
    with pytest.raises(ValueError, match="ignore_index is for targets that are integers"):
        cross_entropy_forward(np.zeros((2, 4)), distributions, ignore_index=1)


def test_messages_name_the_argument_that_is_wrong() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"^dropout must lie in \[0, 1\], got 2"):
        attention_forward(x, x, x, dropout=2.0)
    shapes = {"weight_ih_l0": (4, 2), "weight_hh_l0": (4, 1)}
    weights = {name: np.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=r"^dropout must lie in \[0, 1\], got -1"):
        lstm_forward(np.zeros((3, 2)), weights, dropout=-1.0)
    with pytest.raises(ValueError, match=r"^x must have shape \(\.\.\., 2\), got \(3, 5\)"):
        lstm_forward(np.zeros((3, 5)), weights)
    with pytest.raises(TypeError, match=r"^bias must be an array of float32 or float64, got bool"):
        attention_forward(x, x, x, bias=np.ones((2, 2), np.bool_))
    with pytest.raises(TypeError, match=r"^x must be an array of float32 or float64, got int64"):
        dropout_forward(np.ones(3, np.int64), p=0.5, rng=np.random.default_rng(0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", ["mask", "bias"])
def test_a_hidden_key_may_be_as_large_as_it_can(dtype: Any, how: str) -> None:
    rng = np.random.default_rng(0)
    q, k, v, dy = (rng.normal(size=(3, 2)).astype(dtype) for _ in range(4))
    options = {"mask": np.array([True, False, True])}
    if how == "bias":
        options = {"bias": np.array([[0, -np.inf, 0]], dtype)}
    y, cache = attention_forward(q, k, v, **options)
    right = attention_backward(dy, cache)
    for huge in (np.finfo(dtype).max, np.nan):
        k[1] = v[1] = huge
        with np.errstate(all="raise", under="ignore"):
            again, cache = attention_forward(q, k, v, **options)
            gradients = attention_backward(4 * dy, cache)
        np.testing.assert_array_equal(again, y)
        for one, other in zip(gradients, right, strict=True):
            np.testing.assert_allclose(one, 4 * other, rtol=1e-5, atol=1e-6)


def test_a_layer_can_be_sent_to_another_process() -> None:
    for name in layers.__all__:
        assert pickle.loads(pickle.dumps(getattr(layers, name))) is getattr(layers, name)


def test_complex_data_is_not_made_real() -> None:
    with pytest.raises(TypeError, match="targets must be integers or a distribution, got complex"):
        cross_entropy_forward(np.zeros((2, 4)), np.full((2, 4), 0.25 + 1j))
    with pytest.raises(TypeError, match="weight must be real as the logits are, got complex128"):
        cross_entropy_forward(np.zeros((2, 4)), [0, 1], weight=np.ones(4, complex))


def test_what_is_added_onto_is_of_the_gradients_kind() -> None:
    _, cache = layers.embedding_forward([1, 2], np.zeros((4, 3)))
    with pytest.raises(TypeError, match="onto must be float64"):
        layers.embedding_backward(np.ones((2, 3)), cache, np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match=r"onto must have shape \(4, 3\), got \(9, 3\)"):
        layers.embedding_backward(np.ones((2, 3)), cache, np.zeros((9, 3)))
    x, weight = np.zeros((1, 2)), np.zeros((4, 2))
    onto = [np.zeros((4, 2), np.float32)]
    with pytest.raises(TypeError, match="onto must be float64"):
        layers.linear_cross_entropy_gradients(x, weight, [1], onto=onto)


def test_what_comes_before_is_held_to_the_rule_too() -> None:
    x, past = np.ones((1, 1, 4)), [np.ones((1, 2, 1, 2), np.float32)] * 2
    with pytest.raises(TypeError, match="past_keys must be float64 as q is, got float32"):
        layers.multi_head_attention_forward(x, x, x, 2, past=past)


def test_the_state_of_an_lstm_may_be_one_array() -> None:
    shapes = {"weight_ih_l0": (4, 2), "weight_hh_l0": (4, 1)}
    weights = {name: np.zeros(shape) for name, shape in shapes.items()}
    (y, _), _ = lstm_forward(np.zeros((3, 1, 2)), weights, np.zeros((2, 1, 1, 1)))
    assert y.shape == (3, 1, 1)


def test_the_loss_of_one_row_takes_any_number() -> None:
    _, cache = cross_entropy_forward(np.zeros(4, np.float32), 3, reduction="none")
    assert cross_entropy_backward(1.0, cache).dtype == np.float32
