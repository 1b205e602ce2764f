"""The numeric derivatives: right, as fast to converge as theory says, honest about their errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.checking.methods import (
    DERIVATIVES,
    NAMES,
    PRECISIONS,
    Line,
    Method,
    central_difference,
    complex_step,
    forward_difference,
    fourth_order,
    mass_of,
    precision_of,
    richardson,
)

EPS = float(np.finfo(np.float64).eps)
FLOAT64 = precision_of(np.float64)

# functions of one number, each with its derivative
SMOOTH: dict[str, tuple[Callable[[Any], Any], Callable[[float], float]]] = {
    "exp": (np.exp, math.exp),
    "sin": (np.sin, math.cos),
    "tanh": (np.tanh, lambda x: 1 - math.tanh(x) ** 2),
    "fifth power": (lambda x: x**5, lambda x: 5 * x**4),
    "bell": (lambda x: np.exp(-x * x), lambda x: -2 * x * math.exp(-x * x)),
    "rational": (lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2),
}
functions = pytest.mark.parametrize("name", SMOOTH)


def line(function: Callable[[Any], Any], x: float, dtype: Any = np.float64) -> Line:
    """Return the line through x, with a cotangent of one."""
    eps = precision_of(dtype).eps

    def outputs(s: complex) -> list[np.ndarray]:
        return [np.asarray(function(dtype(x) + s if isinstance(s, complex) else dtype(x + s)))]

    return Line(outputs, [np.ones((), dtype)], eps)


@functions
@pytest.mark.parametrize("method", DERIVATIVES)
def test_a_method_finds_a_known_derivative_within_its_tolerance(method: Method, name: str) -> None:
    function, derivative = SMOOTH[name]
    for x in (-0.8, 0.3, 1.1):
        exact = derivative(x)
        found = DERIVATIVES[method](line(function, x), FLOAT64.steps[method]).value
        limit = FLOAT64.tolerances[method]
        assert found == pytest.approx(exact, rel=limit)
        # and would not find another
        assert found != pytest.approx(exact * (1 + 100 * limit), rel=limit)


@functions
def test_the_complex_step_is_right_to_rounding_at_any_small_step(name: str) -> None:
    function, derivative = SMOOTH[name]
    for h in (1e-10, 1e-20, 1e-100):
        found = complex_step(line(function, 0.7), h)
        assert abs(found.value - derivative(0.7)) <= max(found.rounding, 4 * EPS)


def test_the_complex_step_sees_no_real_output() -> None:
    assert complex_step(line(lambda x: np.real(x) ** 2, 2.0), 1e-20).value == 0


# error = c h^p (1 + O(h)): with steps of 0.02 and half of it the rest moves the measured order
# by far less than 0.2, and rounding, about 1e-16 / h, is some thousand times smaller than c h^4
ORDERS = {forward_difference: 1, central_difference: 2, fourth_order: 4}


@pytest.mark.parametrize("method", ORDERS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("x", [0.4, 1.0])
def test_the_order_of_convergence(method: Any, x: float) -> None:
    errors = [abs(method(line(np.exp, x), h).value - math.exp(x)) for h in (0.02, 0.01)]
    order = math.log2(errors[0] / errors[1])
    assert abs(order - ORDERS[method]) < 0.2
    others = set(ORDERS.values()) - {ORDERS[method]}
    assert all(abs(order - other) > 0.5 for other in others)


@pytest.mark.parametrize("method", ORDERS, ids=lambda m: m.__name__)
def test_a_step_too_small_is_drowned_in_rounding_which_is_told(method: Any) -> None:
    h, errors = 1e-12, []
    for x in np.linspace(0.5, 1.5, 11):
        found = method(line(np.exp, float(x)), h)
        errors.append(abs(found.value - math.exp(x)))
        assert errors[-1] <= found.rounding
    assert max(errors) > EPS / h


def test_what_the_step_does_not_move_cancels_exactly() -> None:
    def outputs(s: complex) -> list[np.ndarray]:
        y = np.array([1e20, -np.inf, np.inf, 0.0])
        y[3] = 3 * np.real(s)
        return [y]

    flat = Line(outputs, [np.ones(4)], EPS)
    for method in (central_difference, forward_difference, fourth_order, richardson):
        found = method(flat, 2.0**-4)
        assert found.value == pytest.approx(3)
        assert found.rounding < 1e-12


def test_outputs_that_are_no_floats_are_passed_over() -> None:
    def outputs(s: complex) -> list[np.ndarray]:
        return [np.asarray(2 * (1.0 + s)), np.arange(3)]

    both = Line(outputs, [np.ones(()), np.zeros(3)], EPS)
    for name, method in DERIVATIVES.items():
        assert method(both, FLOAT64.steps[name]).value == pytest.approx(2)


@given(
    name=st.sampled_from(list(SMOOTH)),
    x=st.integers(-512, 512).map(lambda n: n / 256),  # so that x + h is exact
    scale=st.sampled_from([0.125, 0.25, 0.5, 1.0, 2.0]),
)
def test_richardson_bounds_its_own_error_on_smooth_functions(
    name: str, x: float, scale: float
) -> None:
    function, derivative = SMOOTH[name]
    found = richardson(line(lambda z: function(scale * z), x), FLOAT64.steps["richardson"])
    exact = scale * derivative(scale * x)
    assert abs(found.value - exact) <= found.uncertainty
    # an estimate that is always large would bound everything
    assert found.uncertainty <= 1e-9 * max(1.0, abs(exact))


@pytest.mark.parametrize("sharpness", [10, 100, 1000, 10_000])
@pytest.mark.parametrize("x", [0.0, 0.003, -0.05])
def test_richardson_bounds_its_own_error_on_sharp_functions(sharpness: float, x: float) -> None:
    found = richardson(line(lambda z: np.tanh(sharpness * z), x), FLOAT64.steps["richardson"])
    exact = sharpness * (1 - math.tanh(sharpness * x) ** 2)
    assert abs(found.value - exact) <= found.uncertainty


def test_richardson_shrinks_below_a_kink_nearby() -> None:
    x, h = 0.01, FLOAT64.steps["richardson"]
    assert h > x  # its first tableau steps over the kink at zero
    kinked = line(np.abs, x)
    assert abs(central_difference(kinked, h).value - 1) > 0.5
    assert richardson(kinked, h).value == pytest.approx(1, rel=1e-12)


def inside(half_width: float, calls: list[float] | None = None) -> Callable[[Any], Any]:
    """Return the square of a number within so much of one, and an error elsewhere."""

    def square(x: Any) -> Any:
        if calls is not None:
            calls.append(abs(float(np.real(x)) - 1))
        if abs(np.real(x) - 1) > half_width:
            raise ValueError("outside the domain")
        return x * x

    return square


def test_richardson_shrinks_when_a_step_leaves_the_domain() -> None:
    calls: list[float] = []
    found = richardson(line(inside(0.01, calls), 1.0), FLOAT64.steps["richardson"])
    assert found.value == pytest.approx(2, rel=1e-12)
    assert max(calls) > 0.01  # it has tried
    with pytest.raises(ValueError, match="outside the domain"):
        richardson(line(inside(1e-9), 1.0), FLOAT64.steps["richardson"])


def test_float32_is_a_table_of_its_own() -> None:
    single = precision_of("float32")
    assert single is precision_of(np.float32)
    assert single.eps == np.finfo(np.float32).eps
    assert "complex" not in single.steps
    assert single.steps.keys() == single.tolerances.keys()
    assert FLOAT64.steps.keys() == FLOAT64.tolerances.keys() == NAMES.keys() == DERIVATIVES.keys()
    for method, tolerance in single.tolerances.items():
        assert tolerance > 1e4 * FLOAT64.tolerances[method]
        assert single.steps[method] > FLOAT64.steps[method]


@functions
@pytest.mark.parametrize("method", PRECISIONS[np.dtype(np.float32)].steps)
def test_a_float32_function_is_differentiated_to_its_tolerance(method: Method, name: str) -> None:
    function, derivative = SMOOTH[name]
    single, lucky = precision_of(np.float32), []
    for x in (-0.8, 0.3, 1.1):
        x = float(np.float32(x))
        exact, limit = derivative(x), single.tolerances[method]
        found = DERIVATIVES[method](line(function, x, np.float32), single.steps[method]).value
        assert found == pytest.approx(exact, rel=limit)
        assert found != pytest.approx(exact * (1 + 10 * limit), rel=limit)
        tiny = DERIVATIVES[method](line(function, x, np.float32), 1e-8)
        lucky.append(tiny.value == pytest.approx(exact, rel=limit))
    assert not all(lucky)  # a smaller step drowns in float32's rounding


@pytest.mark.parametrize("dtype", [np.complex128, np.float16, np.int64, np.longdouble, "U3"])
def test_other_precisions_are_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match=f"float64 or float32, got {np.dtype(dtype)}"):
        precision_of(dtype)


def test_the_mass_is_of_what_is_finite_and_floating() -> None:
    outputs = [np.array([1.0, -2.0, np.inf, np.nan]), np.arange(3), np.asarray(5.0)]
    v = [np.array([3.0, 4.0, 5.0, 6.0]), np.ones(3), np.asarray(-1.0)]
    assert mass_of(v, outputs) == 3 + 8 + 5
