"""The checker itself: what it accepts, what it rejects, what it says."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from npllm.checking import GradcheckReport, gradcheck
from npllm.layers import softmax_backward, softmax_forward
from npllm.layers.arrays import unbroadcast


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


def test_a_forward_that_is_not_analytic_is_checked_by_richardson(
    x: np.ndarray,
) -> None:
    def forward(x: np.ndarray) -> Any:
        return np.abs(x), x

    def backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        return dy * np.sign(x)

    report = gradcheck(forward, backward, [x])
    assert report, report
    assert [c.method for c in report.arguments[0].comparisons] == [
        "Richardson",
        "central difference",
    ]
    assert "the complex step does not apply" in str(report)
    assert not gradcheck(forward, lambda dy, x: dy, [x])


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


def test_a_backward_that_writes_to_dy_fails(x: np.ndarray) -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        dy *= 0  # and so the numeric derivative would be zero too
        return dy

    report = gradcheck(square, backward, [x])
    assert not report
    assert "wrote to dy" in str(report)


def test_a_large_argument_is_checked_as_strictly_as_a_small_one() -> None:
    def backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        return square_backward(dy, x) * (1 + 1e-5)

    for size in (30, 300):
        x = np.random.default_rng(0).normal(size=(size, size))
        report = gradcheck(square, backward, [x], methods=("central",), samples=10)
        assert report.worst.worst.error > 5e-6


@pytest.mark.parametrize("shape", [(3, 1), (1,), ()])
def test_what_shifts_a_softmax_has_a_gradient_of_zero(shape: tuple[int, ...]) -> None:
    # in exact arithmetic; here a few units of the last place, and by chance none, may remain
    def forward(x: np.ndarray, b: np.ndarray) -> Any:
        e = np.exp(x + b - (x + b).real.max(axis=-1, keepdims=True))
        y = e / e.sum(axis=-1, keepdims=True)
        return y, y

    def backward(dy: np.ndarray, y: np.ndarray) -> Any:
        dx = y * (dy - (y * dy).sum(axis=-1, keepdims=True))
        return dx, unbroadcast(dx, shape)

    for seed in range(40):
        rng = np.random.default_rng(seed)
        report = gradcheck(forward, backward, [rng.normal(size=(3, 5)), rng.normal(size=shape)])
        assert report, report


@pytest.mark.parametrize("function", [np.sin, np.positive])
def test_a_small_gradient_beside_a_large_result_is_compared(function: Any) -> None:
    slope = 1e-18  # of what is added to 1, where the last place is 2e-16

    def forward(x: np.ndarray) -> Any:
        return 1 + slope * function(x), np.cos(x) if function is np.sin else np.ones_like(x)

    x = np.array([0.3, 1.0, -0.4])
    assert gradcheck(forward, lambda dy, c: slope * c * dy, x)
    assert not gradcheck(forward, lambda dy, c: 2 * slope * c * dy, x)


def test_a_gradient_that_cancels_to_rounding_passes() -> None:
    # softmax does not see a number added to all scores: the true gradient of b is zero
    def forward(x: np.ndarray, b: np.ndarray) -> Any:
        return softmax_forward(x + b)

    def backward(dy: np.ndarray, cache: Any) -> Any:
        dx = softmax_backward(dy, cache)
        return dx, dx.sum(axis=-1, keepdims=True)

    rng = np.random.default_rng(0)
    args = [rng.normal(size=(3, 4)), rng.normal(size=(3, 1))]
    assert gradcheck(forward, backward, args)
    assert not gradcheck(forward, lambda dy, c: (backward(dy, c)[0], np.full((3, 1), 1e-9)), args)


def test_a_large_offset_is_no_error_of_the_gradient(x: np.ndarray) -> None:
    assert gradcheck(lambda x: (x + 1e5, None), lambda dy, _: dy.copy(), [x])


@pytest.mark.parametrize("options", [{"methods": ()}, {"samples": 0}])
def test_a_check_of_nothing_is_refused(x: np.ndarray, options: Any) -> None:
    with pytest.raises(ValueError, match="at least one method and one sample"):
        gradcheck(square, lambda dy, x: 0 * dy, [x], **options)


def test_one_real_output_among_complex_ones_is_not_passed_over(x: np.ndarray) -> None:
    def forward(x: np.ndarray) -> Any:
        return (2 * x, np.abs(x)), x

    report = gradcheck(forward, lambda dy, _: 2 * dy[0], [x])
    assert not report
    assert "returns real numbers for complex ones" in str(report)
    assert gradcheck(forward, lambda dy, x: 2 * dy[0] + np.sign(x) * dy[1], [x])


class Pair(NamedTuple):
    one: np.ndarray
    other: np.ndarray


def test_named_tuples_lists_and_outputs_that_are_no_numbers() -> None:
    def forward(pair: Pair) -> Any:
        return (pair.one * pair.other, pair.one > 0), pair

    def backward(dy: Any, pair: Pair) -> Any:
        return [Pair(dy[0] * pair.other, dy[0] * pair.one)]

    rng = np.random.default_rng(0)
    assert gradcheck(forward, backward, [Pair(rng.normal(size=3), rng.normal(size=3))])


@pytest.mark.parametrize("wrap", [lambda g: (g,), lambda g: ((g,),), lambda g: [[g]]])
def test_an_argument_that_is_a_tuple_of_one(x: np.ndarray, wrap: Any) -> None:
    report = gradcheck(lambda a: (a[0] ** 2, a[0]), lambda dy, x: wrap(2 * x * dy), [(x,)])
    assert report
    assert [a.name for a in report.arguments] == ["a[0]"]


def test_a_tolerance_of_zero_passes_what_rounding_explains_alone(x: np.ndarray) -> None:
    zero = {"complex": 0.0, "central": 0.0}
    assert gradcheck(square, square_backward, [x], tolerances=zero)
    off = gradcheck(
        square, lambda dy, x: square_backward(dy, x) * (1 + 1e-13), [x], tolerances=zero
    )
    assert not off.arguments[0].comparisons[0].passed


def test_a_conjugate_on_the_way_is_found() -> None:
    def forward(x: np.ndarray) -> Any:
        return x / np.sqrt((x * x.conj()).sum()), x

    def backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        norm = np.sqrt((x * x).sum())
        return dy / norm - x * (dy * x).sum() / norm**3

    report = gradcheck(forward, backward, [np.array([1.0, 2.0, -1.0])])
    assert report
    assert "not analytic in x" in str(report)
    assert not gradcheck(forward, lambda dy, x: dy, [np.array([1.0, 2.0, -1.0])])


def test_what_is_known_of_a_forward_is_not_computed_again() -> None:
    calls = []

    def forward(x: Any) -> Any:
        calls.append(x)
        return x * x * x, x

    x, known = np.random.default_rng(0).normal(size=(4, 5)), {}
    whole = gradcheck(forward, lambda dy, x: 3 * x * x * dy, x, known=known)
    first = len(calls)
    again = gradcheck(forward, lambda dy, x: 3 * x * x * dy, x, known=known)
    assert whole
    assert repr(again) == repr(whole)
    assert len(calls) - first <= first - 3 * x.size
    assert not gradcheck(forward, lambda dy, x: 3.001 * x * x * dy, x, known=known)
    other = gradcheck(lambda x: (x * x, x), lambda dy, x: 2 * x * dy, x, known=known)
    assert not other  # it is for one forward only


def test_a_subclass_of_arrays_is_an_array() -> None:
    x = np.array([1.0, -2.0, 3.0])
    report = gradcheck(
        lambda x: (np.ma.masked_array(x * x, mask=False), x),
        lambda dy, x: np.ma.masked_array(2 * x * dy, mask=False),
        x,
    )
    assert report, str(report)
