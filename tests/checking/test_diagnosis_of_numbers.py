"""Why a gradient is wrong in its digits, at a kink, or not a number; and when nobody knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoiled import EVERY_OTHER, W, X, causes, check, forward, only

from npllm.checking import gradcheck


def test_rounded_to_float32() -> None:
    report = check(lambda dx, *_: dx.astype(np.float32).astype(np.float64))
    only(report, "float32", "every number of it is a float32")


def test_rounded_on_the_way() -> None:
    def change(dx: Any, x: Any, w: Any, dy: Any) -> Any:
        return 2 * (x * w).astype(np.float32).astype(np.float64) * dy

    only(check(change), "float32", "rounded to float32 on the way")


def test_an_epsilon() -> None:
    only(check(lambda dx, x, w, dy: dx + 1e-7 * dy), "epsilon", "steadily")


def test_a_constant_cut_short() -> None:
    only(check(lambda dx, *_: dx * (1 + 2e-6 * np.sign(X))), "epsilon", "steadily")


def test_one_small_number_that_is_wrong_is_no_epsilon() -> None:
    def change(dx: Any, *_: Any) -> Any:
        dx[2, 1, 3] += 1e-5 * np.abs(dx).max()
        return dx

    assert set(causes(check(change))) == {"slices"}


# kinks


def relu(x: Any) -> Any:
    return np.where(np.real(x) > 0, x, 0 * x), x


def relu_backward(dy: Any, x: Any) -> Any:
    return dy * (x > 0)


@pytest.mark.parametrize(
    ("near", "text"),
    [(0.0, "at this very point (index [1])"), (3e-6, "under the step (index [1])")],
)
def test_a_kink(near: float, text: str) -> None:
    report = gradcheck(relu, relu_backward, np.array([1.0, near, -2.0]))
    only(report, "kink", text)


def test_a_jump() -> None:
    def stairs(x: Any) -> Any:
        return np.floor(np.real(x)) * x, np.floor(x)

    def backward(dy: Any, floor: Any) -> Any:
        return dy * floor

    assert gradcheck(stairs, backward, np.array([1.5, 2.1, -0.3])).passed
    report = gradcheck(stairs, backward, np.array([1.5, 2.0, -0.3]))
    only(report, "kink", "a jump at this very point (index [1])")


def test_a_relu_away_from_its_kink_passes() -> None:
    assert gradcheck(relu, relu_backward, np.array([1.0, 3e-4, -2.0])).passed
    wrong = gradcheck(relu, lambda dy, x: 2 * relu_backward(dy, x), np.array([1.0, 3e-4, -2.0]))
    assert "kink" not in causes(wrong)


# what cannot be compared


def test_not_a_number() -> None:
    report = check(lambda dx, *_: np.where(EVERY_OTHER, np.nan, dx))
    only(report, "nan", f"{int(EVERY_OTHER.sum())} of {X.size} elements are not finite")


def test_not_a_number_where_zero_is_right() -> None:
    constant = (lambda x: (0 * x + 1, None), lambda dy, _: dy * np.nan)
    report = gradcheck(*constant, np.ones(3))
    only(report, "nan", "3 of 3 elements")
    assert gradcheck(constant[0], lambda dy, _: dy * 0, np.ones(3)).passed


def test_missing() -> None:
    report = gradcheck(forward, lambda dy, c: (None, c[0] ** 2 * dy), [X, W])
    only(report, "missing", "returned no gradient")


def test_complex_gradients_are_refused() -> None:
    only(check(lambda dx, *_: dx + 0j), "dtype", "must be real floating numbers, got complex128")


# no cause where there is none


@given(
    seed=st.integers(0, 10**6),
    shape=st.lists(st.integers(1, 6), min_size=0, max_size=3).map(tuple),
)
def test_a_random_gradient_has_no_cause(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    x, w, noise = (rng.normal(size=shape) for _ in range(3))
    report = check(lambda dx, x, w, dy: noise * np.abs(dx).max(), x, w, seed=seed)
    assert not report.passed
    assert set(causes(report)) <= {"elements", "slices"}, str(report)


@given(
    seed=st.integers(0, 10**6),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
)
def test_one_random_element_has_a_place_and_no_cause(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=shape), rng.normal(size=shape)
    index = tuple(int(rng.integers(size)) for size in shape)
    by = rng.uniform(1.1, 1.9)

    def change(dx: Any, *_: Any) -> Any:
        dx[index] *= by
        return dx

    report = check(change, x, w, seed=seed)
    places = {"elements", "slices", "first_step", "last_step"}
    assert set(causes(report)) <= places, str(report)
    assert report.worst is not None
    assert report.worst.worst is not None
    assert report.worst.worst.index == index


# what a trial by a new user found


def test_gradients_in_another_order_are_said_to_be() -> None:
    rng = np.random.default_rng(0)
    args = [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))]

    def forward(a: Any, b: Any) -> Any:
        return a * np.exp(b), (a, b)

    def backward(dy: Any, cache: Any) -> Any:
        a, b = cache
        return dy * a * np.exp(b), dy * np.exp(b)

    report = gradcheck(forward, backward, args)
    assert [cause.key for cause in report.causes] == ["swapped", "swapped"]
    assert gradcheck(forward, lambda dy, c: backward(dy, c)[::-1], args).passed


@pytest.mark.parametrize("slip", ["zero", "sign", "one of two"])
def test_a_wrong_row_whose_id_repeats_is_no_repeated_id(slip: str) -> None:
    ids = np.array([0, 3, 0, 2, 1, 1])

    def forward(ids: Any, table: Any) -> Any:
        return table[ids], (ids, table.shape)

    def backward(dy: Any, cache: Any) -> Any:
        g = np.zeros(cache[1])
        np.add.at(g, cache[0], dy)
        g[0] *= {"zero": 0, "sign": -1, "one of two": 0.3}[slip]
        g[1] *= {"zero": 0, "sign": -1, "one of two": 1}[slip]
        return g

    report = gradcheck(forward, backward, [ids, np.random.default_rng(0).normal(size=(5, 3))])
    assert not report
    assert "repeated_ids" not in {cause.key for cause in report.causes}


def test_a_forward_that_returns_nan_is_said_to() -> None:
    with np.errstate(invalid="ignore"):
        report = gradcheck(lambda x: (np.log(x), x), lambda dy, x: dy / x, np.array([-1.0, 2.0]))
    assert not report
    assert str(report) == "FAILED: the forward returns NaN at 1 of 2 places of y"
    with pytest.raises(ValueError, match="x holds NaN"):
        gradcheck(lambda x: (2 * x, x), lambda dy, x: 2 * dy, np.array([np.nan, 2.0]))


def test_a_float32_is_no_cause_where_float32_was_asked_for() -> None:
    def backward(dy: Any, x: Any) -> Any:
        g = 2 * x * dy
        g[:, -1] = 0
        return g

    x = np.random.default_rng(0).normal(size=(50, 60)).astype(np.float32)
    report = gradcheck(lambda x: (x * x, x), backward, x, dtype=np.float32)
    assert not report
    assert "float32" not in {cause.key for cause in report.causes}


def test_a_mean_over_the_whole_array() -> None:
    x = np.random.default_rng(0).normal(size=(3, 5))
    report = gradcheck(lambda x: (x - x.mean(), None), lambda dy, _: dy.copy(), x)
    # dy is what comes back, so that is said first; with a factor it no longer is
    assert [cause.key for cause in report.causes] == ["returned_dy"]
    report = gradcheck(lambda x: (2 * (x - x.mean()), None), lambda dy, _: 2 * dy, x)
    assert "one constant everywhere" in str(report.causes[0])


def test_a_row_without_a_known_cause_says_so() -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    report = gradcheck(lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x * 1.3), x)
    assert not report.causes
    assert "it is wrong, by no known pattern" in str(report)
