"""The same pair at other points: what is rounding there is another number, a mistake is a mistake.

From outside nobody sees what a layer subtracts. A saturated gate has a derivative of 1e-10 as the
difference of two numbers near 1, of which a few digits remain; in a softmax that is sure of itself
nearly all cancels. Other points tell such an error from a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npllm.checking.methods import DERIVATIVES, ROUNDING, Method, precision_of
from npllm.checking.pair import Direction, Pair, Probe, is_float, product
from npllm.checking.trees import Array, map_leaves

# How far the arguments shrink to find a point where nothing is saturated.
GENTLER = tuple(2.0**-n for n in (1, 2, 3, 4, 6, 9))
# What remains of a layer's intermediate numbers, in units of eps, where they cancel.
CANCELLED = 2**9


class Neighbourhood:
    """A pair and its cotangent, at other arguments."""

    def __init__(self, pair: Pair, v: list[Array], dy: Any, limits: Mapping[Method, float]) -> None:
        self.pair, self.v, self.dy, self.limits = pair, v, dy, limits
        self.steps = precision_of(pair.dtype).steps

    def at(
        self, args: list[Any], method: Method, name: str, directions: Sequence[Direction]
    ) -> tuple[Array, Array]:
        """Return what the backward claims of the directions at other arguments, and the method."""
        there = self.pair.at(args)
        _, cache = there.run(there.args)
        claim = there.gradients(map_leaves(np.copy, self.dy), cache)[name]
        if claim is None or claim.shape != there.leaves[name].shape:
            raise ValueError(f"there is no gradient of {name} there")
        probe = Probe(there, self.v, "complex" if method == "complex" else "real")
        lines = [probe.line(name, direction) for direction in directions]
        numeric = np.array([DERIVATIVES[method](x, self.steps[method]).value for x in lines])
        return np.array([product(claim, direction) for direction in directions]), numeric

    def right_when_gentler(
        self, method: Method, name: str, directions: Sequence[Direction], off: float
    ) -> bool:
        """Whether the gradient is right at smaller arguments, and ``off`` is rounding there.

        Args:
            method: which numeric derivative to ask.
            name: of the argument.
            directions: to compare in.
            off: by how much the gradient is wrong here.
        """
        smallest = 1.0 if method == "complex" else self.steps[method] / 2
        share = (CANCELLED if method == "complex" else ROUNDING) * self.pair.eps / smallest
        for factor in GENTLER:
            args = map_leaves(
                lambda a, by=factor: by * a if is_float(a) else a,  # type: ignore[misc]
                self.pair.args,
            )
            try:
                claimed, numeric = self.at(args, method, name, directions)
            except Exception:  # a point outside the layer's domain tells nothing
                continue
            scale = float(np.abs(numeric).max(initial=0))
            right = np.abs(claimed - numeric).max(initial=0) <= self.limits[method] * scale
            if scale and right and off <= share * scale:
                return True
        return False

    def holds(self, name: str, directions: Sequence[Direction], numeric: Array) -> bool:
        """Whether the complex step gives nearly the same nearby: small, but no rounding."""
        rng, largest = np.random.default_rng(4), float(np.abs(numeric).max())
        for _ in range(2):
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


def _nudged(args: list[Any], rng: np.random.Generator) -> list[Any]:
    """Return the arguments moved by a millionth."""
    return list(
        map_leaves(
            lambda a: a * (1 + 1e-6 * rng.uniform(-1, 1, a.shape)) if is_float(a) else a, args
        )
    )
