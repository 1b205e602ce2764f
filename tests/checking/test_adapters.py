"""Pullbacks and losses, brought into the form that the checker takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers_of_others import RNG, B, W, X, failed, names

from npllm.checking import from_loss, from_pullback, gradcheck


def with_pullback(by: float) -> Any:
    def function(x: Any, w: Any) -> Any:
        return x @ w, lambda dy: (dy @ w.T, by * (x.T @ dy))

    return function


def test_a_pullback() -> None:
    assert names(from_pullback(with_pullback(1.0), X, W)) == ["x", "w"]
    assert failed(from_pullback(with_pullback(2.0), X, W)) == ["w"]


def loss_of(by: float) -> Any:
    def loss(params: Any) -> Any:
        first, (w, b) = params["first"], params["layers"]["second"]
        h = np.tanh(X @ first)
        y = h @ w + b
        dy = 2 * y
        dh = dy @ w.T
        grads = {
            "first": by * (X.T @ (dh * (1 - h * h))),
            "layers": {"second": [h.T @ dy, dy.sum(axis=0)]},
        }
        return (y * y).sum(), grads

    return loss


def test_a_loss_of_nested_parameters() -> None:
    params = {"first": W, "layers": {"second": [RNG.normal(size=(4, 2)), RNG.normal(size=2)]}}
    expected = ['params["first"]', *(f'params["layers"]["second"][{n}]' for n in range(2))]
    assert names(from_loss(loss_of(1.0), params)) == expected
    assert failed(from_loss(loss_of(1.001), params)) == expected[:1]


def test_a_loss_of_two_parameters() -> None:
    def loss(w: Any, b: Any, by: float = 1.0) -> Any:
        y = X @ w + b
        return (y * y).sum() / 2, (X.T @ y, by * y.sum(axis=0))

    assert names(from_loss(loss, W, B)) == ["w", "b"]
    assert failed(from_loss(lambda w, b: loss(w, b, 5.0), W, B)) == ["b"]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_loss_may_have_axes_of_one(shape: tuple[int, ...]) -> None:
    def loss(w: Any) -> Any:
        return np.reshape((w * w).sum(), shape), 2 * w

    assert names(from_loss(loss, W)) == ["w"]


def test_a_loss_that_is_a_float_has_no_complex_step() -> None:
    def loss(w: Any) -> Any:
        return float((w * w).sum()), 2 * w

    report = gradcheck(*from_loss(loss, W))
    assert report.passed
    assert "Richardson" in str(report)


def test_a_loss_must_be_a_scalar() -> None:
    with pytest.raises(ValueError, match=r"the loss must be a scalar, got shape \(3, 4\)"):
        gradcheck(*from_loss(lambda w: (w * w, 2 * w), W))


@pytest.mark.parametrize("result", [3.0, (1.0, X, X)])
def test_a_loss_without_its_gradients_is_refused(result: Any) -> None:
    with pytest.raises(TypeError, match=r"must return the pair \(loss, grads\), got "):
        gradcheck(*from_loss(lambda x: result, X))
