"""A batch in shards, each on a thread of its own.

NumPy and BLAS let go of Python's lock while they work, so whole shards run side by side: better
than a BLAS that splits each small product, which is held to one thread meanwhile. The shards' sums
are added in the order of the shards, so the result depends on their number, not on timing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from npllm.heap import keep_freed_memory
from npllm.layers.arrays import Array
from npllm.models import LossAndGradients
from npllm.threads import available_cores, blas_held

Item = TypeVar("Item")
Result = TypeVar("Result")
State = tuple[Array, ...]


def usual_shards() -> int:
    """Return how many shards there are where nobody says: one a core, at most 4."""
    return min(available_cores(), 4)


class Batch(Protocol):
    """What a step learns from: a value that only its task and its model understand, in rows."""

    @property
    def arguments(self) -> tuple[npt.NDArray[np.generic], ...]:
        """What the model takes of it, before a state and a Generator; their first axis is B."""

    @property
    def continues(self) -> bool:
        """Whether row b goes on where row b of the batch before ended."""

    @property
    def counted(self) -> int:
        """How many targets the loss is over."""

    def rows(self, rows: slice) -> Batch:
        """Return some of its rows."""


class Trainable(Protocol):
    """A model whose losses and gradients are sums."""

    @property
    def loss_and_gradients(self) -> Callable[..., LossAndGradients]:
        """Return what a batch, a state and a Generator give, the loss and gradients summed."""

    @property
    def rows_of_state(self) -> Callable[[State, slice], State]:
        """Return the state of some of the batch's rows."""


class Workers:
    """A number of threads that map a function over shards, in order.

    >>> with workers(2) as pool:
    ...     pool.map(abs, [-1, 2])
    [1, 2]
    """

    def __init__(self, count: int, executor: ThreadPoolExecutor | None) -> None:
        self.count = count
        self._executor = executor

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return the function's results in the order of the items.

        An overflow does not warn: it shows in results that are not finite, which are for the
        caller to see.
        """

        def quietly(item: Item) -> Result:
            with np.errstate(over="ignore", invalid="ignore"):  # holds in one thread only
                return function(item)

        if self._executor is None:
            return [quietly(item) for item in items]
        return list(self._executor.map(quietly, items))


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    """Hold ``count`` threads, and BLAS to one thread each; memory that is freed is kept.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"threads must be at least 1, got {count}")
    keep_freed_memory()
    with blas_held(1):
        if count == 1:
            yield Workers(1, None)
            return
        with ThreadPoolExecutor(count) as executor:
            yield Workers(count, executor)


def sharded_loss_and_gradients(
    pool: Workers,
    model: Trainable,
    batch: Batch,
    state: State | None = None,
    rng: np.random.Generator | None = None,
) -> LossAndGradients:
    """Return the model's ``loss_and_gradients`` of a batch, computed in one shard a worker.

    Args:
        pool: the workers.
        model: computes a shard.
        batch: is cut by rows.
        state: arrays whose second axis is the batch, or None.
        rng: seeds a Generator for each shard's dropout; None turns dropout off.
    """
    size = len(batch.arguments[0])
    shards = np.array_split(np.arange(size), min(pool.count, size))
    seeds = None if rng is None else rng.integers(2**63, size=len(shards))

    def shard(n: int) -> LossAndGradients:
        rows = slice(shards[n][0], shards[n][-1] + 1)
        part = None if state is None else model.rows_of_state(state, rows)
        own = None if seeds is None else np.random.default_rng(int(seeds[n]))
        return model.loss_and_gradients(*batch.rows(rows).arguments, part, rng=own)

    results = pool.map(shard, range(len(shards)))
    first, *others = results
    gradients = first.gradients
    for other in others:
        gradients.vector += other.gradients.vector
    states = [result.state for result in results if result.state is not None]
    joined = tuple(np.concatenate(pieces, axis=1) for pieces in zip(*states, strict=True)) or None
    return LossAndGradients(
        sum(result.loss for result in results),
        gradients,
        sum(result.tokens for result in results),
        joined,
    )
