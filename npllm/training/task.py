"""What a run learns: a task has data, batches, measures, vocabularies and options of its own.

A run takes steps, saves them and goes on from them, whatever its task is. The first task is
:mod:`npllm.training.language_modelling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from npllm.files import Json
from npllm.models import Trainable
from npllm.text.tokenizers import TrainedTokenizer
from npllm.training.shares import Batch
from npllm.training.workers import Workers


class Batches(Protocol):
    """The batches of a run: the step alone determines the batch.

    Attributes:
        steps_per_epoch: how many of them show all of the data once.
    """

    steps_per_epoch: int

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step, from 0 without end."""


class Task(Protocol):
    """What a run learns."""

    @property
    def summary(self) -> str:
        """Its data in a line, for people."""

    @property
    def vocabularies(self) -> Mapping[str, TrainedTokenizer]:
        """Its tokenizers, by the names that a checkpoint has for them."""

    @property
    def batches(self) -> Batches:
        """What there is to learn from."""

    @property
    def batch_size(self) -> int:
        """B, how many rows a batch has."""

    @property
    def window(self) -> int:
        """T, how many steps a row has."""

    @property
    def digest(self) -> str:
        """What tells its data from others: a run goes on with the same."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its measures; the first is the loss, in nats."""

    def make_model(self, rng: np.random.Generator) -> Trainable:
        """Return the model with fresh weights."""

    def model_config(self) -> dict[str, Json] | None:
        """Return what the model is made with; None where only the checkpoint knows."""

    def evaluate(self, workers: Workers) -> dict[str, float]:
        """Return the measures of the held-out data by their names."""
