"""What training needs of a model, whatever it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array
from npllm.models.parameters import Parameters


class LossAndGradients(NamedTuple):
    """What training needs of a batch; all sums, so that shards of a batch simply add.

    Attributes:
        loss: the summed loss in nats.
        gradients: the gradients of that sum.
        tokens: how many targets it is over.
        state: the final state, for the next stretch of the same sequences: arrays whose second
            axis is the batch; None of a model that carries none.
    """

    loss: float
    gradients: Parameters
    tokens: int
    state: tuple[Array, ...] | None


class Trainable(Protocol):
    """A model that is trained by its gradients.

    Attributes:
        config: what the model was made with, for JSON.
        parameters: its state dict, in one vector.
    """

    config: dict[str, Any]
    parameters: Parameters

    # the arguments that a training run chooses, each an option of its task
    CHOICES: ClassVar[tuple[str, ...]]

    @property
    def context(self) -> int | None:
        """How many positions it has; None where there is no end to them."""

    @property
    def loss_and_gradients(self) -> Callable[..., LossAndGradients]:
        """Returns the summed loss of a batch, its gradients, the number of targets and the state.

        It takes the inputs and their targets, whose first axes are the batch, and as keywords
        ``state``, where the batch goes on from one before; ``rng``, which draws the dropout masks;
        and ``gradients``, to which they are added where it is given.
        """

    @property
    def score(self) -> Callable[..., tuple[float, Any]]:
        """Returns the summed loss of a batch, without dropout, and the state."""

    def initial_state(self, batch: int, /) -> tuple[Array, ...] | None:
        """Return the state in which training begins a batch of sequences.

        It is arrays whose second axis is the batch; None of a model that carries none on from one
        stretch of the sequences to the next.
        """

    def rows_of_state(self, state: Any, rows: npt.ArrayLike | slice) -> Any:
        """Return the state of some of the batch's rows, in any order, repeated or not."""

    def activations(self, batch: int, steps: int, /) -> int:
        """Return how many numbers a layer computes at a time, which workers can share."""

    def rows_of_draws(
        self, rng: np.random.Generator, batch: int, rows: slice, /
    ) -> np.random.Generator:
        """Return what draws for some of the batch's rows as ``rng`` would for all of them."""
