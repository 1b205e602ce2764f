"""What rounding explains passes, and what it does not explain fails."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from npllm.checking import gradcheck


@pytest.mark.parametrize("fill", [-1e9, -1e20, -1e30, -1e4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_large_output_that_does_not_move_hides_nothing(fill: float, dtype: Any) -> None:
    mask = np.tril(np.ones((4, 4), bool))
    x = np.random.default_rng(0).normal(size=(4, 4)).astype(dtype)

    def forward(x: Any) -> Any:
        return np.where(mask, x * x, np.asarray(fill, x.dtype)), x

    for by in (0.0, 1.05, 3.0):
        assert not gradcheck(forward, lambda dy, x, by=by: 2 * by * x * dy * mask, x, dtype=dtype)
    assert gradcheck(forward, lambda dy, x: 2 * x * dy * mask, x, dtype=dtype)


def test_a_small_gradient_beside_a_large_one_is_held_to_six_digits() -> None:
    args = [np.random.default_rng(0).normal(size=4), np.random.default_rng(1).normal(size=4)]

    def forward(a: Any, b: Any) -> Any:
        return a * 1e6 + b * 1e-6, None

    assert not gradcheck(forward, lambda dy, _: (1e6 * dy, 1.0005e-6 * dy), args)


def test_a_gradient_below_the_rounding_of_the_loss_is_still_held_to_six_digits() -> None:
    args = [np.random.default_rng(0).normal(size=4), np.random.default_rng(1).normal(size=4)]

    def forward(a: Any, b: Any) -> Any:
        return a * 1e10 + b * 1e-6, None

    assert not gradcheck(forward, lambda dy, _: (1e10 * dy, 1.0005e-6 * dy), args)
    assert gradcheck(forward, lambda dy, _: (1e10 * dy, 1e-6 * dy), args)


@pytest.mark.parametrize("scale", [6.0, 9.0, 12.0, 16.0])
def test_a_saturated_layer_passes_and_a_slip_in_it_does_not(scale: float) -> None:
    x = scale + np.random.default_rng(2).uniform(size=(2, 3))

    def forward(x: Any) -> Any:
        y = np.tanh(x)
        return y, y

    report = gradcheck(forward, lambda dy, y: dy * (1 - y * y), x)
    assert report, report  # of 1 - y * y few digits are left, or none
    for by in (0.999, 1.001, -1.0):
        slip = gradcheck(forward, lambda dy, y, by=by: by * dy * (1 - y * y), x)
        assert not slip or scale > 15  # where y is 1 both are zero
    assert not gradcheck(forward, lambda dy, y: dy * (1 - y * y) + 1e-7 * dy, x)


def clipped(s: Any) -> Any:
    def forward(x: Any) -> Any:
        return np.where(np.abs(x.real) <= 1, x, np.sign(x.real)) * s, x

    return forward


@pytest.mark.parametrize(
    ("s", "x", "dtype"),
    [([1e7, 1.0], [0.5, 3.0], np.float64), ([50.0, 1.0], [0.5, 3.0], np.float32)],
)
def test_a_small_mistake_that_a_gentler_point_does_not_have_is_found(
    s: Any, x: Any, dtype: Any
) -> None:
    scale = np.array(s, dtype)
    args = np.array(x, dtype)
    # the mask of what was cut is forgotten: right where nothing is cut
    assert not gradcheck(clipped(scale), lambda dy, x: dy * scale, args, dtype=dtype)
    right = gradcheck(
        clipped(scale), lambda dy, x: dy * scale * (np.abs(x) <= 1), args, dtype=dtype
    )
    assert right, right


def test_a_mistake_of_higher_order_is_found() -> None:
    rng = np.random.default_rng(1)
    args = [0.1 * rng.normal(size=(4, 4)) for _ in range(4)]

    def forward(x: Any, *weights: Any) -> Any:
        outputs = [x]
        for w in weights:
            outputs.append(np.tanh(outputs[-1] @ w))
        return outputs[-1], (weights, outputs)

    def backward(dy: Any, cache: Any, forgotten: bool = False) -> Any:
        weights, outputs = cache
        gradients = []
        for n in reversed(range(3)):
            y = outputs[n + 1]
            da = dy if forgotten and n == 2 else dy * (1 - y * y)
            gradients.insert(0, outputs[n].T @ da)
            dy = da @ weights[n].T
        return dy, *gradients

    assert gradcheck(forward, backward, args)
    assert not gradcheck(forward, lambda dy, cache: backward(dy, cache, True), args)


@pytest.mark.parametrize("by", [2.0, 0.0, -5.0])
def test_an_infinite_argument_switches_nothing_off(by: float) -> None:
    z, mask = np.array([0.3, 1.0, 2.0]), np.array([0.0, -np.inf, 0.5])

    def forward(z: Any, mask: Any) -> Any:
        scores = np.maximum(z.real, 0) + mask.real
        e = np.exp(scores - scores.max())
        y = e / e.sum()
        return y, (z, y)

    def backward(dy: Any, cache: Any, by: float = 1.0) -> Any:
        z, y = cache
        dscores = y * (dy - (y * dy).sum())
        return dscores * (z > 0), by * dscores

    assert gradcheck(forward, backward, [z, mask])
    assert not gradcheck(forward, lambda dy, cache: backward(dy, cache, by), [z, mask])


def test_options_that_are_no_arrays_reach_every_point() -> None:
    functions = {"tanh": np.tanh}
    rng = np.random.default_rng(6)
    x = rng.normal(size=(1, 3)) * 6
    w = np.abs(rng.normal(size=(3, 4))) * np.sign(x.T)

    def forward(x: Any, w: Any, name: str) -> Any:
        y = functions[name](x @ w)
        return y, (x, w, y)

    def backward(dy: Any, cache: Any) -> Any:
        x, w, y = cache
        da = dy * (1 - y * y)
        return da @ w.T, x.T @ da

    report = gradcheck(forward, backward, [x, w, "tanh"])
    assert report, report


@pytest.mark.parametrize("x", [[300.0, -300.0, 210.0], [30.0, -30.0, 21.0]])
def test_deep_saturation_passes(x: list[float]) -> None:
    def forward(x: Any) -> Any:
        y = 1 / (1 + np.exp(-x))
        return y, y

    report = gradcheck(forward, lambda dy, y: dy * y * (1 - y), np.array(x))
    assert report, report
    assert not gradcheck(forward, lambda dy, y: dy * (y * (1 - y) + 1e-9), np.array(x))


def test_a_backward_with_weights_of_its_own_is_found() -> None:
    x, w = (
        np.random.default_rng(0).normal(size=(4, 3)),
        np.random.default_rng(1).normal(size=(3, 2)),
    )
    own = w.copy()

    def forward(x: Any, w: Any) -> Any:
        y = np.tanh(x @ w)
        return y, (x, w, y)

    def backward(dy: Any, cache: Any, mine: bool = True) -> Any:
        x, w, y = cache
        da = dy * (1 - y * y)
        return da @ (own if mine else w).T, x.T @ da

    report = gradcheck(forward, backward, [x, w])
    assert [cause.key for cause in report.causes] == ["stale"]
    assert "it is right here and wrong nearby" in str(report)
    assert gradcheck(forward, lambda dy, cache: backward(dy, cache, False), [x, w])


def test_the_edge_of_a_domain_is_named() -> None:
    def forward(p: Any) -> Any:
        assert (p.real >= 0).all(), "no probability"
        return p * p, p

    def backward(dy: Any, p: Any) -> Any:
        return 2 * p * dy

    assert gradcheck(forward, backward, np.array([0.02, 0.5]))
    with pytest.raises(ValueError, match=r"1e-05 away from p at \[0\] \(AssertionError: no prob"):
        gradcheck(forward, backward, np.array([0.0, 0.5]))


def test_near_a_singularity_a_forward_is_analytic_all_the_same() -> None:
    x = 1e-4 * np.random.default_rng(0).normal(size=4)
    report = gradcheck(
        lambda x: (1 / (x * x + 1e-6), x), lambda dy, x: -dy * 2 * x / (x * x + 1e-6) ** 2, x
    )
    assert report, report
    assert not report.notes


def test_a_gradient_for_every_argument_may_hold_none_for_ids() -> None:
    ids, w = np.array([1, 0, 1]), np.random.default_rng(0).normal(size=(2, 3))

    def backward(dy: Any, cache: Any) -> Any:
        dw = np.zeros((2, 3))
        np.add.at(dw, ids, dy)
        return None, dw

    assert gradcheck(lambda ids, w: (w[ids], None), backward, [ids, w])
    with pytest.raises(ValueError, match="for each of w, got 3; ids hold no floating numbers"):
        gradcheck(lambda ids, w: (w[ids], None), lambda dy, _: (dy, dy, dy), [ids, w])


def test_gradients_that_are_no_numbers_are_named() -> None:
    x = np.ones(3)
    for odd in (np.array([None] * 3), "text"):
        with pytest.raises(TypeError, match="the gradient of x must be an array of numbers, got"):
            gradcheck(lambda x: (x * 2, None), lambda dy, _, odd=odd: odd, x)
    report = gradcheck(lambda x: (x * 2, None), lambda dy, _: (dy * 2).astype(int), x)
    assert [cause.key for cause in report.causes] == ["dtype"]
    with pytest.raises(TypeError, match="forward must be a function, got list"):
        gradcheck([], lambda dy, _: dy, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tolerances must be a dict by method, got float"):
        gradcheck(lambda x: (x, None), lambda dy, _: dy, x, tolerances=1e-3)  # type: ignore[arg-type]


def test_a_point_where_the_gradient_is_infinite_excuses_no_mistake() -> None:
    def forward(x: np.ndarray) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.stack([1e175 * x[0], np.exp(400 / x[1])]), x

    def backward(dy: np.ndarray, x: np.ndarray, slip: float = 0.01) -> np.ndarray:
        slip = slip if x[1] > 0.9 else 0.0  # at x / 2 it is right, and exp(800) infinite
        with np.errstate(over="ignore", invalid="ignore"):
            slope = -400 / x[1] ** 2 * np.exp(400 / x[1])
        return np.array([(1 + slip) * 1e175 * dy[0], dy[1] * slope if np.isfinite(slope) else 0.0])

    x = np.ones(2)
    assert not gradcheck(forward, backward, x, methods="complex")
    assert gradcheck(forward, partial(backward, slip=0.0), x, methods="complex")
