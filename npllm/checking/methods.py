"""Derivatives along a line, from forwards alone: four methods, and what each can promise.

For a forward f, a cotangent v and L(x) = sum(v * f(x)), each method estimates dL/ds of L(x + s d)
at s = 0:

* **complex step**, Im L(x + ih d) / h with h = 1e-20: nothing is subtracted, so it is right to
  rounding (Squire and Trapp, "Using Complex Variables to Estimate Derivatives" (1998)). It needs a
  forward that is analytic and keeps complex numbers;
* **central difference**, C(h) = (L(x + hd) - L(x - hd)) / 2h: truncation h^2, rounding eps / h;
* **fourth order**, (4 C(h) - C(2h)) / 3: truncation h^4, so h may be larger and rounding smaller;
* **Richardson extrapolation**, the same idea carried on over a tableau of steps, each half the one
  before, as Ridders, "Accurate computation of F'(x) and F'(x)F''(x)" (1982) does: it takes the
  entry whose neighbours agree best; how far they are apart is its estimate of its own error.

A step below is near the one at which truncation and rounding balance, and a tolerance is some
thousand times the error that remains there: a wrong gradient is off by far more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.checking.trees import Array

Method = Literal["complex", "central", "fourth", "richardson"]

NAMES: dict[Method, str] = {
    "complex": "complex step",
    "central": "central difference",
    "fourth": "fourth order",
    "richardson": "Richardson",
}


class Precision(NamedTuple):
    """What follows from the dtype a layer computes in."""

    eps: float
    steps: dict[Method, float]
    tolerances: dict[Method, float]


PRECISIONS: dict[np.dtype[Any], Precision] = {
    np.dtype(np.float64): Precision(
        float(np.finfo(np.float64).eps),
        {"complex": 1e-20, "central": 1e-5, "fourth": 1e-3, "richardson": 2.0**-4},
        {"complex": 1e-12, "central": 1e-7, "fourth": 1e-9, "richardson": 1e-9},
    ),
    # there is no complex step: NumPy's complex64 has no part that is spared the rounding of float32
    np.dtype(np.float32): Precision(
        float(np.finfo(np.float32).eps),
        {"central": 5e-3, "fourth": 5e-2, "richardson": 0.25},
        {"central": 1e-2, "fourth": 1e-3, "richardson": 1e-3},
    ),
}

# A sum of rounded terms is off by a few units in the last place of what was summed.
ROUNDING = 8
LEVELS = 5  # of a tableau: its smallest step is a sixteenth of its largest
SHRINK = 32  # from one tableau to the next, which a kink or a sharp bend may need


class Estimate(NamedTuple):
    """A derivative, and how far it can be trusted.

    Attributes:
        value: of the derivative.
        rounding: an error that rounding alone can make of it.
        uncertainty: Richardson's estimate of its own error, rounding included; 0 for the others.
    """

    value: float
    rounding: float
    uncertainty: float = 0.0


class Line(NamedTuple):
    """L along one direction.

    Attributes:
        outputs: the arrays of f(x + s d), given s.
        v: the cotangent of each.
        eps: of the dtype in which they are computed.
    """

    outputs: Callable[[complex], list[Array]]
    v: list[Array]
    eps: float


def complex_step(line: Line, h: float) -> Estimate:
    """Return Im L(x + ih d) / h.

    >>> line = Line(lambda s: [np.exp(np.asarray(1.0 + s))], [np.asarray(1.0)], 2.2e-16)
    >>> bool(abs(complex_step(line, 1e-20).value - np.exp(1.0)) < 1e-15)
    True
    """
    total = mass = 0.0
    for v, y in zip(line.v, line.outputs(1j * h), strict=True):
        if y.dtype.kind == "c":
            terms = v * y.imag / h
            mass += float(np.abs(terms).sum())
            total += float(terms.sum())
    return Estimate(total, ROUNDING * line.eps * mass)


def forward_difference(line: Line, h: float) -> Estimate:
    """Return (L(x + hd) - L(x)) / h, right to h: the method that shows why the others are there."""
    return _difference(line, h, 0.0)


def central_difference(line: Line, h: float) -> Estimate:
    """Return C(h) = (L(x + hd) - L(x - hd)) / 2h."""
    return _difference(line, h, -h)


def fourth_order(line: Line, h: float) -> Estimate:
    """Return (4 C(h) - C(2h)) / 3, in which the h^2 terms cancel."""
    near, far = central_difference(line, h), central_difference(line, 2 * h)
    return Estimate((4 * near.value - far.value) / 3, (4 * near.rounding + far.rounding) / 3)


def richardson(line: Line, h: float) -> Estimate:
    """Return the best entry of a tableau that starts at ``h``; of a finer one where that is poor.

    >>> line = Line(lambda s: [np.exp(np.asarray(1.0 + s))], [np.asarray(1.0)], 2.2e-16)
    >>> best = richardson(line, 2.0**-4)
    >>> bool(abs(best.value - np.exp(1.0)) <= best.uncertainty < 1e-11)
    True
    """
    best = Estimate(np.nan, 0.0, np.inf)
    for refinement in range(3):
        try:
            found = _tableau(line, h / SHRINK**refinement)
        except Exception:  # the step left the domain of the forward: a smaller one may not
            if refinement == 2 and np.isnan(best.value):
                raise
            continue
        if found.uncertainty < best.uncertainty:
            best = found
        if best.uncertainty <= max(2 * best.rounding, 2**16 * line.eps * abs(best.value)):
            break
    return best


DERIVATIVES: dict[Method, Callable[[Line, float], Estimate]] = {
    "complex": complex_step,
    "central": central_difference,
    "fourth": fourth_order,
    "richardson": richardson,
}


def _difference(line: Line, after: float, before: float) -> Estimate:
    total = mass = 0.0
    width = after - before
    for v, a, b in zip(line.v, line.outputs(after), line.outputs(before), strict=True):
        if a.dtype.kind == "f":
            # what the step does not move cancels exactly, a masked score of -inf too
            moved = a != b
            v, a, b = v[moved], a[moved], b[moved]
            total += float((v * (a - b)).sum(dtype=np.float64)) / width
            mass += float((np.abs(v) * (np.abs(a) + np.abs(b))).sum()) / width
    return Estimate(total, ROUNDING * line.eps * mass)


def mass_of(v: Sequence[Array], outputs: Iterable[Array]) -> float:
    """Return the sum of |v y| over what is finite: the size of the terms of L."""
    total = 0.0
    for cotangent, y in zip(v, outputs, strict=True):
        if y.dtype.kind == "f":
            finite = np.isfinite(y) & (cotangent != 0)
            total += float(np.sum(np.abs(cotangent[finite] * y[finite])))
    return total


def _tableau(line: Line, h: float) -> Estimate:
    """Return the entry T[k][j] = (4^j T[k][j-1] - T[k-1][j-1]) / (4^j - 1) of smallest error."""
    first = central_difference(line, h)
    above, best = [first.value], first._replace(uncertainty=np.inf)
    for k in range(1, LEVELS):
        central = central_difference(line, h / 2**k)
        row = [central.value]
        for j in range(1, k + 1):
            row.append((4**j * row[j - 1] - above[j - 1]) / (4**j - 1))
            apart = max(abs(row[j] - row[j - 1]), abs(row[j] - above[j - 1]))
            rounding = 2 * central.rounding
            if apart + rounding < best.uncertainty:
                best = Estimate(row[j], rounding, apart + rounding)
        above = row
    return best


def precision_of(dtype: npt.DTypeLike) -> Precision:
    """Return the precision of float64 or float32.

    Raises:
        TypeError: it is another dtype.
    """
    try:
        return PRECISIONS[np.dtype(dtype)]
    except KeyError:
        raise TypeError(f"dtype must be float64 or float32, got {np.dtype(dtype)}") from None
