"""Random arrays of any dtype, which nobody can write to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npllm.checking.trees import map_leaves
from npllm.layers.arrays import Array


class Source:
    """Random arrays; they are read-only, so that a layer that writes to its input fails.

    Args:
        seed: of the numbers.
        dtype: of all but ids and masks.
        scale: of the normal numbers.
    """

    def __init__(
        self, seed: int = 0, dtype: npt.DTypeLike = np.float64, scale: float = 1.0
    ) -> None:
        self.rng, self.dtype, self.scale = np.random.default_rng(seed), np.dtype(dtype), scale

    def normal(self, *shape: int) -> Array:
        """Return standard normal numbers times the scale, complex ones for a complex dtype."""
        x = self.rng.standard_normal(shape)
        if self.dtype.kind == "c":
            x = x + 1j * self.rng.standard_normal(shape)
        return frozen((self.scale * x).astype(self.dtype))

    def like(self, tree: object) -> Any:
        """Return normal numbers with the structure and the shapes of a tree of arrays."""
        return map_leaves(lambda a: self.normal(*a.shape), tree)

    def uniform(self, *shape: int) -> Array:
        """Return numbers in [0.5, 1.5)."""
        return frozen((self.rng.random(shape) + 0.5).astype(self.dtype))

    def distribution(self, *shape: int) -> Array:
        """Return positive numbers whose rows sum to one."""
        x = self.rng.random(shape) + 0.1
        return frozen((x / x.sum(axis=-1, keepdims=True)).astype(self.dtype))

    def ids(self, size: int, shape: tuple[int, ...]) -> Array:
        """Return integers in [0, size)."""
        return frozen(self.rng.integers(0, size, shape))

    def mask(self, *shape: int) -> Array:
        """Return booleans, about two of three of them True."""
        return frozen(self.rng.random(shape) < 2 / 3)


def frozen(x: npt.ArrayLike) -> Array:
    """Return the array, read-only."""
    x = np.asarray(x)
    x.flags.writeable = False
    return x
