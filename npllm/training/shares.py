"""What one worker has of a training step, and what it does with it.

A step is three calls of each worker: it differentiates the loss of its rows, reduces its pieces of
the sum of all gradients, and updates its pieces of the parameters. Losses, gradients and tokens are
sums, so it does not matter how the rows are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array
from npllm.models import Trainable
from npllm.models.parameters import Parameters
from npllm.optim import Optimizer
from npllm.optim.clip import sum_of_squares

State = tuple[Array, ...]
Result = TypeVar("Result")


class Batch(Protocol):
    """What a step learns from: a value that only its task and its model understand, in rows.

    Some of its rows are pickled on their way to a worker.
    """

    @property
    def arguments(self) -> tuple[npt.NDArray[np.generic], ...]:
        """What the model takes of it; their first axis is B."""

    @property
    def continues(self) -> bool:
        """Whether row b goes on where row b of the batch before ended."""

    @property
    def counted(self) -> int:
        """How many targets the loss is over."""

    def rows(self, rows: slice) -> Batch:
        """Return some of its rows."""


class Part(NamedTuple):
    """Some rows of a batch.

    Attributes:
        batch: of these rows alone.
        state: likewise, or None.
        rng: what the dropout masks of the whole batch are drawn from, or None.
        size: B, how many rows the whole batch has.
        rows: which these are.
    """

    batch: Batch
    state: State | None
    rng: np.random.Generator | None
    size: int
    rows: slice


class Recipe(NamedTuple):
    """What another process needs to make a model and an update rule, but for their numbers.

    Attributes:
        kind: the model's class.
        config: what the model is made with.
        dtype: of its parameters.
        rule: the optimizer without its arrays, or None.
    """

    kind: Any
    config: dict[str, Any]
    dtype: np.dtype[Any]
    rule: Optimizer | None

    @classmethod
    def of(cls, model: Trainable, optimizer: Optimizer | None) -> Recipe:
        """Return that of a model and an optimizer."""
        vector = model.parameters.vector
        rule = None if optimizer is None else optimizer.over(vector[:0], {})
        return cls(type(model), model.config, vector.dtype, rule)

    def model(self) -> Trainable:
        """Return the model, its parameters not drawn."""
        made: Trainable = self.kind(**self.config, seed=None, dtype=self.dtype)
        return made


class Exchange(Protocol):
    """How a worker's slice of the gradients' sum, and of the parameters, meets the others'."""

    @property
    def own(self) -> Array:
        """Its slice of the sum, once it was summed."""

    def reduce(self) -> None:
        """Sum its slice of all workers' gradients."""

    def gather(self) -> None:
        """Let all workers have its slice of the parameters, and it theirs."""


class Piece(NamedTuple):
    """A slice of the parameters that one worker updates.

    Attributes:
        exchange: with the other workers.
        rule: the optimizer of that slice.
    """

    exchange: Exchange
    rule: Optimizer


class SharedMemory:
    """The exchange of workers that see each other's memory.

    Args:
        vectors: the gradients of all workers; the first becomes their sum.
        piece: the worker's slice.
    """

    def __init__(self, vectors: Sequence[Array], piece: slice = slice(None)) -> None:
        self.own, *self._others = (vector[piece] for vector in vectors)

    def reduce(self) -> None:
        """Sum its slice of all workers' gradients."""
        for other in self._others:
            np.add(self.own, other, out=self.own)

    def gather(self) -> None:
        """All see the same parameters."""


class Share(NamedTuple):
    """What one worker has.

    Attributes:
        model: whose parameters are the same for all workers.
        gradients: those of its own rows; None where nothing is trained.
        pieces: what it updates.
    """

    model: Trainable
    gradients: Parameters | None = None
    pieces: Sequence[Piece] = ()

    def differentiate(self, parts: Sequence[Part]) -> tuple[float, int, list[State | None]]:
        """Return the summed loss of its rows, how many tokens they are, and their states."""
        assert self.gradients is not None
        self.gradients.vector[...] = 0
        loss, tokens, states = 0.0, 0, []
        for batch, state, rng, size, rows in parts:
            if rng is not None and rows != slice(0, size):
                rng = self.model.rows_of_draws(rng, size, rows)
            carried = {} if state is None else {"state": state}
            result = self.model.loss_and_gradients(
                *batch.arguments, rng=rng, gradients=self.gradients, **carried
            )
            loss += result.loss
            tokens += result.tokens
            states.append(result.state)
        return loss, tokens, states

    def reduce(self, divisor: int) -> float:
        """Sum its pieces of all gradients, divide them, and return their squared norm."""
        squares = 0.0
        for exchange, _ in self.pieces:
            exchange.reduce()
            gradient = exchange.own
            gradient /= divisor
            squares += sum_of_squares(gradient)
        return squares

    def update(self, taken: int, lr: float, factor: float) -> None:
        """Take the optimizer's step after those taken, the gradient shortened by a factor."""
        for exchange, rule in self.pieces:
            gradient = exchange.own
            if factor < 1:
                gradient *= factor
            rule.steps, rule.lr = taken, lr
            rule.step(gradient)
            exchange.gather()


def slices(size: int, count: int) -> list[slice]:
    """Return ``count`` neighbouring slices of ``size`` things, as even as can be.

    >>> slices(5, 2)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    ends = [-(-n * size // count) for n in range(count + 1)]  # rounded up: the first have more
    return [slice(start, stop) for start, stop in pairwise(ends)]


def quietly(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function without warnings of overflows: they show in what it returns."""
    with np.errstate(over="ignore", invalid="ignore"):
        return function(*arguments)
