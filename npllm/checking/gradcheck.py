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
        tolerances: the largest error that passes, relative to the argument's largest gradient.
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
        ValueError: no argument is floating.

    >>> def forward(x):
    ...     return x * x, x
    >>> def backward(dy, x):
    ...     return 2 * x * dy
    >>> gradcheck(forward, backward, [np.array([1.0, 3.0])]).passed
    True
    >>> gradcheck(forward, lambda dy, x: x * dy, [np.array([1.0, 3.0])]).worst.passed
    False
    """
    rng = np.random.default_rng((seed, SALT))
    names = _argument_names(forward, len(args))
    args = [map_leaves(_checked(name), arg) for name, arg in zip(names, args, strict=True)]
    floating = [n for n, arg in enumerate(args) if any(_is_float(a) for _, a in leaves(arg))]
    if not floating:
        raise ValueError("args must hold at least one float64 array, got none")

    y, cache = forward(*map_leaves(np.copy, args))
    cotangent = map_leaves(lambda a: np.asarray(rng.standard_normal(a.shape)), y)
    gradients = backward(cotangent, cache)
    if not isinstance(gradients, tuple) or (len(floating) == 1 and len(gradients) != 1):
        gradients = (gradients,)
    if len(gradients) != len(floating):
        expected = ", ".join(names[n] for n in floating)
        raise ValueError(
            f"backward must return a gradient for each of {expected}, got {len(gradients)}"
        )
    v = [a for _, a in leaves(cotangent)]
    probes = [_Probe(forward, args, v, method) for method in methods]
    reports = []
    for n, gradient in zip(floating, gradients, strict=True):
        claimed = dict(leaves(gradient, names[n]))
        for name, x in leaves(args[n], names[n]):
            if not _is_float(x):
                continue
            problem = _problem(claimed.get(name), x.shape)
            if problem:
                reports.append(ArgumentReport(name, x.shape, problem=problem))
                continue
            chosen = list(_directions(x, exhaustive_size, samples, rng))
            comparisons = tuple(
                _compare(probe, name, claimed[name], chosen, tolerances[probe.method])
                for probe in probes
            )
            reports.append(ArgumentReport(name, x.shape, comparisons))
    return GradcheckReport(tuple(reports))


Direction = tuple[int, ...] | Array


class _Probe:
    """Derivatives of L in a direction, from forwards alone."""

    def __init__(
        self, forward: Callable[..., Any], args: Sequence[Any], v: list[Array], method: Method
    ) -> None:
        self.forward, self.v, self.method = forward, v, method
        self.step = STEPS[method]
        dtype = np.complex128 if method == "complex" else np.float64
        self.args = map_leaves(lambda a: np.array(a, dtype) if _is_float(a) else a, list(args))
        names = _argument_names(forward, len(args))
        self.leaves: dict[str, Array] = {}
        for name, arg in zip(names, self.args, strict=True):
            self.leaves.update(leaves(arg, name))

    def derivative(self, name: str, direction: Direction) -> float:
        """Return dL/dx along an element's index or along an array of x's shape."""
        if self.method == "complex":
            moved = self._moved(name, direction, 1j * self.step)
            if not any(np.iscomplexobj(y) for y in moved):
                raise TypeError(
                    f"the forward returned {moved[0].dtype} for complex128: it is not analytic, "
                    'or casts to real; check it with methods=("central",)'
                )
            total = sum(np.sum(v * y.imag) for v, y in zip(self.v, moved, strict=True))
            return float(total / self.step)
        ahead = self._moved(name, direction, self.step)
        behind = self._moved(name, direction, -self.step)
        # subtract before summing: what the step does not touch cancels exactly
        total = sum(np.sum(v * (a - b)) for v, a, b in zip(self.v, ahead, behind, strict=True))
        return float(total / (2 * self.step))

    def _moved(self, name: str, direction: Direction, step: complex) -> list[Array]:
        x = self.leaves[name]
        before = x.copy()
        if isinstance(direction, tuple):
            x[direction] += step
        else:
            x += step * direction
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
        [gradient[d] if isinstance(d, tuple) else np.sum(gradient * d) for d in directions], float
    )
    numeric = np.array([probe.derivative(name, d) for d in directions])
    largest = max(np.abs(gradient).max(initial=0), np.abs(numeric).max(initial=0))
    scale = np.array(
        [largest if isinstance(d, tuple) else largest * np.linalg.norm(d) for d in directions]
    )
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
    if x.size <= exhaustive_size:
        yield from np.ndindex(x.shape)
        return
    for flat in rng.choice(x.size, samples, replace=False):
        yield tuple(int(i) for i in np.unravel_index(flat, x.shape))
    for _ in range(samples):
        yield rng.standard_normal(x.shape)


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
        if array.dtype.kind == "c" or (array.dtype.kind == "f" and array.dtype != np.float64):
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
