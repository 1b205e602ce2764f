"""Gradient checking: a backward pass against two independent oracles.

For a forward f, a random cotangent v and L(x) = sum(v * f(x)), the backward claims dL/dx. Two
methods compute it again from forwards alone:

* the complex step, Im L(x + ih) / h with h = 1e-20: there is no subtraction, so it is right to
  rounding (Squire and Trapp, "Using Complex Variables to Estimate Derivatives" (1998)). It needs
  a forward that is analytic and keeps complex numbers;
* the central difference, (L(x + h) - L(x - h)) / 2h with h = 1e-5, which asks nothing of the
  forward but float64 and is right to h^2.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from npllm.checking.report import ArgumentReport, Comparison, GradcheckReport
from npllm.checking.trees import Array, leaves, map_leaves

Method = Literal["complex", "central"]

NAMES: dict[Method, str] = {"complex": "complex step", "central": "central difference"}
STEPS: dict[Method, float] = {"complex": 1e-20, "central": 1e-5}
# Whoever draws the arguments from default_rng(seed) must not get the same numbers as cotangent: a
# cotangent equal to x hides every backward that takes one for the other.
SALT = 0x5EED
# A sum of rounded terms is off by a few units in the last place of what was summed.
ROUNDING = 8 * float(np.finfo(np.float64).eps)
TOLERANCES: dict[Method, float] = {"complex": 1e-12, "central": 1e-7}


def gradcheck(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    args: Sequence[Any],
    *,
    methods: Sequence[Method] = ("complex", "central"),
    tolerances: Mapping[Method, float] = TOLERANCES,
    exhaustive_size: int = 2000,
    samples: int = 50,
    seed: int = 0,
) -> GradcheckReport:
    """Compare a hand-written backward with numeric derivatives of its forward.

    Args:
        forward: ``forward(*args) -> (y, cache)``; y an array or a tuple, list or dict of arrays.
            It must be deterministic: a layer that draws at random makes its Generator inside.
        backward: ``backward(dy, cache)`` -> the gradient of the one floating argument, or a tuple
            of gradients, one for each argument that holds floating arrays, in their order; dy and
            the gradients have the structure of y and of the arguments.
        args: arrays, or tuples, lists and dicts of arrays, in float64; integers, booleans and
            None are passed on as they are.
        methods: which oracles to ask; ``("central",)`` for a forward that is not analytic.
        tolerances: the largest error that passes, relative to the argument's largest gradient. A
            difference that rounding alone explains passes too: a gradient whose terms cancel to
            zero is right to rounding, not to twelve digits of zero.
        exhaustive_size: up to this many elements every element is compared; in a larger argument
            ``samples`` random elements and ``samples`` random directions are.
        samples: see ``exhaustive_size``.
        seed: draws the cotangent, the directions and the sample.

    Returns:
        A report: true where all passed; printed, a row an argument; ``report.worst`` names the
        argument, index, analytic and numeric value.

    Raises:
        TypeError: an argument is float32 or complex, or the forward turns complex numbers into
            real ones.
        ValueError: no argument is floating, no method or sample is asked for, or the backward
            returns another number of gradients.

    >>> def forward(x):
    ...     return x * x, x
    >>> def backward(dy, x):
    ...     return 2 * x * dy
    >>> gradcheck(forward, backward, [np.array([1.0, 3.0])]).passed
    True
    >>> gradcheck(forward, lambda dy, x: x * dy, [np.array([1.0, 3.0])]).worst.passed
    False
    """
    if not methods or samples < 1:
        raise ValueError("gradcheck needs at least one method and one sample")
    rng = np.random.default_rng((seed, SALT))
    names = _argument_names(forward, len(args))
    args = [map_leaves(_checked(name), arg) for name, arg in zip(names, args, strict=True)]
    floating = [n for n, arg in enumerate(args) if any(_is_float(a) for _, a in leaves(arg))]
    if not floating:
        raise ValueError("args must hold at least one float64 array, got none")

    y, cache = forward(*map_leaves(np.copy, args))
    cotangent = map_leaves(lambda a: np.asarray(rng.standard_normal(a.shape) * _is_float(a)), y)
    given = map_leaves(np.copy, cotangent)
    gradients = map_leaves(np.copy, backward(given, cache))
    v = [a for _, a in leaves(cotangent)]
    written = any(not np.array_equal(a, b) for a, (_, b) in zip(v, leaves(given), strict=True))
    claims = _by_argument(gradients, [args[n] for n in floating], [names[n] for n in floating])
    probes = [_Probe(forward, args, names, v, method) for method in methods]
    reports = []
    for n, gradient in zip(floating, claims, strict=True):
        claimed = dict(leaves(gradient, names[n]))
        for name, x in leaves(args[n], names[n]):
            if not _is_float(x):
                continue
            problem = "the backward wrote to dy, which is its caller's" if written else ""
            problem = problem or _problem(claimed.get(name), x.shape)
            if problem:
                reports.append(ArgumentReport(name, x.shape, problem=problem))
                continue
            g = claimed[name]
            directions = list(_directions(x, exhaustive_size, samples, rng))
            comparisons = (_compare(p, name, g, directions, tolerances[p.method]) for p in probes)
            reports.append(ArgumentReport(name, x.shape, tuple(comparisons)))
    return GradcheckReport(tuple(reports))


Direction = tuple[int, ...] | int  # an element's index, or the seed of a random direction


def _drawn(seed: int, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng((seed, SALT)).standard_normal(shape)


class _Probe:
    """Derivatives of L in a direction, from forwards alone."""

    def __init__(
        self,
        forward: Callable[..., Any],
        args: Sequence[Any],
        names: Sequence[str],
        v: list[Array],
        method: Method,
    ) -> None:
        self.forward, self.v, self.method = forward, v, method
        self.step = STEPS[method]
        dtype = np.complex128 if method == "complex" else np.float64
        self.args = map_leaves(lambda a: np.array(a, dtype) if _is_float(a) else a, list(args))
        self.leaves: dict[str, Array] = {}
        for name, arg in zip(names, self.args, strict=True):
            self.leaves.update(leaves(arg, name))
        y, _ = forward(*args)
        outputs = [np.asarray(a, np.float64) for _, a in leaves(y)]
        mass = sum(float(np.sum(np.abs(a * b))) for a, b in zip(v, outputs, strict=True))
        self.background = ROUNDING * mass

    def derivative(self, name: str, direction: Direction) -> tuple[float, float]:
        """Return dL/dx in a direction, and how large an error rounding alone can make of it."""
        total, mass = 0.0, 0.0
        if self.method == "complex":
            for v, y in zip(self.v, self._moved(name, direction, 1j * self.step), strict=True):
                if y.dtype.kind == "f":
                    raise TypeError(
                        f"the forward returned {y.dtype} for complex128: it is not analytic, "
                        'or casts to real; check it with methods=("central",)'
                    )
                if y.dtype.kind == "c":
                    terms = v * y.imag / self.step
                    mass += np.sum(np.abs(terms))
                    total += np.sum(terms)
        else:
            ahead = self._moved(name, direction, self.step)
            behind = self._moved(name, direction, -self.step)
            for v, a, b in zip(self.v, ahead, behind, strict=True):
                if _is_float(a):
                    # subtract before summing: what the step does not move cancels exactly
                    terms = v * (a - b) / (2 * self.step)
                    sizes = np.abs(v) * (np.abs(a) + np.abs(b)) / (2 * self.step)
                    mass += np.sum(sizes[a != b])
                    total += np.sum(terms)
        return float(total), ROUNDING * float(mass)

    def _moved(self, name: str, direction: Direction, step: complex) -> list[Array]:
        x = self.leaves[name]
        before = x.copy()
        if isinstance(direction, tuple):
            x[direction] += step
        else:
            x += step * _drawn(direction, x.shape)
        try:
            y, _ = self.forward(*self.args)
            return [np.array(a) for _, a in leaves(y)]
        finally:
            x[...] = before


def _compare(
    probe: _Probe, name: str, gradient: Array, directions: list[Direction], tolerance: float
) -> Comparison:
    """Return the direction in which the analytic and the numeric derivative differ most."""
    analytic = np.array(
        [
            gradient[d] if isinstance(d, tuple) else np.sum(gradient * _drawn(d, gradient.shape))
            for d in directions
        ],
        np.float64,
    )
    numeric, rounding = np.array([probe.derivative(name, d) for d in directions]).reshape(-1, 2).T
    element = np.array([isinstance(d, tuple) for d in directions], bool)
    # elements are measured by the largest of them, a product with the gradient by its norm ...
    largest = max(np.abs(gradient).max(initial=0), np.abs(numeric[element]).max(initial=0))
    norm = np.maximum(np.linalg.norm(gradient), np.abs(numeric))
    # ... and a difference that rounding explains is no error, whatever the gradient's size
    floor = rounding.max(initial=0)
    if largest <= max(floor, probe.background):  # zero in exact arithmetic
        floor = max(floor, probe.background)
    scale = np.maximum(np.where(element, largest, norm), floor / (tolerance or np.inf))
    difference = np.abs(analytic - numeric)
    error = np.divide(difference, scale, where=scale != 0, out=difference.copy())
    if not directions:
        return Comparison(NAMES[probe.method], 0.0, tolerance, None, 0.0, 0.0, 0)
    worst = int(np.argmax(error))  # NaN counts as the largest
    direction = directions[worst]
    return Comparison(
        method=NAMES[probe.method],
        error=float(error[worst]),
        tolerance=tolerance,
        index=direction if isinstance(direction, tuple) else None,
        analytic=float(analytic[worst]),
        numeric=float(numeric[worst]),
        checked=len(directions),
    )


def _directions(
    x: Array, exhaustive_size: int, samples: int, rng: np.random.Generator
) -> Iterator[Direction]:
    if x.size <= max(exhaustive_size, samples):
        yield from np.ndindex(x.shape)
        return
    for flat in rng.choice(x.size, samples, replace=False):
        yield tuple(int(i) for i in np.unravel_index(flat, x.shape))
    yield from rng.integers(2**32, size=samples).tolist()


def _by_argument(gradients: Any, args: list[Any], names: list[str]) -> Sequence[Any]:
    """Return a gradient for each floating argument, however the backward put them together."""
    several = isinstance(gradients, (tuple, list))
    if len(args) == 1:
        # one gradient may come as it is, or as a tuple of one
        nested = isinstance(args[0], (tuple, list))
        inner = several and len(gradients) == 1 and isinstance(gradients[0], (tuple, list))
        as_it_is = not several or (nested and not inner)
        gradients = [gradients] if as_it_is else gradients
    elif not several:
        gradients = [gradients]
    if len(gradients) != len(args):
        raise ValueError(
            f"backward must return a gradient for each of {', '.join(names)}, got {len(gradients)}"
        )
    return list(gradients)


def _problem(gradient: Array | None, shape: tuple[int, ...]) -> str:
    if gradient is None:
        return "backward returned no gradient for it"
    if gradient.shape != shape:
        return f"its gradient must have shape {shape}, got {gradient.shape}"
    return ""


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f"


def _checked(name: str) -> Callable[[Array], Any]:
    def check(array: Array) -> Any:
        if array.dtype.kind == "c":
            raise TypeError(f"{name} is {array.dtype}, and gradcheck needs float64")
        if array.dtype.kind == "f" and array.dtype != np.float64:
            raise TypeError(
                f"{name} is {array.dtype}, and gradcheck needs float64: a difference of two "
                "float32 losses keeps about three digits, too few to tell a wrong gradient from "
                f"rounding; pass {name}.astype(np.float64)"
            )
        return array

    return check


def _argument_names(forward: Callable[..., Any], count: int) -> list[str]:
    """Return the names of the forward's positional parameters, ``arg0``... where it has none."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[n] if n < len(names) else f"arg{n}" for n in range(count)]
