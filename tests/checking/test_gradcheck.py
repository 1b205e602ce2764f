"""The checker itself: what it accepts, what it rejects, what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npllm.checking import GradcheckReport, gradcheck


def square(x: np.ndarray) -> tuple[np.ndarray, Any]:
    return x * x, x


def square_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 2 * x * dy


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 4))


def test_a_right_backward_passes_every_element_by_both_methods(x: np.ndarray) -> None:
    report = gradcheck(square, square_backward, [x])
    (argument,) = report.arguments
    assert report
    assert (argument.name, argument.shape) == ("x", (3, 4))
    assert [c.method for c in argument.comparisons] == ["complex step", "central difference"]
    assert all(c.checked == 12 for c in argument.comparisons)
    assert argument.comparisons[0].error < 1e-15
    assert "ok" in str(report)


def test_the_worst_element_is_named(x: np.ndarray) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        dx = square_backward(dy, x)
        dx[2, 1] += 1.0
        return dx

    report = gradcheck(square, backward, [x])
    worst = report.worst.worst
    assert worst is not None
    assert not report
    assert worst.index == (2, 1)
    assert worst.analytic - worst.numeric == pytest.approx(1.0)
    assert "FAILED" in str(report)
    assert "index [2, 1]" in str(report)
    assert f"{worst.analytic:.9g}" in str(report)


def test_a_gradient_that_is_not_a_number_fails(x: np.ndarray) -> None:
    report = gradcheck(square, lambda dy, x: np.full_like(x, np.nan), [x])
    assert not report
    assert report.worst.name == "x"


def test_a_gradient_that_is_zero_where_the_function_is_constant_passes(x: np.ndarray) -> None:
    report = gradcheck(lambda x: (0 * x + 1, None), lambda dy, _: 0 * dy, [x])
    assert report


def test_the_cotangent_is_not_drawn_like_the_arguments(x: np.ndarray) -> None:
    seen = []

    def backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        seen.append(dy)
        return square_backward(dy, x)

    gradcheck(square, backward, [x], seed=0)
    assert not np.any(np.isclose(seen[0], x))
    assert np.unique(seen[0]).size == x.size  # and certainly no cotangent of ones


@pytest.mark.parametrize("method", ["complex", "central"])
def test_a_large_argument_is_sampled_in_elements_and_directions(method: Any) -> None:
    x = np.random.default_rng(0).normal(size=(70, 80))
    report = gradcheck(square, square_backward, [x], methods=(method,), samples=20)
    assert report
    assert report.arguments[0].comparisons[0].checked == 40

    def one_column_lost(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        dx = square_backward(dy, x)
        dx[:, 3] = 0
        return dx

    assert not gradcheck(square, one_column_lost, [x], methods=(method,), samples=20)


def test_trees_of_arrays_are_walked_and_named() -> None:
    def forward(ids: np.ndarray, weights: dict[str, np.ndarray], state: Any) -> Any:
        h, c = state
        return (weights["w"][ids] * h, c * c), (ids, weights, state)

    def backward(dy: Any, cache: Any) -> Any:
        ids, weights, (h, c) = cache
        dw = np.zeros_like(weights["w"])
        np.add.at(dw, ids, dy[0] * h)
        return {"w": dw}, (dy[0] * weights["w"][ids], 2 * c * dy[1])

    rng = np.random.default_rng(0)
    args = (
        np.array([1, 1, 0]),
        {"w": rng.normal(size=3)},
        (rng.normal(size=3), rng.normal(size=2)),
    )
    report = gradcheck(forward, backward, args)
    assert report
    assert [a.name for a in report.arguments] == ['weights["w"]', "state[0]", "state[1]"]


def test_arguments_are_left_as_they_were(x: np.ndarray) -> None:
    before = x.copy()
    gradcheck(square, square_backward, [x])
    assert np.array_equal(x, before)


def test_float32_is_refused_with_the_reason(x: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"x is float32, and gradcheck needs float64: .* digits"):
        gradcheck(square, square_backward, [x.astype(np.float32)])


def test_complex_arguments_are_refused(x: np.ndarray) -> None:
    with pytest.raises(TypeError, match="x is complex128"):
        gradcheck(square, square_backward, [x + 0j])


def test_a_forward_that_is_not_analytic_is_named_and_can_be_checked_otherwise(
    x: np.ndarray,
) -> None:
    def forward(x: np.ndarray) -> Any:
        return np.abs(x), x

    def backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        return dy * np.sign(x)

    with pytest.raises(TypeError, match="not analytic"):
        gradcheck(forward, backward, [x])
    assert gradcheck(forward, backward, [x], methods=("central",))


def test_nothing_to_check_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one float64 array"):
        gradcheck(square, square_backward, [np.arange(3)])


def test_too_few_gradients_are_an_error(x: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a gradient for each of a, b, got 1"):
        gradcheck(lambda a, b: (a * b, (a, b)), lambda dy, ab: (dy * ab[1],), [x, x])


@pytest.mark.parametrize(
    ("gradient", "problem"),
    [({}, "no gradient"), ({"w": np.zeros(3)}, r"must have shape \(3, 4\), got \(3,\)")],
)
def test_an_absent_or_misshapen_gradient_fails(x: np.ndarray, gradient: Any, problem: str) -> None:
    report: GradcheckReport = gradcheck(
        lambda weights: (weights["w"] * 2, None), lambda dy, _: gradient, [{"w": x}]
    )
    assert not report
    assert report.arguments[0].name == 'weights["w"]'
    with pytest.raises(AssertionError, match=problem):
        assert report.passed, str(report)
