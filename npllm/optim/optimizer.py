"""What the update rules share: the vector they move, their state, and the walk over it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Elements a rule works on at a time: its operands, a few pieces of 64 KiB, stay in the cache.
PIECE = 16384


def as_vector(parameters: object, name: str) -> Array:
    """Return the vector itself, or the ``vector`` of a model's parameters.

    Raises:
        TypeError: it is neither a one-dimensional floating array nor has one.
    """
    vector = getattr(parameters, "vector", parameters)
    if not isinstance(vector, np.ndarray) or vector.ndim != 1 or vector.dtype.kind != "f":
        raise TypeError(
            f"{name} must be a model's parameters or a one-dimensional real floating array, "
            f"got {type(parameters).__name__}"
        )
    return vector


def check_range(
    name: str, value: float | Array, low: float, high: float = np.inf, *, high_included: bool = True
) -> None:
    """Raise, naming the argument, unless it is a number that lies between the bounds.

    Raises:
        TypeError: it is an array.
        ValueError: it lies outside.
    """
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"{name} must be a number, got an array of shape {value.shape}")
    if not (low <= value <= high) or (value == high and not high_included):
        bracket = "]" if high_included and np.isfinite(high) else ")"
        raise ValueError(f"{name} must lie in [{low}, {high}{bracket}, got {value}")


class Optimizer(ABC):
    """An update rule over one vector, in place.

    A rule names the vectors it carries from step to step in ``carried``, and moves one piece of
    the parameters in ``_update``.

    Attributes:
        lr: the learning rate; assign to it to follow a schedule.
        steps: how many have been taken.
        state: the carried vectors by name, each as long as the parameters.
    """

    carried: tuple[str, ...] = ()

    def __init__(self, parameters: object, lr: float) -> None:
        check_range("lr", lr, 0.0)
        self.vector = as_vector(parameters, "parameters")
        self.lr = lr
        self.steps = 0
        self.state: dict[str, Array] = {name: np.zeros_like(self.vector) for name in self.carried}

    def step(self, gradients: object) -> None:
        """Move the parameters by one step; the gradients are only read.

        Args:
            gradients: what the model's ``backward`` returned, or a vector like the parameters'.

        Raises:
            ValueError: their length or dtype is not that of the parameters.
        """
        g = as_vector(gradients, "gradients")
        if g.shape != self.vector.shape or g.dtype != self.vector.dtype:
            raise ValueError(
                f"gradients must be {self.vector.dtype} of length {self.vector.size}, "
                f"got {g.dtype} of length {g.size}"
            )
        self.steps += 1
        for start in range(0, g.size, PIECE):
            piece = slice(start, start + PIECE)
            state = {name: vector[piece] for name, vector in self.state.items()}
            self._update(self.vector[piece], g[piece], state)

    def over(self, vector: Array, state: dict[str, Array]) -> Optimizer:
        """Return the same rule, with the same settings, over other arrays."""
        other = copy.copy(self)
        other.vector, other.state = vector, state
        return other

    def load(self, steps: int, state: Mapping[str, Array]) -> None:
        """Go on from saved ``steps`` and ``state``.

        Raises:
            ValueError: the state is another rule's, or of other parameters.
        """
        if set(state) != set(self.state) or any(
            array.shape != self.vector.shape for array in state.values()
        ):
            given = {name: array.size for name, array in state.items()}
            raise ValueError(
                f"the state must hold {', '.join(self.state) or 'nothing'} of length "
                f"{self.vector.size}, got {given}"
            )
        self.steps = steps
        for name, array in state.items():
            self.state[name][...] = array

    @abstractmethod
    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        """Move ``p`` and the carried pieces in place, given the gradient ``g``."""
