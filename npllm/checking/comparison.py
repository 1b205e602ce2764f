"""One argument's gradient beside its numeric derivatives: how far apart, where, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from npllm.checking.behaviour import Behaviour, Elsewhere
from npllm.checking.diagnosis import Evidence, diagnose
from npllm.checking.methods import (
    DERIVATIVES,
    LEVELS,
    NAMES,
    ROUNDING,
    Estimate,
    Method,
    mass_of,
    precision_of,
)
from npllm.checking.neighbourhood import CANCELLED, GENTLER, Neighbourhood
from npllm.checking.pair import Direction, Kind, Pair, Probe, drawn, is_float, product
from npllm.checking.report import ArgumentReport, Cause, Comparison
from npllm.checking.trees import Array, leaves

# An error this small can be rounding to single precision, or a small constant.
NEAR = 1e-4
# An error this large, of the largest gradient, is not that of a step.
GROSS = 1e-3
# How many places of a slice are tried before it is called wrong as a whole.
TRIED = 8


class ArgumentCheck:
    """All that is needed to compare one argument after the other."""

    def __init__(
        self,
        pair: Pair,
        probes: Mapping[Kind, Probe],
        methods: Sequence[Method],
        limits: Mapping[Method, float],
        y: object,
        dy: object,
        sizes: Mapping[float, str],
        before: Elsewhere | None,
        result: Behaviour,
    ) -> None:
        self.before, self.gradients, self.earlier = before, result.gradients, result.earlier
        self.dy = dy
        claims = [g[np.isfinite(g)] for g in (result.gradients or {}).values() if g is not None]
        self.largest = max((float(np.abs(g).max(initial=0)) for g in claims), default=0.0)
        self.pair, self.methods, self.limits, self.sizes = pair, methods, limits, sizes
        self.real, self.v = probes["real"], probes["real"].v
        self.probes = {m: probes["complex" if m == "complex" else "real"] for m in methods}
        self.steps = precision_of(pair.dtype).steps
        self.nearby = Neighbourhood(pair, self.v, dy, limits)
        self.background = 0.0
        # the background of an argument that moves all outputs
        self.whole = ROUNDING * pair.eps * mass_of(self.v, [a for _, a in leaves(y)])
        # a result that is rounded more coarsely than the arguments has corners everywhere
        self.coarse = any(
            is_float(a) and a.dtype.itemsize < pair.dtype.itemsize for _, a in leaves(y)
        )
        self.given = {**pair.all_leaves(), **dict(leaves(y, "y")), **dict(leaves(dy, "dy"))}

    def report(self, name: str, directions: list[Direction]) -> ArgumentReport:
        """Compare one argument's gradient by every method, and say why where it is wrong."""
        x = self.pair.leaves[name]
        gradient = (self.gradients or {}).get(name)
        if gradient is None:
            missing = Cause("missing", "the backward returned no gradient for it")
            return ArgumentReport(name, x.shape, causes=(missing,))
        if gradient.shape != x.shape:
            return ArgumentReport(name, x.shape, causes=(_misshapen(gradient, x),))
        gradient = np.asarray(gradient)
        if gradient.dtype.kind != "f":
            text = f"its gradient must be real floating numbers, got {gradient.dtype}"
            kind = Cause("dtype", text)
            return ArgumentReport(name, x.shape, causes=(kind,))
        # where what the argument moves is this large, a derivative below this is zero
        self.background = ROUNDING * self.pair.eps * self._moved_mass(name)
        results = [self._compare(m, name, gradient, directions) for m in self.methods]
        comparisons = tuple(c for c, _, _ in results)
        comparisons = self._seen(comparisons, [numeric for _, numeric, _ in results])
        if all(c.passed for c in comparisons):
            if self._right_here_only(name, gradient, comparisons):
                text = (
                    "it is right here and wrong nearby: the backward uses something of its own in "
                    "place of an argument or of its cache"
                )
                failed = tuple(replace(c, error=np.inf) for c in comparisons)
                return ArgumentReport(name, x.shape, failed, (Cause("stale", text),))
            zero = bool(x.size) and all(zero for _, _, zero in results)
            return ArgumentReport(name, x.shape, comparisons, structural_zero=zero)
        # the numbers of the most precise method tell most
        precise = min(range(len(results)), key=lambda k: self.limits[self.methods[k]])
        comparisons, causes = self._explained(
            name, gradient, directions, comparisons, precise, results[precise][1]
        )
        return ArgumentReport(name, x.shape, comparisons, causes)

    def _seen(
        self, comparisons: tuple[Comparison, ...], numeric: list[Array]
    ) -> tuple[Comparison, ...]:
        """Let the complex step decide where a difference sees nothing move at all."""
        decided = any(
            c.passed and m == "complex" for c, m in zip(comparisons, self.methods, strict=True)
        )
        return tuple(
            replace(c, rounding=c.error) if decided and not (c.passed or n.any()) else c
            for c, n in zip(comparisons, numeric, strict=True)
        )

    def _right_here_only(
        self, name: str, gradient: Array, comparisons: tuple[Comparison, ...]
    ) -> bool:
        """Whether a gradient that is right to the last digits is wrong at the point before."""
        earlier = None if self.earlier is None else self.earlier.get(name)
        pairs = zip(self.methods, comparisons, strict=True)
        exact = [method for method, c in pairs if c.error <= c.tolerance]
        if self.before is None or earlier is None or not exact or earlier.shape != gradient.shape:
            return False
        method = min(exact, key=lambda m: self.limits[m])
        probe = Probe(self.pair.at(self.before.args), self.v, self.probes[method].kind)
        try:
            numeric = DERIVATIVES[method](probe.line(name, 0), self.steps[method])
        except Exception:  # the step left the domain of the forward
            return False
        off = abs(product(earlier, 0) - numeric.value)
        limit = math.sqrt(self.limits[method]) * max(_norm(earlier), abs(numeric.value))
        limit += self._out_of_sight(method, name, gradient, [0], np.ones(1))
        # and what remains where all of it cancels
        limit += CANCELLED * self.pair.eps * self.nearby.uncancelled(name)
        return bool(off > limit)

    def _compare(
        self, method: Method, name: str, gradient: Array, directions: list[Direction]
    ) -> tuple[Comparison, Array, bool]:
        """Return the worst direction, every numeric derivative, and whether all of it is zero."""
        limit = self.limits[method]
        if not directions:
            return Comparison(NAMES[method], 0.0, limit, 0.0, None, 0.0, 0.0, 0), np.zeros(0), False
        estimates = [self._derivative(method, name, d) for d in directions]
        numeric, rounding = np.array([e[:2] for e in estimates]).T
        floor = float(rounding.max(initial=0))
        # below this a derivative is zero but for rounding; unless the complex step says otherwise
        background = self.background
        if method == "complex" and np.abs(numeric).max() <= self.whole:
            # of terms that cancel little may be left to be seen moving, or nothing
            small = numeric.any() and self.nearby.holds(name, directions, numeric)
            background = 0.0 if small else self.whole
        comparison, zero = self._worst(method, gradient, directions, numeric, floor, background)
        if not comparison.passed and method == "central":
            floor = self._extrapolate(name, gradient, directions, numeric, floor)
            comparison, zero = self._worst(method, gradient, directions, numeric, floor, background)
        if not comparison.passed:
            # and ask what rounding on the way, out of sight, can have made of it
            floor = max(floor, self._out_of_sight(method, name, gradient, directions, numeric))
            hidden, hidden_zero = self._worst(
                method, gradient, directions, numeric, floor, background
            )
            legible = comparison.error <= math.sqrt(self.limits[method])  # half of the digits
            if hidden.passed and (legible or method != "complex"):
                return hidden, numeric, hidden_zero
            analytic = np.array([product(gradient, d) for d in directions])
            off = abs(comparison.analytic - comparison.numeric)
            known = (method, name, directions)
            worst = int(np.argmax(np.abs(analytic - numeric)))
            if self.nearby.right_when_gentler(*known, worst, off) or (
                legible
                and self.nearby.right_when_gentler(*known, worst, 0.0, GENTLER)
                and self.nearby.steadiness(*known, analytic - numeric) < 0.5
            ):
                comparison = replace(comparison, rounding=comparison.error)
        return comparison, numeric, zero

    def _extrapolate(
        self,
        name: str,
        gradient: Array,
        directions: list[Direction],
        numeric: Array,
        floor: float,
    ) -> float:
        """Take the step's own error out of central differences, in place; return their rounding.

        It is done before the gradient is blamed, in the worst direction first: where that stays
        far off, it is not the step's, and the other directions are of no help.
        """
        probe, h = self.probes["central"], self.steps["central"]
        analytic = np.array([product(gradient, direction) for direction in directions])
        largest = max(np.abs(analytic).max(), np.abs(numeric).max())
        of_halves = 4 * floor  # half the step has twice the rounding
        gross = max(GROSS, self.limits["central"]) * largest + of_halves
        for k in np.argsort(-np.abs(analytic - numeric)):
            half = DERIVATIVES["central"](probe.line(name, directions[k]), h / 2)
            numeric[k] = (4 * half.value - numeric[k]) / 3
            floor = max(floor, 2 * half.rounding)
            if not abs(analytic[k] - numeric[k]) <= gross:
                return max(floor, of_halves)
        return floor

    def _worst(
        self,
        method: Method,
        gradient: Array,
        directions: list[Direction],
        numeric: Array,
        floor: float,
        background: float,
    ) -> tuple[Comparison, bool]:
        analytic = np.array([product(gradient, d) for d in directions], np.float64)
        element = np.array([isinstance(d, tuple) for d in directions], bool)
        # an element is measured by the largest of them, a product with the gradient by its norm
        sound = gradient[np.isfinite(gradient)]
        largest = max(np.abs(sound).max(initial=0), np.abs(numeric[element]).max(initial=0))
        norm = np.maximum(_norm(sound), np.abs(numeric))
        scale = np.where(element, largest, norm)
        # so it is zero in exact arithmetic
        zero = bool(largest <= max(floor, background) and sound.size == gradient.size)
        if zero:
            floor, scale = max(floor, background), np.ones_like(scale)
        difference = np.abs(analytic - numeric)
        error = np.divide(difference, scale, where=scale != 0, out=difference.copy())
        worst = int(np.argmax(error))  # NaN counts as the largest
        direction = directions[worst]
        comparison = Comparison(
            method=NAMES[method],
            error=0.0 if zero else float(error[worst]),
            tolerance=self.limits[method],
            rounding=float(floor / scale[worst]) if scale[worst] else 0.0,
            index=direction if isinstance(direction, tuple) else None,
            analytic=float(analytic[worst]),
            numeric=float(numeric[worst]),
            checked=len(directions),
        )
        return comparison, zero

    def _moved_mass(self, name: str) -> float:
        """Return the sum of |v y| over the outputs that the argument moves.

        A saturated output moves by less than its last place: only the complex step sees that.
        """
        complex_step = self.probes.get("complex")
        try:
            here = self.real.line(name, 0).outputs(0.0)
            if complex_step is None:
                there = self.real.line(name, 0).outputs(self.steps["central"])
                moves = [a != b for a, b in zip(here, there, strict=True)]
            else:
                there = complex_step.line(name, 0).outputs(1j * self.steps["complex"])
                moves = [y.imag != 0 for y in there]
        except Exception:  # the step left the domain of the forward
            return 0.0
        moved = [np.where(move, v, 0) for v, move in zip(self.v, moves, strict=True)]
        return mass_of(moved, here)

    def _out_of_sight(
        self,
        method: Method,
        name: str,
        gradient: Array,
        directions: Sequence[Direction],
        numeric: Array,
    ) -> float:
        """Return an error that rounding inside the layer explains.

        What is small beside the other arguments' gradients is right to rounding of those, and a
        difference of outputs to rounding of the whole loss. And the step itself is rounded: x + h
        is a number near x.
        """
        floor = self.largest * ROUNDING * self.pair.eps
        if method != "complex":
            smallest = self.steps[method] / (2 ** (LEVELS - 1) if method == "richardson" else 2)
            floor += self.background / smallest
            x = self.pair.leaves[name]
            some = np.isfinite(x) & np.isfinite(gradient)
            terms = np.multiply(x, gradient, where=some, out=np.zeros(x.shape))
            moved = [
                abs(x[d] * n) if isinstance(d, tuple) else _norm(terms)
                for d, n in zip(directions, numeric, strict=True)
                if n != 0
            ]
            floor += self.pair.eps / smallest * float(np.max(moved, initial=0))
        return floor

    def _derivative(self, method: Method, name: str, direction: Direction) -> Estimate:
        line = self.probes[method].line(name, direction)
        try:
            return DERIVATIVES[method](line, self.steps[method])
        except Exception as error:
            at = f"at {list(direction)}" if isinstance(direction, tuple) else "in some direction"
            raise ValueError(
                f"the forward fails a step of {self.steps[method]:.0e} away from {name} {at} "
                f"({type(error).__name__}: {error}): move the point off the edge of its domain"
            ) from error

    def _explained(
        self,
        name: str,
        gradient: Array,
        directions: list[Direction],
        comparisons: tuple[Comparison, ...],
        precise: int,
        numeric: Array,
    ) -> tuple[tuple[Comparison, ...], tuple[Cause, ...]]:
        worst = comparisons[precise]
        method = self.methods[precise]
        elements = [d for d in directions if isinstance(d, tuple)]
        whole = len(elements) == gradient.size
        if not np.isfinite(gradient).all():
            count = int(np.count_nonzero(~np.isfinite(gradient)))
            text = f"{count} of {gradient.size} elements are not finite numbers"
            return comparisons, (Cause("nan", text),)
        if worst.passed:  # only a coarser method objects
            failed = next(c for c in comparisons if not c.passed)
            return comparisons, tuple(self._kink(name, failed, self.steps[_key(failed.method)]))
        if not whole and np.isfinite(gradient).all():
            worst = self._located(method, name, gradient, worst)
            comparisons = (*comparisons[:precise], worst, *comparisons[precise + 1 :])
        known = self._kink(name, worst, self.steps["central"])
        sampled = np.array([gradient[d] for d in elements])
        derived = numeric[: len(elements)]
        known = known or self._earlier(method, name, gradient, elements, derived)
        if known:
            return comparisons, tuple(known)
        scale = max(np.abs(derived).max(initial=0), np.abs(sampled).max(initial=0))
        evidence = Evidence(
            name,
            gradient if whole else sampled,
            derived.reshape(gradient.shape) if whole else derived,
            max(worst.tolerance, worst.rounding) * float(scale),
            whole,
            self.given,
            self.sizes,
            max(1e-6, self.limits[method]),
            self.nearby.steadiness(method, name, elements, sampled - derived)
            if whole and worst.error < NEAR
            else None,
            {n: g for n, g in (self.gradients or {}).items() if n != name and g is not None},
        )
        causes = list(diagnose(evidence)) if elements else []
        if not whole and worst.index is not None and not causes:
            off = np.abs(sampled - derived) > evidence.wrong
            causes.append(self._slice(method, name, gradient, worst.index, np.array(elements), off))
        return comparisons, tuple(causes)

    def _slice(
        self,
        method: Method,
        name: str,
        gradient: Array,
        index: tuple[int, ...],
        elements: Array,
        off: Array,
    ) -> Cause:
        """Say whether all of a slice through the wrong element is wrong, and nothing beside it."""
        rng = np.random.default_rng(5)
        largest = float(np.abs(gradient).max())
        for axis, at in enumerate(index):
            outside = elements[:, axis] != at
            few = gradient.size < TRIED * gradient.shape[axis]
            if few or not outside.any() or off[outside].any():
                continue
            there = [tuple(map(int, rng.integers(gradient.shape))) for _ in range(TRIED)]
            there = [(*d[:axis], at, *d[axis + 1 :]) for d in there]
            numeric = np.array([self._derivative(method, name, d).value for d in there])
            claimed = np.array([gradient[d] for d in there])
            if (np.abs(claimed - numeric) > self.limits[method] * largest).all():
                return Cause(
                    "slices",
                    f"it is wrong at index {at} of axis {axis}: at each of {TRIED} places tried "
                    f"there, and at none of {outside.sum()} elsewhere",
                )
        return Cause(
            "elements",
            f"it is wrong at {list(index)}, and perhaps elsewhere: found by halving directions",
        )

    def _earlier(
        self,
        method: Method,
        name: str,
        gradient: Array,
        elements: Sequence[Direction],
        now: Array,
    ) -> list[Cause]:
        """See whether the gradient is wrong here, and right for the call before this one."""
        earlier = None if self.earlier is None else self.earlier.get(name)
        if self.before is None or earlier is None or not np.array_equal(earlier, gradient):
            return []
        then = self.pair.at(self.before.args)
        probe, step = Probe(then, self.v, self.probes[method].kind), self.steps[method]
        claimed = np.array([gradient[d] for d in elements])
        numeric = np.empty(len(elements))
        try:
            # the worst first: where it is far off the others cannot be right, see Neighbourhood
            for k in np.argsort(-np.abs(claimed - now)):
                numeric[k] = DERIVATIVES[method](probe.line(name, elements[k]), step).value
                if abs(claimed[k] - numeric[k]) > self.nearby.bound(method) * np.abs(claimed).max():
                    return []
        except Exception:  # the step left the domain of the forward
            return []
        limit = self.limits[method] * float(np.abs(numeric).max())
        if not np.abs(claimed - numeric).max() <= limit < np.abs(claimed - now).max():
            return []
        text = "it is the gradient of an earlier call, at other arguments: the cache is stale"
        return [Cause("stale", text)]

    def _kink(self, name: str, worst: Comparison, h: float) -> list[Cause]:
        """Look for a corner under the step: the slopes before and behind differ, at any step."""
        if worst.index is None or not np.isfinite(worst.analytic) or self.coarse:
            return []
        line = self.real.line(name, worst.index)

        def bend(h: float) -> float:
            outputs = zip(line.v, line.outputs(h), line.outputs(0.0), line.outputs(-h), strict=True)
            total = 0.0
            for v, a, b, c in outputs:
                if is_float(a):
                    moved = (a != b) | (b != c)
                    v, a, b, c = v[moved], a[moved], b[moved], c[moved]
                    total += float(np.sum(v * ((a - b) - (b - c))))
            return total / h

        off = abs(worst.analytic - worst.numeric)
        try:
            bends = abs(bend(h)), abs(bend(h / 8))
        except Exception:  # the step left the domain of the forward
            return []
        # of a smooth function both shrink with the step; of a corner at most one is spared
        if min(bends) > 0.5 * max(bends) and max(bends) > 0.5 * off:
            at = "at this very point"
        elif bends[1] <= 0.01 * bends[0] and bends[0] > 0.5 * off:
            at = "under the step"
        elif bends[1] > 4 * bends[0] > 2 * off:  # a jump over the step, ever steeper
            at = "or a jump at this very point"
        else:
            return []
        text = (
            f"the forward has a kink {at} (index {list(worst.index)}), where there is no one "
            "derivative to compare with: move the point away from it"
        )
        return [Cause("kink", text)]

    def _located(self, method: Method, name: str, gradient: Array, worst: Comparison) -> Comparison:
        """Halve the argument, following the half that is further off, down to one element."""
        flat, size = gradient.reshape(-1), gradient.size
        probe, x = self.probes[method], self.probes[method].leaves[name]
        start, stop = 0, size
        while stop - start > 1:
            middle = (start + stop) // 2
            errors = []
            for low, high in ((start, middle), (middle, stop)):
                d = np.zeros(size)
                d[low:high] = drawn(low, (high - low,))
                line = probe.along(name, d.reshape(x.shape))
                estimate = DERIVATIVES[method](line, self.steps[method])
                errors.append(abs(float(flat @ d) - estimate.value) - estimate.rounding)
            start, stop = (start, middle) if errors[0] >= errors[1] else (middle, stop)
        index = tuple(int(i) for i in np.unravel_index(start, gradient.shape))
        analytic = float(gradient[index])
        numeric = self._derivative(method, name, index).value
        largest = max(float(np.abs(gradient).max()), abs(numeric))
        error = abs(analytic - numeric) / largest if largest else 0.0
        if not error > max(worst.tolerance, worst.rounding):
            return worst
        return replace(worst, error=error, index=index, analytic=analytic, numeric=numeric)


def _misshapen(gradient: Array, x: Array) -> Cause:
    text = f"its gradient must have shape {x.shape}, got {gradient.shape}"
    if gradient.shape == x.shape[::-1]:
        return Cause("transposed", f"{text}: it is transposed")
    return Cause("shape", text)


def _norm(a: Array) -> float:
    """Return the Euclidean norm; no square in it overflows."""
    largest = float(np.abs(a).max(initial=0))
    return largest * float(np.linalg.norm(a / largest)) if largest else 0.0


def _key(name: str) -> Method:
    return next(key for key, label in NAMES.items() if label == name)
