"""Why a gradient is wrong: each cause is named where it is there, and none where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from spoiled import EVERY_OTHER, HEADS, Change, D, N, P, T, W, X, causes, check, only

from npllm.checking import gradcheck
from npllm.checking.diagnosis import named_factor

RNG = np.random.default_rng(1)


def test_nothing_spoiled_is_no_cause() -> None:
    report = check(lambda dx, *_: dx)
    assert report.passed
    assert report.causes == ()


# by a factor

FACTORS: dict[str, tuple[float, str]] = {
    "N": (N, "5, and 5 is the size of axis 0 of x"),
    "1 / T": (1 / T, "1 / 3, and 3 is the size of axis 1 of x"),
    "heads": (HEADS, "11, and 11 is heads"),
    "sqrt(D)": (math.sqrt(D), "sqrt(7), and 7 is the size of axis 2 of x"),
    "1 / sqrt(D)": (1 / math.sqrt(D), "1 / sqrt(7), and 7 is the size of axis 2 of x"),
    "N T": (N * T, "5 x 3, and 5 is the size of axis 0 of x, 3 is the size of axis 1 of x"),
    "1 / (T D)": (1 / (T * D), "1 / (3 x 7)"),
    "D D": (D * D, "7 x 7, and 7 is the size of axis 2 of x"),
    "N T D": (N * T * D, "105, and 105 is the number of elements of x"),
    "1 - p": (1 - P, "1 - 0.3, and 0.3 is p"),
    "1 / (1 - p)": (1 / (1 - P), "1 / (1 - 0.3), and 0.3 is p"),
    "2": (2.0, "2"),
    "1 / 2": (0.5, "1 / 2"),
    "pi": (math.pi, "pi"),
    "minus 2": (-2.0, "minus 2"),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_is_named(name: str) -> None:
    factor, text = FACTORS[name]
    report = check(lambda dx, *_: factor * dx, sizes={"heads": HEADS, "p": P})
    only(report, "scale", f"it is {factor:.6g} times what it must be: {text}")


@pytest.mark.parametrize("factor", [0.123456, 1.001, 6.9])
def test_a_factor_without_a_name_is_given_none(factor: float) -> None:
    report = check(lambda dx, *_: factor * dx, sizes={"heads": HEADS, "p": P})
    only(report, "scale")
    assert ":" not in causes(report)["scale"]


def test_the_sizes_given_have_precedence() -> None:
    assert named_factor(3.0, {3.0: "heads"}) == ": 3, and 3 is heads"
    assert named_factor(1.7, {3.0: "heads"}) == ""
    report = check(lambda dx, *_: T * dx, sizes={"the number of experts": T})
    only(report, "scale", "3 is the number of experts")


def test_one_wrong_number_is_no_factor() -> None:
    one = np.array([1.7])
    report = check(lambda dx, *_: 0.77 * dx, one, one)
    assert causes(report) == {}
    beside_nothing = np.array([1.7, 1e-9])
    assert causes(check(lambda dx, *_: 0.77 * dx, beside_nothing, np.ones(2))) == {}
    only(check(lambda dx, *_: 0.5 * dx, one, one), "scale", "1 / 2")
    only(check(lambda dx, *_: -dx, one, one), "sign")


def test_a_sign() -> None:
    only(check(lambda dx, *_: -dx), "sign", "its sign is wrong")


# zero, or not


def test_zero_wholly() -> None:
    only(check(lambda dx, *_: 0 * dx), "zero", "it is zero, and must not be")


def test_zero_at_some_elements() -> None:
    count = int(EVERY_OTHER.sum())
    only(
        check(lambda dx, *_: np.where(EVERY_OTHER, 0, dx)),
        "zero",
        f"it is zero at {count} of {X.size} elements",
    )


def test_zero_in_a_slice() -> None:
    def change(dx: Any, *_: Any) -> Any:
        dx[:, 1] = 0
        return dx

    report = check(change)
    assert list(causes(report)) == ["slices", "zero"]
    assert "wrong at 1 of axis 1" in causes(report)["slices"]


def test_not_zero() -> None:
    def masked(x: Any, w: Any) -> Any:
        return x * x * w * EVERY_OTHER, (x, w)

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        return 2 * x * w * dy, x * x * dy * EVERY_OTHER

    count = X.size - int(EVERY_OTHER.sum())
    report = gradcheck(masked, backward, [X, W])
    only(report, "not_zero", f"must be zero at {count} of {X.size} elements")


def test_a_structural_zero_passes_and_is_named() -> None:
    def softmax_sum(x: Any, w: Any) -> Any:  # a sum over the softmax is one, whatever x is
        e = np.exp(x)
        p = e / e.sum(axis=-1, keepdims=True)
        return p.sum(axis=-1) * w[..., 0], (p, w)

    def backward(dy: Any, cache: Any) -> Any:
        p, w = cache
        dp = np.broadcast_to((dy * w[..., 0])[..., None], p.shape)
        dw = np.zeros_like(w)
        dw[..., 0] = dy * p.sum(axis=-1)
        return p * (dp - (dp * p).sum(axis=-1, keepdims=True)), dw

    report = gradcheck(softmax_sum, backward, [X, W])
    assert report.passed
    x, w = report.arguments
    assert (x.structural_zero, x.verdict) == (True, "ok (zero)")
    assert (w.structural_zero, w.verdict) == (False, "ok")
    off = gradcheck(
        softmax_sum, lambda dy, c: (backward(dy, c)[0] + 1e-9 * c[0], backward(dy, c)[1]), [X, W]
    )
    assert not off.passed
    assert not off.arguments[0].structural_zero


# what came in


def test_returned_dy() -> None:
    only(check(lambda dx, x, w, dy: dy.copy()), "returned_dy", "it is dy, the incoming gradient")


def test_returned_a_part_of_dy() -> None:
    def stacked(x: Any, w: Any) -> Any:
        return np.concatenate([x * x * w, x + w], axis=1), (x, w)

    def backward(dy: Any, cache: Any) -> Any:
        x, _ = cache
        return dy[:, :T].copy(), x * x * dy[:, :T] + dy[:, T:]

    only(gradcheck(stacked, backward, [X, W]), "returned_dy", "it is a part of dy")


def test_returned_one_of_several_dys() -> None:
    def two(x: Any, w: Any) -> Any:
        return (x * w, {"square": x * x}), (x, w)

    def backward(dy: Any, cache: Any) -> Any:
        return dy[1]["square"].copy(), cache[0] * dy[0]

    only(gradcheck(two, backward, [X, W]), "returned_dy", 'it is dy[1]["square"]')


# in the wrong place


def product(x: Any, w: Any) -> Any:
    return x @ w, (x, w)


def product_backward(change: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        return dy @ w.T, change(x.T @ dy, x, dy)

    return backward


A, SQUARE, WIDE = RNG.normal(size=(6, 4)), RNG.normal(size=(4, 4)), RNG.normal(size=(4, 5))
TURNED: dict[str, tuple[Any, Callable[[Any, Any, Any], Any], str, str]] = {
    "a square one": (SQUARE, lambda dw, *_: dw.T.copy(), "transposed", "axes [1, 0]"),
    "reshaped": (WIDE, lambda dw, *_: dw.T.reshape(4, 5), "transposed", "instead of transposed"),
    "of transposed shape": (
        WIDE,
        lambda dw, *_: dw.T.copy(),
        "transposed",
        "must have shape (4, 5), got (5, 4): it is transposed",
    ),
    "of another shape": (WIDE, lambda dw, *_: dw[:2], "shape", "got (2, 5)"),
}


@pytest.mark.parametrize("name", TURNED)
def test_transposed(name: str) -> None:
    w, change, key, text = TURNED[name]
    assert gradcheck(product, product_backward(lambda dw, *_: dw), [A, w]).passed
    report = gradcheck(product, product_backward(change), [A, w])
    only(report, key, text, name="w")


def scattered(dx: Any, *_: Any) -> Any:
    return np.random.default_rng(1).permutation(dx.ravel()).reshape(dx.shape)


def shifted_with_a_gap(dx: Any, *_: Any) -> Any:
    out = np.zeros_like(dx)
    out[1:] = dx[:-1]
    return out


PLACES: dict[str, tuple[Change, str]] = {
    "reversed": (lambda dx, *_: dx[:, ::-1].copy(), "it runs backwards along axis 1"),
    "shifted": (lambda dx, *_: np.roll(dx, 1, axis=0), "it is shifted by one along axis 0"),
    "shifted, zeros in the gap": (shifted_with_a_gap, "it is shifted by one along axis 0"),
    "shifted back": (lambda dx, *_: np.roll(dx, -1, axis=2), "shifted by one along axis 2"),
    "reordered": (
        lambda dx, *_: dx[[0, 3, 2, 1, 4]],
        "along axis 0 are right, but in the order 0, 3",
    ),
    "scattered": (scattered, "the right numbers in the wrong places"),
}


@pytest.mark.parametrize("name", PLACES)
def test_permuted(name: str) -> None:
    change, text = PLACES[name]
    only(check(change), "permuted", text)


# by a factor that varies

PROBABILITY = np.random.default_rng(2).uniform(0.1, 0.9, X.shape)
FORMS: dict[str, tuple[Change, str]] = {
    "w once more": (lambda dx, x, w, dy: dx * w, "multiplied by w once too often"),
    "w left out": (lambda dx, x, w, dy: dx / w, "a factor w is missing"),
    "dy once more": (lambda dx, x, w, dy: dx * dy, "multiplied by dy once too often"),
    "x left out": (lambda dx, x, w, dy: dx / x, "a factor x is missing"),
    "1 - w once more": (lambda dx, x, w, dy: dx * (1 - w), "multiplied by 1 - w once too"),
    "1 - w left out": (lambda dx, x, w, dy: dx / (1 - w), "a factor 1 - w is missing"),
    "1 - w^2 once more": (lambda dx, x, w, dy: dx * (1 - w * w), "by 1 - w^2 once"),
    "1 - w^2 left out": (lambda dx, x, w, dy: dx / (1 - w * w), "a factor 1 - w^2 is missing"),
    "w^2 once more": (lambda dx, x, w, dy: dx * w * w, "by w^2 once"),
    "w^2 left out": (lambda dx, x, w, dy: dx / (w * w), "a factor w^2 is missing"),
    "y once more": (lambda dx, x, w, dy: dx * (x * x * w), "multiplied by y once"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_factor_that_varies(name: str) -> None:
    change, text = FORMS[name]
    report = check(change, w=PROBABILITY)
    found = causes(report)
    assert "factor" in found, str(report)
    if "dy" not in name:  # that one is not linear in dy, which is found too
        only(report, "factor", text)
    assert text in found["factor"]


def test_each_slice_with_a_factor_of_its_own() -> None:
    per_slice = np.array([0.3, 1.1, 2.7])[:, None]
    only(check(lambda dx, *_: dx * per_slice), "factor", "slice of axis 1 is off by a factor")
    per_line = np.random.default_rng(3).uniform(0.5, 2, (N, 1, D))
    only(check(lambda dx, *_: dx * per_line), "factor", "line along axis 1 is off by a factor")


def test_a_factor_for_each_number_is_no_pattern() -> None:
    diagonal = np.eye(6)[:, :, None]
    x, w = RNG.normal(size=(6, 6, 1)) * diagonal, np.ones((6, 6, 1))
    by = RNG.uniform(1.1, 3, size=x.shape)
    assert set(causes(check(lambda dx, *_: dx * by, x, w))) <= {"elements"}


def test_the_argument_added() -> None:
    only(check(lambda dx, x, w, dy: dx + 0.3 * x), "argument_added", "0.3 times x itself is added")


def test_clipped() -> None:
    only(check(lambda dx, *_: np.clip(dx, -0.5, 0.5)), "clipped", "cut to [-0.5, 0.5]")


# a mean term: layer normalization, each of its terms dropped in turn


def norm_forward(x: Any, gain: Any, bias: Any) -> Any:
    centered = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((centered * centered).mean(axis=-1, keepdims=True) + 1e-5)
    return centered * scale * gain + bias, (centered * scale, scale, gain)


def norm_backward(
    mean: bool = True, projection: bool = True, gain_outside: bool = False
) -> Callable[[Any, Any], Any]:
    def backward(dy: Any, cache: Any) -> Any:
        normed, scale, gain = cache
        dnormed = dy if gain_outside else dy * gain
        dx = dnormed.copy()
        if mean:
            dx -= dnormed.mean(axis=-1, keepdims=True)
        if projection:
            dx -= normed * (dnormed * normed).mean(axis=-1, keepdims=True)
        dx *= scale * (gain if gain_outside else 1)
        return dx, (dy * normed).sum(axis=0), dy.sum(axis=0)

    return backward


NORM = [RNG.normal(size=(4, 9)), RNG.normal(size=9), RNG.normal(size=9)]


def test_layer_normalization_passes() -> None:
    assert gradcheck(norm_forward, norm_backward(), NORM).passed


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mean": False}, "along axis 1 it is off by a constant:"),
        ({"projection": False}, "along axis 1 it is off by "),
    ],
)
def test_a_mean_term_left_out(options: Any, text: str) -> None:
    only(gradcheck(norm_forward, norm_backward(**options), NORM), "mean_term", text)


def test_the_gain_outside_the_mean_terms() -> None:
    # all terms are there: the checker may not say that one is missing where no sum is off alone
    report = gradcheck(norm_forward, norm_backward(gain_outside=True), NORM)
    assert set(causes(report)) <= {"mean_term"}
    ones = [NORM[0], np.ones(9), NORM[2]]
    assert gradcheck(norm_forward, norm_backward(gain_outside=True), ones).passed


# steps, rows, elements

STEPS: dict[str, tuple[Change, str, str]] = {
    "first wrong": (lambda s, *_: s == 0, "first_step", "wrong at index 0 of axis 0 only"),
    "last wrong": (lambda s, *_: s == N - 1, "last_step", "wrong at index 4 of axis 0 only"),
    "first right": (lambda s, *_: s != 0, "first_step", "right at index 0 of axis 0 only"),
    "last right": (lambda s, *_: s != N - 1, "last_step", "right at index 4 of axis 0 only"),
    "some wrong": (lambda s, *_: (s == 1) | (s == 3), "slices", "wrong at 1, 3 of axis 0"),
}
NOISE = np.random.default_rng(4).normal(size=X.shape)


@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str) -> None:
    where, key, text = STEPS[name]
    steps = np.arange(N)[:, None, None]
    report = check(lambda dx, *_: dx * np.where(where(steps), NOISE, 1))
    only(report, key, text)


def look_up(ids: Any, weight: Any) -> Any:
    return weight[ids], (ids, weight.shape)


IDS, TABLE = np.array([[4, 0, 4], [2, 4, 1]]), RNG.normal(size=(6, 3))


def test_repeated_ids() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        ids, shape = cache
        dweight = np.zeros(shape)
        dweight[ids] += dy
        return dweight

    only(
        gradcheck(look_up, backward, [IDS, TABLE]),
        "repeated_ids",
        "rows 4 are wrong",
        "occur more than once in ids",
        name="weight",
    )


@pytest.mark.parametrize("index", [(0, 0), (37, 41), (59, 69)])
def test_one_wrong_element_in_a_large_argument_is_located(index: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(60, 70))
    wrong = np.ones(x.shape)
    wrong[index] = 1.5
    report = gradcheck(lambda x: (x * x, x), lambda dy, x: 2 * x * dy * wrong, x)
    worst = report.arguments[0].worst
    assert worst is not None
    assert worst.index == index
    assert worst.ratio == pytest.approx(1.5)
    assert set(causes(report)) <= {"elements"}


def test_a_sample_of_zeros_claims_nothing() -> None:
    # a large table of which three rows are used: nearly every element sampled is zero, and right
    ids, table = np.array([3, 5, 3]), np.random.default_rng(6).normal(size=(100, 40))

    def backward(dy: Any, cache: Any) -> Any:
        ids, shape = cache
        dweight = np.zeros(shape)
        np.add.at(dweight, ids, dy)
        return dweight

    def off(dy: Any, cache: Any) -> Any:
        dweight = backward(dy, cache)
        dweight[5, 2] *= 1.5
        return dweight

    assert gradcheck(look_up, backward, [ids, table]).passed
    report = gradcheck(look_up, off, [ids, table])
    only(report, "elements", "it is wrong at [5, 2]", name="weight")


@pytest.mark.parametrize(("axis", "at"), [(0, 7), (1, 41)])
def test_a_wrong_row_or_column_of_a_large_argument_is_named(axis: int, at: int) -> None:
    x = np.random.default_rng(5).normal(size=(60, 70))
    wrong = np.ones(x.shape)
    wrong[(slice(None),) * axis + (at,)] = 1.5
    report = gradcheck(lambda x: (x * x, x), lambda dy, x: 2 * x * dy * wrong, x)
    only(report, "slices", f"it is wrong at index {at} of axis {axis}: at each of 8 places")


@pytest.mark.parametrize("shape", [(3000,), (1, 3000), (3000, 1)])
def test_a_thin_argument_has_no_slices_to_name(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)

    def backward(dy: Any, x: Any) -> Any:
        g = 2 * x * dy
        g.flat[1234] += 0.7
        return g

    only(gradcheck(lambda x: (x * x, x), backward, x), "elements", "1234")


def test_a_nan_anywhere_in_a_large_argument_is_named() -> None:
    x = np.random.default_rng(0).normal(size=(60, 50))

    def backward(dy: Any, x: Any) -> Any:
        g = 2 * x * dy
        g[0, 0] = np.nan
        return g

    only(gradcheck(lambda x: (x * x, x), backward, x), "nan", "1 of 3000 elements are not finite")
