"""Named arrays that are views into one vector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array


class Parameters(Mapping[str, Array]):
    """A mapping of fixed names to arrays, all of them views into ``vector``.

    A step of an optimizer, a clip or a sum over shards is one pass over ``vector``; people see the
    names. Assignment copies into the view, ``parameters["fc.bias"] = 0``: a name never comes to
    mean another array, so the vector and the views cannot drift apart.

    Args:
        shapes: the shape behind each name, in the order of the vector.
        dtype: of all arrays.
        tied: names that are another name for an array in ``shapes``. A gradient that is added
            under either name lands in the same place.

    >>> p = Parameters({"weight": (2, 3), "bias": (3,)}, np.float64, {"head": "weight"})
    >>> p["head"][0, 1] = 5.0
    >>> p.vector.tolist()
    [0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: npt.DTypeLike,
        tied: Mapping[str, str] | None = None,
    ) -> None:
        self.shapes = dict(shapes)
        self.tied = dict(tied or {})
        sizes = map(math.prod, self.shapes.values())
        self._views: dict[str, Array] = {}
        self.view_into(np.zeros(sum(sizes), dtype))

    def view_into(self, vector: Array) -> None:
        """Let all arrays be views into another vector, and take on the numbers in it.

        Views that were taken before stay views into the old one.
        """
        self._vector, start = vector, 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            self._views[name] = vector[start:end].reshape(shape)
            start = end
        self._views.update({alias: self._views[name] for alias, name in self.tied.items()})

    @property
    def vector(self) -> Array:
        """All of it, one after the other; assignment copies in."""
        return self._vector

    @vector.setter
    def vector(self, value: npt.ArrayLike) -> None:
        if value is not self._vector:  # as it is after vector /= ...
            self._vector[...] = value

    def __reduce__(self) -> tuple[object, ...]:
        # a copy, deep or pickled, must have views into its own vector
        return _rebuilt, (self.shapes, self.tied, self._vector.copy())

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        view = self._views[name]
        if value is view:  # as it is after parameters[name] += ...
            return
        if np.ndim(value) > 0 and np.shape(value) != view.shape:
            raise ValueError(f"{name} must have shape {view.shape}, got {np.shape(value)}")
        view[...] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def zeros_like(self, dtype: npt.DTypeLike | None = None) -> Parameters:
        """Return parameters of the same names and shapes, all zero."""
        return Parameters(self.shapes, dtype or self.vector.dtype, self.tied)

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Copy arrays in by name, cast to this dtype; tied names may be given once or twice.

        Raises:
            ValueError: a name is missing or unknown, a shape differs, tied names disagree. Nothing
                is copied then.
        """
        missing = [name for name in self.shapes if name not in arrays]
        for alias, name in self.tied.items():
            if name in missing and alias in arrays:
                missing.remove(name)
        if missing:
            raise ValueError(f"the weights lack {', '.join(sorted(missing))}")
        if unknown := sorted(set(arrays) - set(self)):
            raise ValueError(f"the weights hold {', '.join(unknown)}, which this model has not")
        for name, array in arrays.items():
            if array.shape != self[name].shape:
                raise ValueError(
                    f"{name} must have shape {self[name].shape}, the weights have {array.shape}"
                )
        for alias, name in self.tied.items():
            if alias not in arrays:
                continue
            if not np.array_equal(arrays[alias], arrays.get(name, arrays[alias]), equal_nan=True):
                raise ValueError(f"{alias} and {name} are tied, but the weights differ")
        for name, array in arrays.items():
            self[name] = array


def _rebuilt(
    shapes: Mapping[str, tuple[int, ...]], tied: Mapping[str, str], vector: Array
) -> Parameters:
    parameters = Parameters(shapes, vector.dtype, tied)
    parameters.vector[...] = vector
    return parameters
