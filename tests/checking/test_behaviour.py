"""How a pair behaves: each misbehaviour is found, and the layer without it passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from misbehaviour import (
    BAD,
    Backward,
    Bad,
    Forward,
    W,
    X,
    accumulates,
    accumulating_forward,
    backward,
    copying_forward,
    does_not_accumulate_in_the_cache,
    forward,
    forward_that_keeps,
    gradients_share,
    kept,
    returns_dy,
    shared_forward,
)

from npllm.checking import GradcheckReport, gradcheck


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    kept.clear()


def check(bad: Bad, **options: Any) -> GradcheckReport:
    return gradcheck(bad.forward or forward, bad.backward or backward, [X, W], **options)


def found(report: GradcheckReport) -> dict[str, str]:
    return {cause.key: cause.text for cause in report.causes}


@pytest.mark.parametrize("name", BAD)
def test_misbehaviour_is_found(name: str) -> None:
    bad = BAD[name]
    report = check(bad)
    assert not report.passed
    assert bad.key in found(report), str(report)
    assert any(bad.text in cause.text for cause in report.causes), str(report)
    if bad.right and report.arguments:  # what is right is not called wrong
        assert all(argument.passed for argument in report.arguments), str(report)


# mistakes that come in company, each of them true
COMPANY = {
    "dx is a view of x": {"mutated_input", "mutated_cache", "aliased"},
    "input written by the backward": {"mutated_input", "mutated_cache"},
}


@pytest.mark.parametrize("name", BAD)
def test_nothing_else_is_claimed(name: str) -> None:
    allowed = COMPANY.get(name, {BAD[name].key})
    if BAD[name].right:
        assert set(found(check(BAD[name]))) <= allowed


RIGHT: dict[str, tuple[Forward, Backward]] = {
    "the pair that all of them spoil": (forward, backward),
    "a mask drawn from a Generator made inside": (
        lambda x, w: forward(x * (np.random.default_rng(1).random(x.shape) < 0.5), w),
        lambda dy, c: tuple(
            g * m
            for g, m in zip(
                backward(dy, c), (np.random.default_rng(1).random(dy.shape) < 0.5, 1), strict=True
            )
        ),
    ),
    "copies": (shared_forward, lambda dy, _: (dy.copy(), dy.copy())),
    "sums in the cache, cleared": (accumulating_forward, does_not_accumulate_in_the_cache),
    "a cache of copies": (copying_forward, backward),
    "two views of different parts": (forward, gradients_share),
    "a forward that keeps what the backward does not use": (forward_that_keeps, backward),
}


@pytest.mark.parametrize("name", RIGHT)
def test_good_conduct_passes(name: str) -> None:
    report = gradcheck(*RIGHT[name], [X, W])
    assert report.passed, str(report)
    assert not report.causes


def test_what_does_not_accumulate_keeps_its_own_verdict() -> None:
    def and_wrong(dy: Any, cache: Any) -> Any:
        dx, dw = accumulates(dy, cache)
        return dx, 3 * dw

    report = check(Bad("", "", None, and_wrong))
    x, w = report.arguments
    assert (x.passed, w.passed) == (True, False)
    assert [cause.key for cause in w.causes] == ["scale"]


@pytest.mark.parametrize(
    "name", [n for n, bad in BAD.items() if bad.right and n != "random forward"]
)
def test_what_is_allowed_becomes_a_note(name: str) -> None:
    allow = COMPANY.get(name, {BAD[name].key})
    report = check(BAD[name], allow=allow)
    assert report.passed, str(report)
    assert not report.findings
    assert any("allowed: " in note and BAD[name].text in note for note in report.notes)
    assert not check(BAD[name], allow={"random"}).passed


def test_one_key_may_be_allowed_by_itself() -> None:
    pair = (shared_forward, returns_dy, [X, W])
    assert gradcheck(*pair, allow="aliased").passed
    with pytest.raises(ValueError, match=r"there is no finding 'not_aliased'; there are accum"):
        gradcheck(*pair, allow="not_aliased")


def test_what_cannot_be_compared_cannot_be_allowed() -> None:
    report = check(BAD["random forward"], allow={"random"})
    assert not report.passed
    assert report.arguments == ()
    assert found(report).keys() == {"random"}


def test_a_wrong_gradient_is_not_allowed_by_allowing_misbehaviour() -> None:
    def wrong(dy: Any, cache: Any) -> Any:
        dy *= 2
        return backward(dy, cache)

    assert not check(Bad("", "", None, wrong), allow={"mutated_dy"}).passed


def test_a_backward_that_draws_at_random_is_found() -> None:
    rng = np.random.default_rng(0)
    report = check(
        Bad("", "", None, lambda dy, c: tuple(g * rng.normal() for g in backward(dy, c)))
    )
    assert "another gradient the second time" in found(report)["random"]


def test_a_backward_whose_gradient_grows_is_no_sum() -> None:
    pieces: list[Any] = []

    def grows(dy: Any, cache: Any) -> Any:
        pieces.append(dy)
        return np.concatenate(pieces), backward(dy, cache)[1]

    report = check(Bad("", "", None, grows))
    assert "random" in found(report)
    assert "accumulated" not in found(report)


class Once:
    """A cache that serves once, and says so."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays: Any = arrays

    def take(self) -> Any:
        if self.arrays is None:
            raise RuntimeError("already used")
        arrays, self.arrays = self.arrays, None
        return arrays


def test_a_cache_that_serves_once_is_no_mistake() -> None:
    def once(x: Any, w: Any) -> Any:
        return forward(x, w)[0], Once(x, w)

    assert gradcheck(once, lambda dy, c: backward(dy, c.take()), [X, W]).passed
    report = gradcheck(once, lambda dy, c: accumulates(dy, c.take()), [X, W])
    assert found(report).keys() == {"accumulated"}


@pytest.mark.parametrize("error", [ValueError, AssertionError, FloatingPointError])
def test_a_layer_whose_domain_excludes_the_nearby_point_passes(error: Any) -> None:
    refused = []

    def narrow(x: Any) -> Any:  # as wide as the steps, narrower than the call nearby
        if np.abs(x.real - 1).max() > 5e-5:
            refused.append(x)
            raise error("outside the domain")
        return x * x, x

    one = np.ones(3)
    assert gradcheck(narrow, lambda dy, x: 2 * x * dy, one).passed
    assert refused
    assert not gradcheck(narrow, lambda dy, x: x * dy, one).passed


def test_a_domain_of_one_point_leaves_the_complex_step() -> None:
    def point(x: Any) -> Any:
        if (x.real != 1).any():
            raise ValueError("x must be one")
        return x * x, x

    one = np.ones(3)
    assert gradcheck(point, lambda dy, x: 2 * x * dy, one, methods="complex").passed
    assert not gradcheck(point, lambda dy, x: x * dy, one, methods="complex").passed
    with pytest.raises(ValueError, match="x must be one"):
        gradcheck(point, lambda dy, x: 2 * x * dy, one)


def test_the_forward_is_not_blamed_on_the_backward() -> None:
    texts = [cause.text for cause in check(BAD["input written by the forward"]).causes]
    assert texts == ["the forward wrote to its argument x"]


def test_a_state_that_the_forward_writes_to_does_not_drift() -> None:
    def doubles(x: Any, w: Any) -> Any:
        result = forward(x, w.copy())
        w *= 2
        return result

    report = check(Bad("", "", doubles))
    assert found(report) == {"mutated_input": "the forward wrote to its argument w"}
    assert all(argument.passed for argument in report.arguments)


def test_one_number_is_not_called_a_multiple_of_its_argument() -> None:
    def off(dy: Any, x: Any) -> Any:
        return 2 * x * dy + 0.1

    for x in (np.array(3.0), np.ones((1, 1)), np.ones(5)):
        report = gradcheck(lambda x: (x * x, x), off, x)
        assert "argument_added" not in found(report)
        assert "nonlinear" in found(report)


def test_a_misshapen_gradient_that_is_not_zero_where_dy_is() -> None:
    report = gradcheck(lambda x: (x * x, x), lambda dy, x: np.ones(2), np.ones(3))
    assert found(report).keys() == {"nonlinear", "shape"}


def test_a_second_backward_that_goes_on_changing_is_no_accumulation() -> None:
    # p - y in place, p the cached softmax: the second time it is p - 2 y
    def forward(x: np.ndarray) -> Any:
        e = np.exp(x - x.real.max(axis=-1, keepdims=True))
        p = e / e.sum(axis=-1, keepdims=True)
        return -np.log(p[:, 0]).sum(), p

    def backward(dy: np.ndarray, p: np.ndarray) -> np.ndarray:
        p[:, 0] -= 1
        return dy * p

    report = gradcheck(forward, backward, X)
    assert {cause.key for cause in report.findings} == {"mutated_cache"}
    assert gradcheck(forward, lambda dy, p: dy * (p - np.eye(p.shape[1])[0]), X).passed


def test_two_halves_of_one_buffer_share_nothing() -> None:
    rng = np.random.default_rng(0)
    args = [rng.normal(size=(5, 3)), rng.normal(size=(5, 4))]
    w = rng.normal(size=(2, 7))

    def forward(a: np.ndarray, b: np.ndarray) -> Any:
        return np.concatenate([a, b], axis=-1) @ w.T, None

    def backward(dy: np.ndarray, _: Any) -> Any:
        d = dy @ w
        return d[:, :3], d[:, 3:]

    assert gradcheck(forward, backward, args).passed


def test_a_stale_array_shows_at_zero_too() -> None:
    kept: dict[str, np.ndarray] = {}

    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        kept["x"] = x
        return x * w, (x, w)

    args = [np.zeros((3, 4)), np.random.default_rng(0).normal(size=(3, 4))]
    report = gradcheck(forward, lambda dy, cache: (dy * cache[1], dy * kept["x"]), args)
    assert [cause.key for cause in report.findings] == ["stale"]
    assert gradcheck(forward, lambda dy, cache: (dy * cache[1], dy * cache[0]), args)


def test_a_gradient_of_fewer_digits_than_its_argument_is_found() -> None:
    x = np.array([0.5, 2.2])

    def backward(dy: np.ndarray, _: Any) -> Any:
        return np.zeros_like(dy, np.float32)  # zero is zero in any precision

    report = gradcheck(lambda x: (np.floor(x), None), backward, x, methods="central")
    assert [cause.key for cause in report.findings] == ["float32"]
    assert "the gradient of x is float32 where x is float64" in str(report)
    assert gradcheck(lambda x: (np.floor(x), None), lambda dy, _: 0 * dy, x, methods="central")


def test_a_stale_array_shows_in_float32() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    kept: dict[str, Any] = {}

    def forward(x: np.ndarray) -> Any:
        kept["x"] = x
        return np.sin(x), x

    report = gradcheck(forward, lambda dy, _: dy * np.cos(kept["x"]), x, dtype=np.float32)
    assert "stale" in {cause.key for cause in report.findings}
    assert gradcheck(forward, lambda dy, x: dy * np.cos(x), x, dtype=np.float32)


def test_a_masked_score_moves_nowhere() -> None:
    scores = np.array([[0.5, -np.inf, 1.0]])

    def forward(x: np.ndarray) -> Any:
        if np.isnan(x.real).any():
            raise ValueError("NaN")
        e = np.exp(x - x.real.max())
        kept["y"] = e / e.sum()
        return kept["y"].copy(), None

    kept: dict[str, Any] = {}

    def backward(dy: np.ndarray, _: Any) -> Any:
        y = kept["y"].real
        return y * (dy - (y * dy).sum())

    report = gradcheck(forward, backward, scores)
    assert "stale" in {cause.key for cause in report.findings}


def test_a_backward_that_writes_is_not_called_clipped() -> None:
    w = np.random.default_rng(0).normal(size=(3, 4))

    def backward(dy: np.ndarray, w: np.ndarray) -> Any:
        g = 2 * w * dy
        w -= 0.1 * g
        return g

    keys = {cause.key for cause in gradcheck(lambda w: (w * w, w), backward, w).findings}
    assert "mutated_input" in keys
    assert "nonlinear" not in keys
