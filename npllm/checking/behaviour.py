"""How a forward and its backward behave, whatever their numbers.

A gradient can be right in the first call and wrong in the second, or right for the cotangent that
the check drew and wrong for another. So the pair is called the way training calls it: again and
again, at other points in between, with cotangents of another size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from npllm.checking.pair import Gradients, Pair, copied, is_float
from npllm.checking.report import Cause
from npllm.checking.trees import Array, leaves, map_leaves

FINDINGS = (
    "accumulated",
    "aliased",
    "argument_added",
    "clipped",
    "float32",
    "mutated_cache",
    "mutated_dy",
    "mutated_input",
    "nonlinear",
    "random",
    "stale",
)

# Exact in binary, so a backward that is linear in dy commutes with it to the last bit, or nearly;
# large, so that a clip bites; negative, so that a test of dy's sign shows.
SCALE = -(2.0**20)
CALLS = 3  # of the backward: two tell that something changed, three tell whether it adds up


class Behaviour(NamedTuple):
    """What came of the calls.

    Attributes:
        gradients: at the pair's arguments; None where the forward draws at random: there is
            nothing to compare them with.
        earlier: what the cache of the call before gives; None where there was none.
        found: what is wrong.
    """

    gradients: Gradients | None
    earlier: Gradients | None
    found: list[Cause]


class Elsewhere(NamedTuple):
    """A call at a point nearby, made before all others: what a layer keeps from it shows later."""

    args: list[object]
    y: object
    cache: object


def elsewhere(pair: Pair) -> Elsewhere | None:
    """Run the pair at a point nearby; None where that is outside the layer's domain."""
    rng = np.random.default_rng(1)
    share = max(1e-4, 2**16 * pair.eps)  # well above what two calls may differ by

    def moved(a: Array) -> Array:
        if not is_float(a):
            return a
        # by a share of each number, which keeps its sign; zeros alone would not move at all
        by = share * rng.uniform(-1, 1, a.shape)
        return (a * (1 + by) if a.any() else a + by).astype(a.dtype)

    args = map_leaves(moved, pair.args)
    try:
        return Elsewhere(args, *pair.run(args))
    except Exception:  # however the layer says so
        return None


def behaviour(pair: Pair, dy: object, before: Elsewhere | None, tolerance: float) -> Behaviour:
    """Call the pair as training would, and see what comes of it.

    Args:
        pair: what is checked.
        dy: the cotangent, with the structure of y.
        before: the call before.
        tolerance: relative; two results that differ by more are different.
    """
    _go_back(pair, dy, before)
    args = map_leaves(np.copy, pair.args)
    y, cache = pair.run_on(args)
    found = _written(pair.all_leaves(), dict(_named(pair, args)), "forward")
    found += _shared({"y": y}, dict(_named(pair, args)))
    again, _ = pair.run(pair.args)
    if not _equal_trees(y, again, tolerance):
        found.append(
            Cause(
                "random",
                "the forward is not deterministic: the same arguments gave another y; a layer "
                "that draws at random must draw the same each time, from a Generator made inside",
            )
        )
        return Behaviour(None, None, found)
    given, shown = map_leaves(np.copy, dy), map_leaves(np.copy, y)
    held = {name: a.copy() for name, a in _named(pair, args)}
    raw = pair.backward(given, cache)
    gradients = copied(pair.gradients_of(raw))
    if not _equal_trees(given, dy, 0.0):
        found.append(Cause("mutated_dy", "the backward wrote to dy, which is its caller's"))
        given = map_leaves(np.copy, dy)
    if not _equal_trees(y, shown, 0.0):
        found.append(Cause("mutated_input", "the backward wrote to y, which is its caller's"))
    found += _written(held, dict(_named(pair, args)), "backward")
    owned = {**dict(_named(pair, args)), "dy": given, "y": y}
    found += _shared({f"the gradient of {n}": g for n, g in pair.gradients_of(raw).items()}, owned)
    results = [gradients]
    for _ in range(CALLS - 1):
        _, cache = pair.run(pair.args)
        results.append(pair.gradients(dy, cache))
    if not _equal(results[0], results[1], tolerance):
        each = _less(results[2], results[1])
        if not _equal(_less(results[1], results[0]), each, 1e-6):
            text = "the same call gave another gradient the second time"
            return Behaviour(gradients, None, [*found, Cause("random", text)])
        text = (
            "the gradient accumulates across calls: each call adds to what the one before "
            "returned; clear it, or return a fresh array"
        )
        for name, g in gradients.items():  # what does not accumulate stays as it is
            if _equal({name: results[0][name]}, {name: results[1][name]}, tolerance):
                each[name] = g
        return Behaviour(each, None, [*found, Cause("accumulated", text)])
    found += _same_cache_again(pair, dy, gradients, tolerance)
    floating = all(g is None or is_float(g) for g in gradients.values())
    if floating:  # what is cut to integers is not linear either, and is told apart
        nonlinear = _nonlinear(pair, dy, gradients, tolerance)
        written = any(f.key.startswith("mutated") for f in found)
        found += [f for f in nonlinear if f.key != "nonlinear" or not written]
    earlier = None
    if before is not None:
        found += _stale(pair, dy, gradients, before, tolerance)
        try:
            earlier = pair.gradients(dy, before.cache)
        except Exception:  # a cache that serves once
            earlier = None
    return Behaviour(gradients, earlier, found)


def _go_back(pair: Pair, dy: object, before: Elsewhere | None) -> None:
    """Call the backward at the point nearby first: what it keeps of its first call shows later."""
    if before is not None:
        _, cache = pair.run(before.args)
        try:
            pair.backward(map_leaves(np.copy, dy), cache)
        except Exception:  # a y of another shape, say
            return


def _same_cache_again(pair: Pair, dy: object, first: Gradients, tolerance: float) -> list[Cause]:
    _, cache = pair.run(pair.args)
    try:
        results = [pair.gradients(dy, cache) for _ in range(CALLS)]
    except Exception:  # a cache that serves once and says so is no mistake
        return []
    if not _equal(results[0], first, tolerance) or _equal(results[0], results[1], tolerance):
        return []
    again = _less(results[1], results[0])
    if _equal(again, _less(results[2], results[1]), 1e-6) and _equal(again, first, 1e-6):
        text = "the gradient accumulates in the cache: a second backward from it adds to the first"
        return [Cause("accumulated", text)]
    text = "the backward writes to its cache: a second backward from it gives another gradient"
    return [Cause("mutated_cache", text)]


def _stale(
    pair: Pair, dy: object, first: Gradients, before: Elsewhere, tolerance: float
) -> list[Cause]:
    _, cache = pair.run(pair.args)
    pair.run(before.args)
    late = pair.gradients(dy, cache)
    if _equal(first, late, tolerance):
        return []
    text = "the backward uses what the latest forward left behind, not the cache it is given"
    return [Cause("stale", text)]


def _nonlinear(pair: Pair, dy: object, first: Gradients, tolerance: float) -> list[Cause]:
    """Compare what dy times a number gives with the number times what dy gives."""
    tolerance = max(tolerance, 1e-9)
    scaled, nothing = (_of_scaled(pair, dy, factor) for factor in (SCALE, 0.0))
    expected = {name: None if g is None else SCALE * g for name, g in first.items()}
    if _equal(scaled, expected, tolerance):
        return []
    arrays = pair.all_leaves()
    found = []
    for name, g in nothing.items():
        if g is not None and g.any():
            x = arrays[name]
            # one number is a multiple of any other, and a constant of any constant
            varied = g.shape == x.shape and np.ptp(x) > 0
            c = float(np.sum(g * x) / np.sum(x * x)) if varied else 0.0
            itself = c != 0 and _close(g, c * x, 1e-6)
            what = f"{c:.6g} times {name} itself" if itself else "something that is no gradient"
            key = "argument_added" if itself else "nonlinear"
            text = f"the gradient of {name} is not zero where dy is: {what} is added to it"
            found.append(Cause(key, text))
    for name, g in scaled.items():
        want = expected[name]
        if nothing[name] is None or np.any(nothing[name]) or g is None or want is None:
            continue
        if (limit := clip_limit(g, want)) is not None:
            text = f"the gradient of {name} is clipped to {limit:.6g} inside the backward"
            found.append(Cause("clipped", f"{text}: clip outside it"))
        elif (share := _shrunk(g, want)) is not None:
            text = f"with 2^20 dy the gradient of {name} is {share:.1e} of what it must be"
            found.append(Cause("clipped", f"{text}: a norm is clipped inside the backward"))
    return found or [
        Cause(
            "nonlinear",
            "the backward is not linear in dy: -2^20 dy does not give -2^20 times the gradient; "
            "something is clipped, or looks at dy's sign",
        )
    ]


def _shrunk(gradient: Array, expected: Array) -> float | None:
    """Return c < 1 where the gradient is c times what was expected; else None."""
    if not expected.any():
        return None
    c = float(np.sum(gradient * expected) / np.sum(expected * expected))
    return c if 0 < c < 0.99 and _close(gradient, c * expected, 1e-6) else None


def _of_scaled(pair: Pair, dy: object, factor: float) -> Gradients:
    _, cache = pair.run(pair.args)
    scaled = map_leaves(lambda a: factor * a if is_float(a) else a.copy(), dy)
    return pair.gradients(scaled, cache)


def clip_limit(gradient: Array, expected: Array | None) -> float | None:
    """Return c where the gradient is what was expected, cut to [-c, c]; else None."""
    if expected is None or not gradient.size or not np.isfinite(gradient).all():
        return None
    limit = float(np.abs(gradient).max())
    if limit == 0 or limit >= 0.99 * np.abs(expected).max():
        return None
    clipped = np.clip(expected, -limit, limit)
    return limit if np.allclose(gradient, clipped, rtol=1e-6, atol=1e-6 * limit) else None


def _written(before: dict[str, Array], after: dict[str, Array], who: str) -> list[Cause]:
    return [
        Cause("mutated_input", f"the {who} wrote to its argument {name}")
        for name, a in before.items()
        if not np.array_equal(a, after[name], equal_nan=is_float(a))
    ]


def _shared(returned: Mapping[str, object], owned: Mapping[str, object]) -> list[Cause]:
    """Name what came back in the memory of something that the caller owns, or of each other."""
    owners = [(label, a) for name, tree in owned.items() for label, a in leaves(tree, name)]
    found = []
    for name, tree in returned.items():
        for label, array in leaves(tree, name):
            for owner, other in owners:
                if _overlap(array, other):
                    text = f"{label} shares its memory with {owner}: who changes one changes both"
                    found.append(Cause("aliased", text))
                    break
            owners.append((label, array))
    return found


def _overlap(a: Array, b: Array) -> bool:
    try:
        return bool(np.shares_memory(a, b, max_work=10**5))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:  # two strided views whose bounds overlap
        return True


def _named(pair: Pair, args: list[object]) -> list[tuple[str, Array]]:
    pairs = zip(pair.names, args, strict=True)
    return [item for name, arg in pairs for item in leaves(arg, name)]


def _less(a: Gradients, b: Gradients) -> Gradients:
    return {
        name: None if g is None or (other := b[name]) is None else _difference(g, other)
        for name, g in a.items()
    }


def _difference(a: Array, b: Array) -> Array:
    return a - b if a.shape == b.shape else np.full(a.shape, np.nan)


def _equal(a: Gradients, b: Gradients, tolerance: float) -> bool:
    return all(
        (g is None) == ((other := b[name]) is None)
        and (g is None or other is None or _close(g, other, tolerance))
        for name, g in a.items()
    )


def _equal_trees(a: object, b: object, tolerance: float) -> bool:
    pairs = zip(leaves(a), leaves(b), strict=True)
    return all(_close(one, other, tolerance) for (_, one), (_, other) in pairs)


def _close(a: Array, b: Array, tolerance: float) -> bool:
    """Whether two arrays are equal, relative to the largest number in them; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fc" or tolerance == 0:
        return np.array_equal(a, b, equal_nan=is_float(a))
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.abs(b[np.isfinite(b)])
    limit = tolerance * float(finite.max(initial=0))
    with np.errstate(invalid="ignore"):
        return bool(np.all(alike | (np.abs(a - b) <= limit)))
