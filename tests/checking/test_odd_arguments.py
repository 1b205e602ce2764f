"""What goes in and comes out: forwards that are not analytic, odd shapes, errors that say so."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from npllm.checking import GradcheckReport, gradcheck

X = np.array([0.7, -1.3, 2.1])


def square(x: Any) -> Any:
    return x * x, x


def right(dy: Any, x: Any) -> Any:
    return 2 * x * dy


def wrong(dy: Any, x: Any) -> Any:
    return 2.001 * x * dy


def scalar_math(x: Any) -> Any:
    return np.array([math.exp(a) for a in x.tolist()]), x


def cast(x: Any) -> Any:
    y = np.empty(x.shape)
    y[...] = x * x  # of a complex x NumPy warns that it discards the imaginary part
    return y, x


class Form(NamedTuple):
    """A forward that rules the complex step out, its derivative, and the note that must say why."""

    forward: Callable[[Any], Any]
    derivative: Callable[[Any], Any]
    why: str


NOT_ANALYTIC: dict[str, Form] = {
    "abs": Form(lambda x: (np.abs(x) ** 3, x), lambda x: 3 * x * np.abs(x), "real numbers for"),
    "abs inside": Form(
        lambda x: (x * np.abs(x), x), lambda x: 2 * np.abs(x), "not analytic in x (an abs"
    ),
    "conjugate": Form(
        lambda x: (x * x.conj() * x, x), lambda x: 3 * x * x, "not analytic in x (an abs, a conj"
    ),
    "real part": Form(
        lambda x: (x * x.real, x), lambda x: 2 * x, "not analytic in x (an abs, a conjugate or a c"
    ),
    "cast to real": Form(cast, lambda x: 2 * x, "does not take complex numbers (ComplexWarning"),
    "math.exp": Form(scalar_math, np.exp, "does not take complex numbers (TypeError"),
    "an output of float64": Form(
        lambda x: (np.real(x) ** 3, x), lambda x: 3 * x * x, "returns real numbers for complex ones"
    ),
    "NaN for complex numbers": Form(
        lambda x: (np.where(np.iscomplexobj(x), np.nan, x * x), x),
        lambda x: 2 * x,
        "not analytic in x",
    ),
}


@pytest.mark.parametrize("name", NOT_ANALYTIC)
def test_richardson_stands_in_for_the_complex_step(name: str) -> None:
    form = NOT_ANALYTIC[name]

    def backward(dy: Any, x: Any) -> Any:
        return form.derivative(x) * dy

    report = gradcheck(form.forward, backward, X)
    assert report.passed, str(report)
    methods = [c.method for c in report.arguments[0].comparisons]
    assert methods == ["Richardson", "central difference"]
    (note,) = report.notes
    assert form.why in note
    assert "Richardson extrapolation stands in" in note
    # to nine digits, not to twelve
    for factor in (1 + 1e-5, 1 + 1e-8):
        off = form.forward, lambda dy, x, by=factor: by * backward(dy, x)
        assert not gradcheck(*off, X).passed
    # asked for alone it is replaced as well
    alone = gradcheck(form.forward, backward, X, methods=["complex"])
    assert [c.method for c in alone.arguments[0].comparisons] == ["Richardson"]


def test_an_analytic_forward_keeps_the_complex_step() -> None:
    report = gradcheck(square, right, X)
    assert report.notes == ()
    assert report.arguments[0].comparisons[0].method == "complex step"


@pytest.mark.parametrize("offset", [1e4, 1e6, 1e8])
def test_large_arguments_of_which_only_differences_matter(offset: float) -> None:
    def softmax(x: Any) -> Any:
        e = np.exp(x - x.real.max())
        return e / e.sum(), e / e.sum()

    def backward(dy: Any, p: Any) -> Any:
        return p * (dy - (dy * p).sum())

    report = gradcheck(softmax, backward, X + offset)
    assert report.passed, str(report)
    assert report.notes == ()  # and the complex step is not given up
    assert not gradcheck(softmax, lambda dy, p: 1.001 * backward(dy, p), X + offset).passed


# bare arguments, odd shapes

BARE: dict[str, Any] = {
    "an array": X,
    "a list of one": [X],
    "a tuple of one": (X,),
    "a number": 3.0,
    "a NumPy number": np.float64(3.0),
    "no axes": np.array(3.0),
    "axes of one": np.ones((1, 1, 1)),
    "a view that is read-only": np.broadcast_to(X, (2, 3)),
    "backwards": X[::-1],
}


@pytest.mark.parametrize("name", BARE)
def test_one_argument(name: str) -> None:
    report = gradcheck(square, right, BARE[name])
    assert report.passed, str(report)
    assert [a.name for a in report.arguments] == ["x"]
    assert not gradcheck(square, wrong, BARE[name]).passed


def test_a_bare_dict() -> None:
    def forward(weights: Any) -> Any:
        return weights["a"] * weights["b"], weights

    def backward(dy: Any, weights: Any) -> Any:
        return {"b": weights["a"] * dy, "a": weights["b"] * dy}

    weights = {"a": X, "b": X[::-1].copy()}
    assert gradcheck(forward, backward, weights).passed
    swapped = gradcheck(forward, lambda dy, w: {"a": w["a"] * dy, "b": w["b"] * dy}, weights)
    assert [a.passed for a in swapped.arguments] == [False, False]


def linear(x: Any, w: Any) -> Any:
    return x @ w, (x, w)


def linear_backward(dy: Any, cache: Any) -> Any:
    x, w = cache
    return dy @ w.T, x.T @ dy


def test_empty_leading_axes() -> None:
    args = [np.zeros((0, 3)), np.ones((3, 2))]
    report = gradcheck(linear, linear_backward, args)
    assert report.passed
    assert [a.verdict for a in report.arguments] == ["ok (empty)", "ok (zero)"]
    wrong_shape = gradcheck(linear, lambda dy, c: (np.zeros((3, 0)), 0 * c[1]), args)
    assert [a.passed for a in wrong_shape.arguments] == [False, True]
    assert not gradcheck(linear, lambda dy, c: (dy @ c[1].T, c[1]), args).passed


def test_an_empty_argument_among_others() -> None:
    def forward(x: Any, nothing: Any) -> Any:
        return x * x + nothing.sum(), (x, nothing)

    def backward(dy: Any, cache: Any) -> Any:
        return 2 * cache[0] * dy, np.zeros(0)

    report = gradcheck(forward, backward, [X, np.zeros(0)])
    assert report.passed
    assert report.arguments[1].verdict == "ok (empty)"


class Out(NamedTuple):
    square: Any
    ids: Any
    nothing: Any


def test_outputs_of_every_kind() -> None:
    def forward(x: Any) -> Any:
        return Out(x * x, np.arange(3), None), x

    def backward(dy: Any, x: Any) -> Any:
        assert isinstance(dy, Out)
        assert not dy.ids.any()
        assert dy.nothing is None
        return 2 * x * dy.square

    assert gradcheck(forward, backward, X).passed
    assert not gradcheck(forward, lambda dy, x: x * dy.square, X).passed


def test_a_loss_of_minus_infinity_here_and_there() -> None:
    seen = np.array([True, False, True])

    def masked(x: Any) -> Any:
        return np.where(seen, x * x, np.asarray(-np.inf, x.dtype)), x

    def backward(dy: Any, x: Any) -> Any:
        return 2 * x * dy * seen

    assert gradcheck(masked, backward, X).passed
    for methods in ("complex", "central", "fourth", "richardson"):
        assert gradcheck(masked, backward, X, methods=methods).passed
        assert not gradcheck(masked, lambda dy, x: 1.01 * backward(dy, x), X, methods=methods)
    patternless = gradcheck(masked, lambda dy, x: backward(dy, x) + dy * [0.3, 0, 7], X)
    assert not patternless.passed
    assert {cause.key for cause in patternless.causes} <= {"elements", "slices"}


class Config:
    power = 2


PLAIN: dict[str, tuple[Any, Callable[[Any], int]]] = {
    "an integer": (2, lambda n: {2: 2}[n]),
    "a string": ("two", lambda n: {"two": 2}[n]),
    "a flag": (True, lambda n: 2 if n is True else 0),
    "an object": (Config(), lambda n: n.power),
    "a function": (len, lambda n: n("ab")),
    "None": (None, lambda n: 2 if n is None else 0),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_array_is_passed_on_as_it_is(name: str) -> None:
    value, power_of = PLAIN[name]

    def forward(x: Any, n: Any) -> Any:
        return x ** power_of(n), x

    assert gradcheck(forward, right, [X, value]).passed
    assert not gradcheck(forward, wrong, [X, value]).passed


@pytest.mark.parametrize("scale", [1e-100, 1e200])
def test_gradients_of_any_size(scale: float) -> None:
    def scaled(x: Any) -> Any:
        return scale * x * x, x

    assert gradcheck(scaled, lambda dy, x: scale * right(dy, x), X).passed
    assert not gradcheck(scaled, lambda dy, x: scale * right(dy, x) * [1, 1, 2], X).passed


# errors

ERRORS: dict[str, tuple[Callable[[], GradcheckReport], type[Exception], str]] = {
    "no pair": (
        lambda: gradcheck(lambda x: x * x, right, X),
        TypeError,
        r"forward must return the pair \(y, cache\), got ndarray; .* npllm.checking.adapters",
    ),
    "three": (
        lambda: gradcheck(lambda x: (x, x, x), right, X),
        TypeError,
        "got a tuple of 3",
    ),
    "a list of two": (lambda: gradcheck(lambda x: [x * x, x], right, X), TypeError, "got list"),
    "complex outputs": (
        lambda: gradcheck(lambda x: (np.fft.fft(x), x), lambda dy, x: 0 * x, X),
        TypeError,
        "y is complex128, and gradcheck needs real outputs",
    ),
    "no floating output": (
        lambda: gradcheck(lambda x: (np.arange(3), x), lambda dy, x: 0 * x, X),
        ValueError,
        "the forward returns no floating array",
    ),
    "no output": (
        lambda: gradcheck(lambda x: (None, x), lambda dy, x: 0 * x, X),
        ValueError,
        "the forward returns no floating array",
    ),
    "no arguments": (lambda: gradcheck(lambda: (1.0, None), right, []), ValueError, "got none"),
    "all empty": (
        lambda: gradcheck(square, right, np.zeros((0, 3))),
        ValueError,
        "every floating array in args is empty",
    ),
    "float16": (
        lambda: gradcheck(square, right, X.astype(np.float16)),
        TypeError,
        "x is float16, .* three digits",
    ),
    "nothing returned for two": (
        lambda: gradcheck(linear, lambda dy, c: None, [np.ones((2, 3)), np.ones((3, 2))]),
        ValueError,
        "a gradient for each of x, w, got NoneType",
    ),
    "a dict for two": (
        lambda: gradcheck(linear, lambda dy, c: {}, [np.ones((2, 3)), np.ones((3, 2))]),
        ValueError,
        "a gradient for each of x, w, got dict",
    ),
    "three for two": (
        lambda: gradcheck(linear, lambda dy, c: (1, 2, 3), [np.ones((2, 3)), np.ones((3, 2))]),
        ValueError,
        "a gradient for each of x, w, got 3",
    ),
    "an unknown method": (
        lambda: gradcheck(square, right, X, methods=["magic", "central"]),  # type: ignore[list-item]
        ValueError,
        "there is no method 'magic' in float64; there are complex, central",
    ),
    "the complex step in float32": (
        lambda: gradcheck(square, right, X, methods="complex", dtype=np.float32),
        ValueError,
        "there is no method 'complex' in float32",
    ),
    "a tolerance of an unknown method": (
        lambda: gradcheck(square, right, X, tolerances={"complx": 1.0}),  # type: ignore[dict-item]
        ValueError,
        "there is no method 'complx' in float64",
    ),
    "an unknown dtype": (
        lambda: gradcheck(square, right, X, dtype=np.float16),
        TypeError,
        "dtype must be float64 or float32, got float16",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_is_wrong(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()


def test_longer_floats_are_refused_without_a_word_about_short_ones() -> None:
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("here a long double is a double")
    with pytest.raises(TypeError, match=r"gradcheck needs float64$"):
        gradcheck(square, right, X.astype(np.longdouble))


def test_errors_of_the_layer_itself_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        gradcheck(lambda x: (1 / 0, x), right, X)
    with pytest.raises(ZeroDivisionError):
        gradcheck(square, lambda dy, x: 1 / 0, X)


# float32


def in_float32(x: Any) -> Any:
    x = np.asarray(x, np.float32)  # it can compute in nothing else
    return np.tanh(x), x


def tanh_backward(dy: Any, x: Any) -> Any:
    return dy * (1 - np.tanh(x) ** 2)


def test_a_layer_that_computes_in_float32() -> None:
    report = gradcheck(in_float32, tanh_backward, X, dtype=np.float32)
    assert report.passed
    assert report.dtype == "float32"
    assert [c.method for c in report.arguments[0].comparisons] == ["Richardson"]
    three_methods = ("central", "fourth", "richardson")
    assert gradcheck(in_float32, tanh_backward, X, dtype=np.float32, methods=three_methods).passed
    off = gradcheck(in_float32, lambda dy, x: 1.01 * tanh_backward(dy, x), X, dtype=np.float32)
    assert not off.passed
    assert "1.01 times" in str(off)


def test_float32_in_disguise_is_found() -> None:
    with pytest.warns(np.exceptions.ComplexWarning):
        np.asarray(np.array([1j]), np.float32)  # as the complex step would see
    report = gradcheck(in_float32, tanh_backward, X)
    assert not report.passed
    assert "the forward returns float32 for float64" in str(report)
    assert "dtype=np.float32" in str(report)
