"""The same pair at other points: what is rounding there is another number, a mistake is a mistake.

From outside nobody sees what a layer subtracts. A saturated gate has a derivative of 1e-10 as the
difference of two numbers near 1, of which a few digits remain; in a softmax that is sure of itself
nearly all cancels. Other points tell such an error from a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npllm.checking.methods import DERIVATIVES, ROUNDING, Method, mass_of, precision_of
from npllm.checking.pair import Direction, Gradients, Pair, Probe, is_float, product
from npllm.checking.trees import Array, leaves, map_leaves

# How far the arguments shrink to find a point where nothing is saturated.
GENTLER = tuple(2.0**-n for n in (1, 2, 3, 4, 6, 9))
# There even an RMS norm with an epsilon of 2e-16 is more than the sign of its argument.
GENTLEST = 2.0**-28
# How many points nearby are asked whether a derivative is small, or rounding.
NEARBY = 16
# What remains of a layer's intermediate numbers, in units of eps, where they cancel.
CANCELLED = 2**9


class Neighbourhood:
    """A pair and its cotangent, at other arguments."""

    def __init__(
        self, pair: Pair, v: list[Array], dy: object, limits: Mapping[Method, float]
    ) -> None:
        self.pair, self.v, self.dy, self.limits = pair, v, dy, limits
        self.steps = precision_of(pair.dtype).steps
        self._gentler: dict[float, tuple[Pair, Gradients]] = {}

    def at(
        self, args: list[object], method: Method, name: str, directions: Sequence[Direction]
    ) -> tuple[Array, Array]:
        """Return what the backward claims of the directions at other arguments, and the method."""
        there = self.pair.at(args)
        claimed = _claimed(self._gradients(there)[name], there.leaves[name], directions)
        return claimed, self._ask(there, method, name, directions)

    def _at_factor(self, factor: float) -> tuple[Pair, Gradients]:
        """Return the pair with its arguments times the factor, and what the backward claims."""
        if factor not in self._gentler:
            there = self.pair.at(
                map_leaves(lambda a: factor * a if is_float(a) else a, self.pair.args)
            )
            self._gentler[factor] = there, self._gradients(there)
        return self._gentler[factor]

    def _gradients(self, there: Pair) -> Gradients:
        """Return what the backward claims there."""
        _, cache = there.run(there.args)
        return there.gradients(self.dy, cache)

    def _ask(
        self, there: Pair, method: Method, name: str, directions: Sequence[Direction]
    ) -> Array:
        """Return what the method finds in the directions there."""
        probe = Probe(there, self.v, "complex" if method == "complex" else "real")
        lines = [probe.line(name, direction) for direction in directions]
        return np.array([DERIVATIVES[method](x, self.steps[method]).value for x in lines])

    def bound(self, method: Method) -> float:
        """Return L / (1 - L), see :meth:`right_when_gentler`."""
        limit = self.limits[method]
        return limit / (1 - limit) if limit < 1 else np.inf

    def uncancelled(self, name: str) -> float:
        """Return |v y| / |x|: about how large a gradient is of which nothing cancels."""
        y, _ = self.pair.run(self.pair.args)
        x = float(np.abs(self.pair.leaves[name]).max(initial=0))
        return mass_of(self.v, (a for _, a in leaves(y))) / x if x else 0.0

    def right_when_gentler(
        self,
        method: Method,
        name: str,
        directions: Sequence[Direction],
        worst: int,
        off: float,
        factors: Sequence[float] = (*GENTLER, GENTLEST),
    ) -> bool:
        """Whether the gradient is right at smaller arguments, and ``off`` is rounding there.

        It is right where no claim c is further than L max|n| from what the method finds, n, which
        is finite. Then max|n| <= max|c| + L max|n|, so max|n| <= max|c| / (1 - L): where ``off`` is
        more than rounding of that, nothing is asked. And no claim is further than
        L / (1 - L) max|c|: the direction that is worst here is asked first, and where it is further
        nothing else is.

        Args:
            method: which numeric derivative to ask.
            name: of the argument.
            directions: to compare in.
            worst: which of them is furthest off here.
            off: by how much the gradient is wrong here.
            factors: by which the arguments are multiplied.
        """
        smallest = 1.0 if method == "complex" else self.steps[method] / 2
        share = (CANCELLED if method == "complex" else ROUNDING) * self.pair.eps / smallest
        limit, bound = self.limits[method], self.bound(method)
        for factor in factors:
            try:
                there, gradients = self._at_factor(factor)
                claimed = _claimed(gradients[name], there.leaves[name], directions)
                largest = float(np.abs(claimed).max())
                if off > share * (1 + bound) * largest:
                    continue
                (first,) = self._ask(there, method, name, directions[worst : worst + 1])
                if abs(claimed[worst] - first) > bound * largest:
                    continue
                numeric = self._ask(there, method, name, directions)
            except Exception:  # a point outside the layer's domain tells nothing
                continue
            scale = float(np.abs(numeric).max())
            right = np.abs(claimed - numeric).max() <= limit * scale
            # so near to zero a gradient may be of any size, and excuses nothing by that
            largest = min(scale, self.uncancelled(name)) if factor == GENTLEST else scale
            if 0 < scale < np.inf and right and off <= share * largest:
                return True
        return False

    def holds(self, name: str, directions: Sequence[Direction], numeric: Array) -> bool:
        """Whether the complex step gives nearly the same nearby: small, but no rounding.

        What remains of terms that cancel is a few units of the last place, and may well be as many
        at a point nearby; at ``NEARBY`` of them it is not.
        """
        rng, largest = np.random.default_rng(4), float(np.abs(numeric).max())
        for _ in range(NEARBY):
            try:
                _, there = self.at(_nudged(self.pair.args, rng), "complex", name, directions)
            except Exception:  # a point outside the layer's domain tells nothing
                return False
            if not np.abs(there - numeric).max() <= 1e-3 * largest:
                return False
        return True

    def steadiness(
        self, method: Method, name: str, directions: Sequence[Direction], error: Array
    ) -> float:
        """Return the correlation of an error with that at points nearby.

        It is 0 for rounding, which is different everywhere, 1 for a mistake, and 0.5 where no point
        nearby tells.
        """
        rng, found = np.random.default_rng(3), []
        for _ in range(4):
            try:
                claimed, numeric = self.at(_nudged(self.pair.args, rng), method, name, directions)
            except Exception:  # a point outside the layer's domain tells nothing
                continue
            there = claimed - numeric
            norms = float(np.linalg.norm(error) * np.linalg.norm(there))
            found.append(float(error @ there) / norms if norms else 0.0)
        return float(np.mean(found)) if found else 0.5


def _claimed(claim: Array | None, x: Array, directions: Sequence[Direction]) -> Array:
    """Return what a gradient claims of the directions.

    Raises:
        ValueError: there is none, or not of x.
    """
    if claim is None or claim.shape != x.shape:
        raise ValueError("there is no gradient of it")
    return np.array([product(claim, direction) for direction in directions])


def _nudged(args: list[object], rng: np.random.Generator) -> list[object]:
    """Return the arguments moved by a millionth."""
    return list(
        map_leaves(
            lambda a: a * (1 + 1e-6 * rng.uniform(-1, 1, a.shape)) if is_float(a) else a, args
        )
    )
