"""Workers that take a training step together, each with its share of the rows and of the update.

They are processes, see :mod:`npllm.training.processes`, and not threads: a step is many small calls
of NumPy, between which threads would wait for Python's lock; or ranks of MPI, which may be on other
machines, see :mod:`npllm.training.ranks`. The first is this process itself. The order of the sums
depends on the number of workers only: the same number gives the same bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from npllm.heap import keep_freed_memory
from npllm.models import Trainable
from npllm.models.parameters import Parameters
from npllm.optim import Optimizer, clip_factor
from npllm.threads import available_cores, blas_held
from npllm.training.shares import (
    Batch,
    Part,
    Piece,
    Result,
    Share,
    SharedMemory,
    State,
    quietly,
    slices,
)

if TYPE_CHECKING:
    from npllm.training.ranks import World

# Numbers of a layer below which a share is not worth a process: asking and answering three times a
# step costs more, see the row lstm-small in benchmarks/.
SMALLEST_SHARE = 2048


def worthwhile_workers(numbers: int, most: int) -> int:
    """Return how many workers are worth it for layers that compute so many numbers at a time.

    >>> [worthwhile_workers(numbers, 4) for numbers in (8 * 64, 32 * 128, 32 * 1024)]
    [1, 2, 4]
    """
    return max(1, min(most, numbers // SMALLEST_SHARE))


def usual_workers() -> int:
    """Return how many workers there are where nobody says: one a core, at most 4.

    One where this process may have no children, as those of a pool may not.
    """
    from multiprocessing.process import current_process

    return 1 if current_process().daemon else min(available_cores(), 4)


class Team(Protocol):
    """Where the workers are: here, in other processes, on other machines."""

    share: Share  # of the first, this process

    def call(
        self, function: Callable[..., Result], arguments: Sequence[tuple[object, ...]]
    ) -> list[Result]:
        """Return ``function(share, *own)`` of the first workers, one for each of the arguments."""

    def start(self) -> None:
        """Start those that are not here."""

    def collect(self) -> None:
        """Bring the sum of the gradients and the optimizer's whole state here."""

    def close(self) -> None:
        """End those that are not here."""


class Alone:
    """A team of one: this process."""

    def __init__(self, share: Share) -> None:
        self.share = share

    def call(
        self, function: Callable[..., Result], arguments: Sequence[tuple[object, ...]]
    ) -> list[Result]:
        """Call the function here."""
        return [quietly(function, self.share, *own) for own in arguments]

    def start(self) -> None:
        """Nobody is elsewhere."""

    def collect(self) -> None:
        """All of it is here."""

    def close(self) -> None:
        """Nobody is elsewhere."""


class Differentiated(NamedTuple):
    """What a batch gave, before the parameters are updated.

    Attributes:
        loss: the summed loss in nats.
        tokens: how many targets it is over.
        norm: of the gradient of the mean loss.
        state: the final state of all rows, or None.
    """

    loss: float
    tokens: int
    norm: float
    state: State | None


class Workers:
    """A number of workers, and the model that they train or use.

    Args:
        model: with more workers than one its parameters move to memory that all of them see, so
            that views taken before are of the old memory.
        optimizer: of its parameters; its state moves too. None where nothing is trained.
        count: how many.
        accumulate: in how many parts a worker takes its rows, so that it holds the activations of
            one part at a time.
        world: the ranks that are the workers, in place of ``count`` processes.
        start_method: how processes are started, "fork" or "spawn"; the platform's own where None.
            Where that is spawn, a script must begin below ``if __name__ == "__main__":``.

    Raises:
        ValueError: ``count`` or ``accumulate`` is below 1.
    """

    def __init__(
        self,
        model: Trainable,
        optimizer: Optimizer | None = None,
        count: int = 1,
        *,
        accumulate: int = 1,
        world: World | None = None,
        start_method: str | None = None,
    ) -> None:
        for name, number in {"threads": count, "accumulate": accumulate}.items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self.model, self.optimizer, self.count = model, optimizer, count
        self._accumulate = accumulate
        self._team: Team
        if world is not None:
            from npllm.training.ranks import Ranks

            self.count = world.size
            self._team = Ranks(model, optimizer, world)
        elif count > 1:
            from npllm.training.processes import Processes

            self._team = Processes(model, optimizer, count, start_method)
        elif optimizer is None:
            self._team = Alone(Share(model))
        else:
            gradients = model.parameters.zeros_like()
            whole = Piece(SharedMemory([gradients.vector]), optimizer)
            self._team = Alone(Share(model, gradients, [whole]))

    @contextmanager
    def working(self) -> Iterator[Workers]:
        """Hold them ready; BLAS has one thread in each, and memory that is freed is kept.

        Raises:
            ValueError: they are already at work, or may not be started here.
        """
        keep_freed_memory()
        with blas_held(1):
            self._team.start()
            try:
                yield self
            finally:
                self._team.close()

    @property
    def gradients(self) -> Parameters:
        """Those of the mean loss of the batch that was differentiated last; the next overwrites."""
        self._team.collect()
        assert self._team.share.gradients is not None
        return self._team.share.gradients

    def differentiate(
        self, batch: Batch, state: State | None = None, rng: np.random.Generator | None = None
    ) -> Differentiated:
        """Compute the loss of a batch and its gradients.

        Args:
            batch: is shared by rows.
            state: arrays whose second axis is the batch, or None.
            rng: draws the dropout masks, the same however the rows are shared; None turns it off.
        """
        size = len(batch.arguments[0])
        shares = []
        for own in slices(size, self.count):
            parts = []
            for part in slices(own.stop - own.start, self._accumulate):
                rows = slice(own.start + part.start, own.start + part.stop)
                if rows.start == rows.stop:
                    continue
                before = None if state is None else self.model.rows_of_state(state, rows)
                parts.append(Part(batch.rows(rows), before, copy.deepcopy(rng), size, rows))
            shares.append((parts,))
        if rng is not None and size:
            # the first draws from the generator itself, which so moves on as for the whole batch
            shares[0][0][0] = shares[0][0][0]._replace(rng=rng)
        results = self._team.call(Share.differentiate, shares)
        losses, tokens, states = zip(*results, strict=True)
        counted = sum(tokens)
        squares = self._team.call(Share.reduce, [(max(counted, 1),)] * self.count)
        after = [state for states_of_worker in states for state in states_of_worker if state]
        joined = tuple(np.concatenate(pieces, axis=1) for pieces in zip(*after, strict=True))
        return Differentiated(sum(losses), counted, math.sqrt(sum(squares)), joined or None)

    def update(self, lr: float, norm: float, max_norm: float = math.inf) -> None:
        """Take the optimizer's next step on the gradient, shortened to a norm of ``max_norm``.

        Args:
            lr: the learning rate.
            norm: the gradient's norm.
            max_norm: see :func:`npllm.optim.clip_global_norm`.
        """
        assert self.optimizer is not None
        taken = self.optimizer.steps
        step = (taken, lr, clip_factor(norm, max_norm))
        self._team.call(Share.update, [step] * self.count)
        self.optimizer.steps, self.optimizer.lr = taken + 1, lr

    def collect(self) -> None:
        """Bring the whole of the optimizer's state here, wherever the workers are."""
        self._team.collect()

    def map(
        self, function: Callable[..., Result], items: Sequence[tuple[object, ...]]
    ) -> list[Result]:
        """Return ``function(model, *item)`` of at most as many items as there are workers.

        The function and the items are pickled. Where they overflow they do not warn: it shows in
        what they return.
        """
        if len(items) > self.count:
            raise ValueError(f"{self.count} workers take so many items at a time, got {len(items)}")
        if not items:
            return []
        return self._team.call(_of_model, [(function, *item) for item in items])


def _of_model(share: Share, function: Callable[..., Result], *item: object) -> Result:
    return function(share.model, *item)
