"""Other points tell rounding from a mistake: what they excuse, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npllm.checking import gradcheck
from npllm.layers import rms_norm_backward, rms_norm_forward

X = np.random.default_rng(0).uniform(0.5, 2.0, size=(3, 4))


def inverse(x: Any) -> Any:
    return 1 / x, x


def logarithm(x: Any) -> Any:
    return np.log(x), x


def root(x: Any) -> Any:
    return np.sqrt(x), x


def two_paths(x: Any) -> Any:
    return 1 / x**2 + x, x


def norm(x: Any) -> Any:
    return rms_norm_forward(x, eps=1e-8)


def norm_backward(dy: Any, cache: Any) -> Any:
    (dx,) = rms_norm_backward(dy, cache)
    return dx


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_a_norm_of_one_feature_is_no_mistake(features: int, seed: int) -> None:
    # its output is the sign of x, and its gradient the rounding of a difference
    x = np.random.default_rng(seed).normal(size=(2, 3, features))
    assert gradcheck(rms_norm_forward, rms_norm_backward, x, seed=seed)
    assert not gradcheck(rms_norm_forward, lambda dy, c: norm_backward(dy, c) + 1e-9, x)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        # where a derivative grows without bound near zero, all else is small beside it there
        (inverse, lambda dy, x: -dy / x**2 + dy),
        (two_paths, lambda dy, x: -2 * dy / x**3),
        (logarithm, lambda dy, x: dy / x * (1 + 1e-7 * x)),
        (root, lambda dy, x: dy * 0.5 / np.sqrt(x) + 1e-9 * dy),
        (norm, lambda dy, c: norm_backward(dy, c) + 1e-10 * X),
    ],
    ids=["inverse", "two paths", "logarithm", "root", "norm"],
)
@pytest.mark.parametrize("methods", [None, "complex"])
def test_what_vanishes_near_zero_is_wrong_all_the_same(
    forward: Callable[..., Any], backward: Callable[..., Any], methods: Any
) -> None:
    assert not gradcheck(forward, backward, X, methods=methods)


def test_a_backward_that_is_right_here_only_is_wrong() -> None:
    def inverse_backward(dy: Any, x: Any) -> Any:
        return -dy / x**2 + (0 if np.array_equal(x, X) else 5 * dy)

    def logarithm_backward(dy: Any, x: Any) -> Any:
        return dy / x + (0 if np.array_equal(x, X) else 1e-5 * dy)

    for forward, backward in ((inverse, inverse_backward), (logarithm, logarithm_backward)):
        report = gradcheck(forward, backward, X)
        assert not report
        assert {cause.key for cause in report.causes} == {"stale"}


@pytest.mark.parametrize("steepest", [260.0, 280.0, 300.0])
@pytest.mark.parametrize("seed", range(8))
def test_steep_functions_in_float32_are_right(steepest: float, seed: int) -> None:
    k = np.array([steepest, *[60.0] * 6], np.float32)
    x = np.random.default_rng(seed).normal(size=7).astype(np.float32)

    def forward(x: Any) -> Any:
        return np.sin(k * x) / k, x

    def check(backward: Callable[..., Any]) -> Any:
        return gradcheck(forward, backward, x, dtype=np.float32, methods="central", seed=seed)

    assert check(lambda dy, x: dy * np.cos(k * x))
    assert not check(lambda dy, x: 1.1 * dy * np.cos(k * x))
