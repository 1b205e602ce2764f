"""Why a gradient is wrong, where the numbers show it.

Each function below looks for one cause. It compares the analytic gradient g with the numeric one n
and claims a cause only where that cause explains every number: two arrays do not agree to six
digits by accident. The most specific cause comes first.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from npllm.checking.behaviour import clip_limit
from npllm.checking.report import Cause
from npllm.checking.trees import Array


@dataclass(frozen=True)
class Evidence:
    """What is known about an argument whose gradient is wrong.

    Attributes:
        name: of the argument.
        g: the analytic gradient.
        n: the numeric one, of the same shape.
        wrong: the largest difference that is none.
        whole: whether g and n are the argument's; if not, they are a sample of it, a vector.
        given: all arrays that went in and came out by name: the arguments, "y" and "dy".
        sizes: numbers that a wrong factor may be, with what they are.
        same: two arrays that differ by less, relative to the largest number, are the same.
        steady: where g and n are this near: how alike their difference is to that at a point
            nearby, from 0 for rounding, which is different everywhere, to 1.
        others: what the backward returned for the other arguments.
    """

    name: str
    g: Array
    n: Array
    wrong: float
    whole: bool
    given: Mapping[str, Array]
    sizes: Mapping[float, str]
    same: float = 1e-6
    steady: float | None = None
    others: Mapping[str, Array] = field(default_factory=dict)

    def alike(self, a: Array, b: Array) -> bool:
        """Whether two arrays are the same number for number, and not all zero."""
        largest = np.abs(b).max(initial=0)
        return bool(
            a.shape == b.shape
            and largest > 0
            and np.isfinite(a).all()
            and np.abs(a - b).max() <= self.same * largest
        )


@np.errstate(over="ignore", invalid="ignore")  # what overflows, or is masked by -inf, fits nothing
def diagnose(e: Evidence) -> tuple[Cause, ...]:
    """Return what is wrong with the gradient, and where if that is not everywhere."""
    if not np.isfinite(e.g).all():
        count = int(np.count_nonzero(~np.isfinite(e.g)))
        return (Cause("nan", f"{count} of {e.g.size} elements are not finite numbers"),)
    if not (np.abs(e.g - e.n) > e.wrong).any():  # the sample missed what is wrong
        return () if (cause := _near(e)) is None else (cause,)
    cause = _what(e)
    if cause is not None:
        return (cause,)
    place = _where(e) if e.whole else None
    if place is None:
        own = _own_factors(e)
        return _scattered(e) if own is None else (own,)
    where, part = place
    inside = _what(part) or _own_factors(part)
    return (where,) if inside is None else (where, inside)


def _what(e: Evidence) -> Cause | None:
    if e.alike(e.g, e.n):  # too near for any cause but one to explain the difference
        return _near(e)
    everywhere = (_near, _zero, _returned_dy, _not_zero, _factor, _clipped)
    laid_out = (_swapped, _permuted, _argument_added, _elementwise, _mean_term)
    for cause in everywhere + (laid_out if e.whole else ()):
        found = cause(e)
        if found is not None:
            return found
    return None


def _near(e: Evidence) -> Cause | None:
    largest = np.abs(e.n).max(initial=0)
    if not 0 < np.abs(e.g - e.n).max(initial=0) <= 1e-4 * largest or e.same > 1e-4:
        return None
    if np.array_equal(e.g, e.g.astype(np.float32)):
        return Cause(
            "float32",
            "every number of it is a float32: something in the backward rounds to single precision",
        )
    error = np.abs(e.g - e.n).max(initial=0) / largest
    off = np.count_nonzero(np.abs(e.g - e.n) > e.wrong)
    if e.steady is None or 2 * off <= np.count_nonzero(e.n):  # a few small ones may be wrong
        return None
    if e.steady < 0.5 and 1e-9 < error < 1e-5:
        text = f"right to {error:.0e}: something is rounded to float32 on the way"
        return Cause("float32", f"{text}, or large numbers cancel")
    if e.steady > 0.9:
        return Cause(
            "epsilon",
            f"it is off by {error:.0e} only, but steadily, which rounding is not: a small constant "
            "is added on the way (an epsilon), or a constant was cut short",
        )
    return None


def _zero(e: Evidence) -> Cause | None:
    if not e.g.any():
        return Cause("zero", "it is zero, and must not be")
    off = np.abs(e.g - e.n) > e.wrong
    dead = off & (e.g == 0)
    if dead.any() and np.array_equal(dead, off) and not _in_slices(off):
        count, size = int(dead.sum()), e.g.size
        return Cause("zero", f"it is zero at {count} of {size} elements, where it must not be")
    return None


def _not_zero(e: Evidence) -> Cause | None:
    off = np.abs(e.g - e.n) > e.wrong
    if off.any() and not e.n[off].any():
        count = int(off.sum())
        return Cause("not_zero", f"it must be zero at {count} of {off.size} elements, and is not")
    return None


def _returned_dy(e: Evidence) -> Cause | None:
    for name, dy in e.given.items():
        if name != "dy" and not name.startswith("dy["):
            continue
        if dy.size == e.g.size and e.alike(e.g, dy.reshape(e.g.shape)):
            return Cause("returned_dy", f"it is {name}, the incoming gradient, unchanged")
        if dy.ndim == e.g.ndim and all(map(int.__ge__, dy.shape, e.g.shape)):
            cut = dy[tuple(slice(size) for size in e.g.shape)]
            if e.alike(e.g, cut):
                return Cause("returned_dy", f"it is a part of {name}, the incoming gradient")
    return None


def _factor(e: Evidence) -> Cause | None:
    if not e.n.any():
        return None
    c = float(np.sum(e.g * e.n) / np.sum(e.n * e.n))
    if abs(c - 1) <= e.same or not e.alike(e.g, c * e.n):
        return None
    if e.alike(e.g, -e.n):
        return Cause("sign", "its sign is wrong, and nothing else")
    factor = named_factor(c, e.sizes)
    if _telling(e.n).sum() < 2 and not (e.whole and factor):
        return None  # one number is some multiple of any other
    return Cause("scale", f"it is {c:.6g} times what it must be{factor}")


def named_factor(c: float, sizes: Mapping[float, str]) -> str:
    """Return which of the sizes in play a factor is, or its inverse, root or product.

    >>> named_factor(-0.5, {4.0: "the size of axis 1 of x"})
    ': minus 1 / 2; or minus 1 / sqrt(4), and 4 is the size of axis 1 of x'
    """
    sign = "minus " if c < 0 else ""
    sizes = {s: what for s, what in sizes.items() if s > 0}
    plain: dict[str, Callable[[float], float]] = {"{0}": lambda s: s, "1 / {0}": lambda s: 1 / s}
    forms: dict[str, Callable[[float], float]] = {
        "sqrt({0})": math.sqrt,
        "1 / sqrt({0})": lambda s: 1 / math.sqrt(s),
        "1 - {0}": lambda s: 1 - s,
        "1 / (1 - {0})": lambda s: 1 / (1 - s) if s != 1 else math.inf,
    }

    def among(candidates: Mapping[str, Callable[[float], float]]) -> list[str]:
        return [
            f"{sign}{form.format(f'{s:g}')}, and {s:g} is {what}"
            for form, function in candidates.items()
            for s, what in sizes.items()
            if math.isclose(function(s), abs(c), rel_tol=1e-6)
        ][:1]

    pairs = {"{0:g} x {1:g}": 1, "1 / ({0:g} x {1:g})": -1}
    names = among(plain)
    if not names:
        constants = {2: "2", 3: "3", math.pi: "pi", math.sqrt(2 * math.pi): "sqrt(2 pi)"}
        for number, text in constants.items():
            for power, form in ((1, "{0}"), (-1, "1 / {0}")):
                if math.isclose(number**power, abs(c), rel_tol=1e-6):
                    names.append(f"{sign}{form.format(text)}")
        names += among(forms)
    axes = [(s, what) for s, what in sizes.items() if s > 1 and "number of elements" not in what]
    for (s, one), (t, other) in (
        itertools.combinations_with_replacement(axes, 2) if not names else ()
    ):
        same = f"{s:g} is {one}" + ("" if s == t else f", {t:g} is {other}")
        for text, power in pairs.items():
            if math.isclose((s * t) ** power, abs(c), rel_tol=1e-6):
                names.append(f"{sign}{text.format(s, t)}, and {same}")
        for up, down in ((s, t), (t, s)):
            if math.isclose(up / down, abs(c), rel_tol=1e-6):
                names.append(f"{sign}{up:g} / {down:g}, and {same}")
        if names:
            break
    return f": {'; or '.join(names)}" if names else ""


def _clipped(e: Evidence) -> Cause | None:
    limit = clip_limit(e.g, e.n)
    if limit is None or np.count_nonzero(np.isclose(np.abs(e.g), limit, rtol=1e-9)) < 2:
        return None
    return Cause("clipped", f"it is right, but cut to [-{limit:.6g}, {limit:.6g}]")


def _swapped(e: Evidence) -> Cause | None:
    for name, other in e.others.items():
        if e.alike(other, e.n):
            text = f"what belongs here was returned for {name}: the gradients are in another order"
            return Cause("swapped", text)
    return None


def _permuted(e: Evidence) -> Cause | None:
    g, n = e.g, e.n
    for axes in itertools.permutations(range(g.ndim)):
        if axes == tuple(range(g.ndim)) or g.ndim > 4:
            continue
        turned = n.transpose(axes)
        if e.alike(g, turned):
            return Cause("transposed", f"it is transposed: axes {list(axes)} of what it must be")
        if turned.shape != g.shape and e.alike(g, turned.reshape(g.shape)):
            return Cause(
                "transposed",
                f"it was computed with its axes in the order {list(axes)}, shape "
                f"{turned.shape}, and then reshaped to {g.shape} instead of transposed",
            )
    for axis in range(g.ndim):
        if g.shape[axis] < 2:
            continue
        if e.alike(g, np.flip(n, axis)):
            return Cause("permuted", f"it runs backwards along axis {axis}")
        for shift in (1, -1):
            rolled = np.roll(n, shift, axis)
            inner = _slice(axis, slice(1, None) if shift == 1 else slice(None, -1))
            if g.shape[axis] > 2 and e.alike(g[inner], rolled[inner]):
                return Cause("permuted", f"it is shifted by one along axis {axis}")
    for axis in range(g.ndim):
        order = _order(e, axis)
        if order is not None:
            return Cause(
                "permuted",
                f"the slices along axis {axis} are right, but in the order {_runs(order)}",
            )
    if g.size > 3 and e.alike(np.sort(g, axis=None), np.sort(n, axis=None)):
        return Cause("permuted", "it holds the right numbers in the wrong places")
    return None


def _order(e: Evidence, axis: int) -> list[int] | None:
    """Return which slice of n each slice of g is, where that is a permutation."""
    g, n = np.moveaxis(e.g, axis, 0), np.moveaxis(e.n, axis, 0)
    if not 2 <= len(g) <= 64 or g[0].size < 2:
        return None
    order = []
    for piece in g:
        matches = [k for k, other in enumerate(n) if e.alike(piece, other)]
        if not matches:
            return None
        order.append(matches[0])
    return order if sorted(order) == list(range(len(g))) else None


def _argument_added(e: Evidence) -> Cause | None:
    x, difference = e.given.get(e.name), e.g - e.n
    if x is None or x.shape != e.g.shape or _telling(x).sum() < 2 or np.ptp(x) == 0:
        return None
    c = float(np.sum(difference * x) / np.sum(x * x))
    if abs(c) <= e.wrong or not e.alike(difference, c * x):
        return None
    return Cause("argument_added", f"{c:.6g} times {e.name} itself is added to it")


def _elementwise(e: Evidence) -> Cause | None:
    transformations: dict[str, Callable[[Array], Array]] = {
        "{}": lambda a: a,
        "1 - {}": lambda a: 1 - a,
        "1 - {}^2": lambda a: 1 - a * a,
        "{}^2": lambda a: a * a,
    }
    for name, a in e.given.items():
        if a.dtype.kind != "f" or not a.size or not _fits(a.shape, e.g.shape):
            continue
        for form, function in transformations.items():
            factor = function(a)
            if np.ptp(factor) == 0:
                continue
            label = form.format(name)
            if e.alike(e.g, e.n * factor):
                return Cause("factor", f"it is multiplied by {label} once too often")
            if e.alike(e.g * factor, e.n):
                return Cause("factor", f"a factor {label} is missing")
    return None


def _own_factors(e: Evidence) -> Cause | None:
    if not e.whole or e.alike(e.g, e.n):
        return None
    for axis, size in enumerate(e.g.shape):
        others = tuple(k for k in range(e.g.ndim) if k != axis)
        if size >= 2 and e.g.size // size >= 3 and _proportional(e, others):
            return Cause("factor", f"each slice of axis {axis} is off by a factor of its own")
    for axis, size in enumerate(e.g.shape):
        if size >= 3 and _proportional(e, (axis,)):
            return Cause("factor", f"each line along axis {axis} is off by a factor of its own")
    return None


def _proportional(e: Evidence, axes: tuple[int, ...]) -> bool:
    """Whether g is n times a factor that is constant along these axes."""
    telling = _telling(e.n)
    if telling.sum() < telling.any(axes).sum() + 2:  # each number may have its factor
        return False
    squares = (e.n * e.n).sum(axes, keepdims=True)
    products = (e.g * e.n).sum(axes, keepdims=True)
    factor = np.divide(products, squares, where=squares != 0, out=np.zeros_like(products))
    return e.alike(e.g, factor * e.n)


def _mean_term(e: Evidence) -> Cause | None:
    difference = e.g - e.n
    others = {
        name: a
        for name, a in e.given.items()
        if a.dtype.kind == "f" and a.shape == e.g.shape and not name.startswith("dy")
    }
    bases: dict[str, list[Array]] = {"a constant": [np.ones_like(difference)]}
    bases |= {f"a multiple of {name}": [a] for name, a in others.items()}
    bases |= {
        f"a constant and a multiple of {name}": [np.ones_like(difference), a]
        for name, a in others.items()
    }
    telling = _telling(difference)
    constant = np.full_like(difference, difference.mean())
    if difference.ndim > 1 and difference.size > 3 and e.alike(constant, difference):
        text = "it is off by one constant everywhere: a mean over the whole array is missing"
        return Cause("mean_term", f"{text} or wrong")
    for axis in range(difference.ndim):
        lines = telling.any(axis=axis).sum()
        for label, basis in bases.items():
            if telling.sum() < lines * len(basis) + 2 or difference.shape[axis] < len(basis) + 2:
                continue
            if e.alike(_projected(difference, basis, axis), difference):
                return Cause(
                    "mean_term",
                    f"along axis {axis} it is off by {label}: the term that couples the elements, "
                    "a sum or a mean over that axis, is missing or wrong",
                )
    return None


def _projected(target: Array, basis: list[Array], axis: int) -> Array:
    """Return the least-squares fit of each line along an axis by the lines of the basis."""
    lines = np.moveaxis(target, axis, -1)
    columns = np.stack([np.moveaxis(b, axis, -1) for b in basis], axis=-1)
    fitted = (columns @ (np.linalg.pinv(columns) @ lines[..., None]))[..., 0]
    return np.moveaxis(fitted, -1, axis)


def _telling(a: Array) -> Array:
    """Return which numbers are large enough to confirm what was fitted to the largest."""
    return np.abs(a) > 1e-3 * np.abs(a).max(initial=0)


def _where(e: Evidence) -> tuple[Cause, Evidence] | None:
    """Return the slices along one axis that hold all that is wrong, and the evidence in them."""
    off = np.abs(e.g - e.n) > e.wrong
    best: tuple[float, int, Array] | None = None
    for axis in range(off.ndim):
        bad = off.any(axis=tuple(k for k in range(off.ndim) if k != axis))
        share = bad.mean()
        if share < 1 and (best is None or share < best[0]):
            best = (share, axis, bad)
    if best is None:
        return None
    _, axis, bad = best
    part = _restricted(e, axis, np.flatnonzero(bad))
    repeated = _repeated_rows(e, axis)
    wrong, right, size = np.flatnonzero(bad), np.flatnonzero(~bad), len(bad)
    dropped = repeated is not None and set(wrong) == set(repeated[1]) and part.n.any()
    if dropped and repeated is not None and not _one_factor(part):
        text = (
            f"rows {_runs(list(wrong))} are wrong, all of them ids that occur more than once in "
            f"{repeated[0]}: add up what comes back from each"
        )
        return Cause("repeated_ids", text), part
    for verdict, indices in (("wrong", wrong.tolist()), ("right", right.tolist())):
        for step, index in (("first", 0), ("last", size - 1)):
            if size > 2 and indices == [index]:
                text = f"it is {verdict} at index {index} of axis {axis} only: the {step} step"
                return Cause(f"{step}_step", f"{text}, if that axis is time"), part
    text = f"it is wrong at {_runs(list(wrong))} of axis {axis}, and right at the rest"
    return Cause("slices", text), part


def _one_factor(e: Evidence) -> bool:
    """Whether g is n times one number that no averaging explains: 0, or negative, or above 1."""
    squares = np.sum(e.n * e.n)
    c = float(np.sum(e.g * e.n) / squares) if squares else 0.0
    return not 0 < c < 1 and (not e.g.any() or e.alike(e.g, c * e.n))


def _scattered(e: Evidence) -> tuple[Cause, ...]:
    count = int(np.count_nonzero(np.abs(e.g - e.n) > e.wrong))
    if not e.whole or count == e.g.size:
        return ()
    return (Cause("elements", f"{count} of {e.g.size} elements are wrong"),)


def _repeated_rows(e: Evidence, axis: int) -> tuple[str, list[int]] | None:
    if axis != 0 or e.g.ndim != 2:
        return None
    for name, ids in e.given.items():
        if ids.dtype.kind in "iu" and ids.size and ids.min() >= 0 and ids.max() < len(e.g):
            repeated = [int(i) for i, times in Counter(ids.ravel().tolist()).items() if times > 1]
            if repeated:
                return name, repeated
    return None


def _restricted(e: Evidence, axis: int, index: Array) -> Evidence:
    def cut(a: Array) -> Array:
        return np.take(a, index, axis) if a.shape == e.g.shape else a

    given = {name: cut(a) for name, a in e.given.items()}
    return Evidence(e.name, cut(e.g), cut(e.n), e.wrong, e.whole, given, e.sizes, e.same)


def _in_slices(off: Array) -> bool:
    """Whether what is off fills whole slices along some axis, and leaves others alone."""
    for axis in range(off.ndim):
        lines = np.moveaxis(off, axis, 0).reshape(off.shape[axis], -1)
        if 0 < lines.all(axis=1).sum() < len(lines) and (lines.all(1) == lines.any(1)).all():
            return True
    return False


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether a shape broadcasts to the target."""
    if len(shape) > len(target):
        return False
    return all(s in (1, t) for s, t in zip(reversed(shape), reversed(target), strict=False))


def _slice(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def _runs(numbers: list[int]) -> str:
    """Return numbers as ranges.

    >>> _runs([0, 1, 2, 7, 9, 10])
    '0-2, 7, 9-10'
    """
    pieces: list[list[int]] = []
    for number in map(int, numbers):
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in pieces)
