"""Gradient checking: a backward pass against derivatives computed from its forward alone.

For a forward f, a random cotangent v and L(x) = sum(v * f(x)), the backward claims dL/dx. The
methods of :mod:`npllm.checking.methods` compute it again; :mod:`npllm.checking.behaviour` calls the
pair as training would; :mod:`npllm.checking.diagnosis` says why, where they disagree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from npllm.checking.behaviour import FINDINGS, behaviour, elsewhere
from npllm.checking.comparison import ArgumentCheck
from npllm.checking.methods import (
    ROUNDING,
    Method,
    central_difference,
    complex_step,
    mass_of,
    precision_of,
)
from npllm.checking.pair import (
    SALT,
    Arguments,
    Backward,
    Direction,
    Forward,
    Kind,
    Outputs,
    Pair,
    Probe,
    is_float,
)
from npllm.checking.report import Cause, GradcheckReport
from npllm.checking.trees import Array, leaves, map_leaves
from npllm.threads import blas_held


def gradcheck(
    forward: Forward,
    backward: Backward,
    args: Arguments,
    *,
    methods: Method | Sequence[Method] | None = None,
    tolerances: Mapping[Method, float] | None = None,
    dtype: npt.DTypeLike = np.float64,
    sizes: Mapping[str, float] | None = None,
    allow: Collection[str] = (),
    exhaustive_size: int = 2000,
    samples: int = 50,
    seed: int = 0,
    known: Outputs | None = None,
) -> GradcheckReport:
    """Compare a hand-written backward with numeric derivatives of its forward.

    Args:
        forward: ``forward(*args) -> (y, cache)``; y an array or a tuple, list or dict of arrays.
            It must be deterministic: a layer that draws at random makes its Generator inside.
        backward: ``backward(dy, cache)`` -> the gradient of the one floating argument, or a tuple
            of gradients, one for each argument that holds floating arrays, in their order (or one
            for every argument, None for ids); dy and the gradients have the structure of y and of
            the arguments. Layers written in another
            way go through :mod:`npllm.checking.adapters` first.
        args: arrays, or tuples, lists and dicts of arrays, in float64; integers, booleans, None
            and any other object are passed on as they are. A single array, number or dict may come
            without a list.
        methods: which oracle or oracles to ask, of "complex", "central", "fourth" and "richardson";
            the first two unless the dtype is float32, then the last. Where the forward is not
            analytic or takes no complex numbers, Richardson stands in for the complex step, and a
            note says why.
        tolerances: the largest error that passes by each method, relative to the argument's
            largest gradient, in place of those in :data:`npllm.checking.methods.PRECISIONS`. A
            difference that rounding alone explains passes too (of a gradient whose terms cancel to
            zero, or that is small beside the other arguments'), and the step of a central
            difference that fails is halved, and its error extrapolated away, before the gradient
            is blamed.
        dtype: float64, or float32 for a layer that can compute in nothing else: then about three
            digits can be checked.
        sizes: numbers for the diagnosis to know by name, besides the shapes: ``{"heads": 4}``.
        allow: keys of findings that are no mistake here, such as "aliased".
        exhaustive_size: up to this many elements every element is compared; in a larger argument
            ``samples`` random elements and ``samples`` random directions are, and a direction that
            fails is halved until the wrong element is found.
        samples: see ``exhaustive_size``.
        seed: draws the cotangent, the directions and the sample.
        known: what an earlier check of this very forward, with these arguments and dtype, has
            computed of it: it is not computed again, and what is computed is added. It is for
            trying many backward passes of one forward.

    Returns:
        A report: true where all passed; printed, a row an argument, and under a row that failed
        where and why; ``report.worst`` names the argument, index, analytic and numeric value.

    While it checks, BLAS has one thread, in the whole process; for a layer of large products on an
    idle machine, call it inside ``with npllm.threads.blas_held(N):``.

    Raises:
        TypeError: an argument is complex, or float32 where the dtype is float64; the forward does
            not return a pair, or returns complex numbers.
        ValueError: nothing is floating that goes in or comes out, no method or sample is asked
            for, or the backward returns another number of gradients.

    >>> def forward(x):
    ...     return x * x, x
    >>> def backward(dy, x):
    ...     return 2 * x * dy
    >>> gradcheck(forward, backward, np.array([1.0, 3.0])).passed
    True
    >>> report = gradcheck(forward, lambda dy, x: x * dy, np.array([1.0, 3.0]))
    >>> print(report.causes[0])
    it is 0.5 times what it must be: 1 / 2, and 2 is the size of axis 0 of x
    """
    precision = precision_of(dtype)
    if isinstance(methods, str):
        methods = (methods,)
    if methods is None:
        methods = ("complex", "central") if "complex" in precision.steps else ("richardson",)
    if tolerances is not None and not isinstance(tolerances, Mapping):
        raise TypeError(f"tolerances must be a dict by method, got {type(tolerances).__name__}")
    if not methods or samples < 1:
        raise ValueError("gradcheck needs at least one method and one sample")
    asked = [*methods, *(tolerances or {})]
    if unknown := [m for m in asked if m not in precision.steps]:
        raise ValueError(
            f"there is no method {', '.join(map(repr, unknown))} in {np.dtype(dtype)}; "
            f"there are {', '.join(precision.steps)}"
        )
    allowed = {allow} if isinstance(allow, str) else set(allow)
    if strange := sorted(allowed - set(FINDINGS)):
        raise ValueError(
            f"there is no finding {', '.join(map(repr, strange))}; there are {', '.join(FINDINGS)}"
        )
    limits = {**precision.tolerances, **(tolerances or {})}
    rng = np.random.default_rng((seed, SALT))
    pair = Pair(forward, backward, args, dtype)
    with blas_held():
        return _checked(
            pair, methods, limits, sizes or {}, allowed, exhaustive_size, samples, rng, known
        )


def _checked(
    pair: Pair,
    methods: Sequence[Method],
    limits: Mapping[Method, float],
    sizes: Mapping[str, float],
    allowed: set[str],
    exhaustive_size: int,
    samples: int,
    rng: np.random.Generator,
    known: Outputs | None,
) -> GradcheckReport:
    """Return the report of a pair; the arguments are those of :func:`gradcheck`."""
    before = elsewhere(pair)
    y, _ = pair.run(pair.args)
    _check_output(y)
    if nan := _not_a_number(y):
        return GradcheckReport((), (nan,), (), str(pair.dtype))
    dy = map_leaves(lambda a: _like_floats(rng.standard_normal(a.shape), a), y)
    # two runs of the same numbers may differ by a rounding, no more
    result = behaviour(pair, dy, before, 2**12 * pair.eps)
    findings = [*_too_short(y, pair, "the forward returns {} for float64"), *result.found]
    if result.gradients is None:  # nothing can be compared, so nothing is allowed
        return GradcheckReport((), tuple(findings), (), str(pair.dtype))
    for name, g in result.gradients.items():
        findings += _too_short(g, pair, f"the gradient of {name} is {{}} where {name} is float64")
    kept = tuple(f for f in findings if f.key not in allowed)
    notes = [f"allowed: {f}" for f in findings if f.key in allowed]
    v = [a for _, a in leaves(dy)]
    probes: dict[Kind, Probe] = {
        "real": Probe(pair, v, "real", known),
        "complex": Probe(pair, v, "complex", known),
    }
    chosen, why = _usable(pair, probes, methods, rng)
    notes += why
    named = _sizes(pair, y, sizes)
    check = ArgumentCheck(pair, probes, chosen, limits, y, dy, named, before, result)
    reports = []
    for name, x in pair.leaves.items():
        directions = list(_directions(x, exhaustive_size, samples, rng))
        reports.append(check.report(name, directions))
    return GradcheckReport(tuple(reports), kept, tuple(notes), str(pair.dtype))


def assert_gradients(
    forward: Forward,
    backward: Backward,
    args: Arguments,
    **options: Any,
) -> None:
    """Fail with the report of :func:`gradcheck`, whose arguments these are, unless it passes.

    Raises:
        AssertionError: a gradient is wrong; the message is the report.

    >>> assert_gradients(lambda x: (x * x, x), lambda dy, x: 2 * x * dy, np.array([1.0, 3.0]))
    """
    __tracebackhide__ = True  # pytest then shows the caller's line
    report = gradcheck(forward, backward, args, **options)
    if not report:
        wrong = [argument.name for argument in report.arguments if not argument.passed]
        what = f"wrong gradients: {', '.join(wrong)}" if wrong else str(report.findings[0])
        raise AssertionError(f"{what}\n{report}")


def _usable(
    pair: Pair,
    probes: Mapping[Kind, Probe],
    methods: Sequence[Method],
    rng: np.random.Generator,
) -> tuple[list[Method], list[str]]:
    """Return the methods, Richardson in place of a complex step that this forward rules out."""
    if "complex" not in methods:
        return list(methods), []
    reason = _not_analytic(pair, probes, rng)
    if not reason:
        return list(methods), []
    chosen: list[Method] = ["richardson" if m == "complex" else m for m in methods]
    return list(dict.fromkeys(chosen)), [
        f"{reason}: the complex step does not apply, and Richardson extrapolation stands in for it"
    ]


def _not_analytic(pair: Pair, probes: Mapping[Kind, Probe], rng: np.random.Generator) -> str:
    """Return why the complex step does not apply, or nothing: try a direction of each argument."""
    steps, imaginary, real = precision_of(pair.dtype).steps, probes["complex"], probes["real"]
    y, _ = pair.run(pair.args)
    background = ROUNDING * pair.eps * mass_of(real.v, (a for _, a in leaves(y)))
    for name, x in pair.leaves.items():
        if not x.size:
            continue
        direction = int(rng.integers(2**32))
        line = imaginary.line(name, direction)
        try:
            outputs = line.outputs(0.0)
            if any(y.dtype.kind == "f" for y in outputs):
                return "the forward returns real numbers for complex ones (a cast to real, an abs)"
            one = complex_step(line, steps["complex"])
        except Exception as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            return f"the forward does not take complex numbers ({what[:120]})"
        size = one.rounding / (ROUNDING * pair.eps)  # of the terms, which may cancel in the sum
        line, verdicts = real.line(name, direction), []
        for shrink in (1, 10, 100, 1000):  # a singularity may be near
            step = steps["central"] / shrink
            try:
                other = central_difference(line, step)
            except Exception:  # the step left the domain of the forward: nothing to compare with
                continue
            blur = (
                pair.eps * float(np.abs(x).max()) * max(size, abs(other.value))
            )  # of x + h itself
            limit = 10 * (other.rounding + (background + blur) / step)
            limit += 1e-5 * max(size, abs(other.value))
            if np.isfinite(other.value):
                verdicts.append(abs(one.value - other.value) <= limit)
        if verdicts and not any(verdicts):
            return (
                f"the forward is not analytic in {name} (an abs, a conjugate or a cast to real on "
                "the way, or a kink under the step)"
            )
    return ""


def _check_output(y: object) -> None:
    outputs = dict(leaves(y, "y"))
    for name, a in outputs.items():
        if a.dtype.kind == "c":
            raise TypeError(
                f"{name} is {a.dtype}, and gradcheck needs real outputs: let the forward return "
                "the real and the imaginary part"
            )
    if not any(is_float(a) for a in outputs.values()):
        raise ValueError("the forward returns no floating array: there is nothing to check")


def _not_a_number(y: object) -> Cause | None:
    for name, a in leaves(y, "y"):
        if is_float(a) and (count := int(np.isnan(a).sum())):
            return Cause("nan", f"the forward returns NaN at {count} of {a.size} places of {name}")
    return None


def _too_short(tree: object, pair: Pair, what: str) -> list[Cause]:
    short = {str(a.dtype) for _, a in leaves(tree) if is_float(a) and a.dtype.itemsize < 8}
    if not short or pair.dtype != np.float64:
        return []
    text = (
        f"{what.format(', '.join(sorted(short)))}, too few digits to check; mend that, or pass "
        "dtype=np.float32 if it can compute in nothing else"
    )
    return [Cause("float32", text)]


def _sizes(pair: Pair, y: object, named: Mapping[str, float]) -> dict[float, str]:
    """Return the numbers that a wrong factor may be: those named, and every axis."""
    sizes = {float(number): name for name, number in named.items()}
    for name, a in [*pair.all_leaves().items(), *leaves(y, "y")]:
        for axis, size in enumerate(a.shape):
            if size > 1:
                sizes.setdefault(float(size), f"the size of axis {axis} of {name}")
        if a.ndim > 1 and a.size > 1:
            sizes.setdefault(float(a.size), f"the number of elements of {name}")
    return sizes


def _directions(
    x: Array, exhaustive_size: int, samples: int, rng: np.random.Generator
) -> Iterator[Direction]:
    if x.size <= max(exhaustive_size, samples):
        yield from np.ndindex(x.shape)
        return
    for flat in rng.choice(x.size, samples, replace=False):
        yield tuple(int(i) for i in np.unravel_index(flat, x.shape))
    yield from rng.integers(2**32, size=samples).tolist()


def _like_floats(drawn_numbers: Array, y: Array) -> Array:
    """Return a cotangent in y's dtype, zero where y holds no floating numbers."""
    return np.asarray(drawn_numbers * is_float(y), y.dtype if is_float(y) else np.float64)
