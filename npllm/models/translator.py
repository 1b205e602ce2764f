"""Translators: an encoder reads a text, and a decoder, a language model, writes another.

The decoder's first state is what the encoder made of the source: so it predicts, is asked for beams
and for samples like every language model. One id above the target's words marks both where a text
begins and where it ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    cross_entropy_backward,
    cross_entropy_forward,
    linear_backward,
    linear_forward,
)
from npllm.layers.arrays import Array
from npllm.layers.linear import LinearCache
from npllm.models.language_model import Views, last_tokens
from npllm.models.parameters import Parameters
from npllm.models.trainable import LossAndGradients


class TranslatorCache(NamedTuple):
    """What the backward needs of the forward."""

    encoded: Any
    hidden: Any
    head: LinearCache


State = TypeVar("State")  # the decoder's
Gradient = TypeVar("Gradient")  # of its first one
Encoded = TypeVar("Encoded")  # what the encoder's backward needs
Hidden = TypeVar("Hidden")  # what the decoder's does


class Translator(ABC, Generic[State, Gradient, Encoded, Hidden]):
    """What both translators share: the loss, and what training asks of a model.

    Attributes:
        config: what the model was made with; ``source_size`` and ``vocab_size``, the words of both
            languages, ``dropout`` and ``label_smoothing`` among it.
        parameters: its state dict, in one vector.
        mark: the id at which a translation begins and ends.
    """

    CHOICES: ClassVar[tuple[str, ...]]  # the arguments that a training run chooses
    config: dict[str, Any]
    parameters: Parameters

    @property
    def mark(self) -> int:
        """The id at which a translation begins and ends: above those of the words."""
        return int(self.config["vocab_size"])

    @abstractmethod
    def encode(
        self,
        source: npt.ArrayLike,
        lengths: npt.ArrayLike,
        *,
        rng: np.random.Generator | None = None,
    ) -> tuple[State, Encoded]:
        """Return the decoder's first state, and the cache of :meth:`encode_backward`."""

    @abstractmethod
    def encode_backward(self, dstate: Gradient, cache: Encoded, gradients: Parameters) -> None:
        """Add the gradients of the encoder, given that of the state."""

    @abstractmethod
    def hidden(
        self,
        ids: npt.ArrayLike,
        state: State,
        *,
        lengths: npt.ArrayLike | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, State, Hidden]:
        """Return what the head sees (B, T, F), the state after it, and the backward's cache.

        Args:
            ids: (B, T) in [0, V], the mark first.
            state: what :meth:`encode`, or an earlier call, returned.
            lengths: (B,) how much of each row is real; all where None.
            rng: draws the dropout masks; None turns dropout off.
        """

    @abstractmethod
    def hidden_backward(self, dh: Array, /, cache: Hidden, gradients: Parameters) -> Gradient:
        """Return the gradient of the state, and add those of the decoder below its head."""

    @property
    @abstractmethod
    def context(self) -> int | None:
        """How many positions it has; None where there is no end to them."""

    @abstractmethod
    def rows_of_state(self, state: State, rows: npt.ArrayLike | slice) -> State:
        """Return the state of some of the batch's rows, in any order, repeated or not."""

    @abstractmethod
    def views(self, cache: TranslatorCache) -> Views:
        """Return how much each word written takes of each of the source, (B, N, T, S) a layer."""

    @abstractmethod
    def activations(self, batch: int, steps: int) -> int:
        """Return how many numbers a layer computes at a time, which workers can share."""

    @abstractmethod
    def rows_of_draws(
        self, rng: np.random.Generator, batch: int, rows: slice
    ) -> np.random.Generator:
        """Return what draws for some of the batch's rows as ``rng`` would for all of them."""

    def _head(self, h: Array) -> tuple[Array, LinearCache]:
        """Return the logits (B, T, V + 1) of h (B, T, F)."""
        return linear_forward(h, self.parameters["head.weight"], self.parameters["head.bias"])

    def predict(
        self,
        ids: npt.ArrayLike,
        state: State | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        last: bool = False,
    ) -> tuple[Array, State]:
        """Return the logits of what follows, and the state to go on from, without dropout.

        Args:
            ids: (B, T), the mark first.
            state: what :meth:`encode`, or an earlier call, returned.
            lengths: (B,) how much of each row is real; all where None.
            last: return the logits (B, 1, V + 1) of each row's last real token alone.

        Raises:
            ValueError: there is no state.
        """
        if state is None:
            raise ValueError("a translator writes of what it has read: give it encode's state")
        h, after, _ = self.hidden(ids, state, lengths=lengths)
        if last:
            h = h[np.arange(len(h)), last_tokens(h.shape[1], lengths)][:, None]
        return self._head(h)[0], after

    def forward(
        self,
        source: npt.ArrayLike,
        lengths: npt.ArrayLike,
        ids: npt.ArrayLike,
        *,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, TranslatorCache]:
        """Return the logits (B, T, V + 1), and the backward's cache.

        Args:
            source: (B, S) ids of the texts to translate.
            lengths: (B,) how much of each is real, 1 or more.
            ids: (B, T) the mark, and the translation as far as it is known: teacher forcing.
            rng: draws the dropout masks; None turns dropout off.
        """
        state, encoded = self.encode(source, lengths, rng=rng)
        h, _, hidden = self.hidden(ids, state, rng=rng)
        logits, head = self._head(h)
        return logits, TranslatorCache(encoded, hidden, head)

    def backward(
        self, dlogits: Array, cache: TranslatorCache, gradients: Parameters | None = None
    ) -> Parameters:
        """Return the gradients of all parameters, added to ``gradients`` where these are given."""
        gradients = self.parameters.zeros_like() if gradients is None else gradients
        # logits = linear(h, head.weight, head.bias)
        dh, dweight, dbias = linear_backward(dlogits, cache.head)
        gradients["head.weight"] += dweight
        gradients["head.bias"] += dbias
        dstate = self.hidden_backward(dh, cache.hidden, gradients)
        self.encode_backward(dstate, cache.encoded, gradients)
        return gradients

    def loss_and_gradients(
        self,
        source: npt.ArrayLike,
        lengths: npt.ArrayLike,
        ids: npt.ArrayLike,
        targets: npt.ArrayLike,
        *,
        rng: np.random.Generator | None = None,
        gradients: Parameters | None = None,
    ) -> LossAndGradients:
        """Return the summed cross-entropy of the targets, its gradients and their number.

        Args:
            source: as for :meth:`forward`.
            lengths: likewise.
            ids: likewise.
            targets: (B, T) what follows each id, the mark at the end; -100 behind it.
            rng: as for :meth:`forward`.
            gradients: to be added to, and returned; new ones where None.
        """
        logits, cache = self.forward(source, lengths, ids, rng=rng)
        loss, loss_cache = cross_entropy_forward(
            logits,
            np.asarray(targets),
            label_smoothing=self.config["label_smoothing"],
            reduction="sum",
        )
        dlogits = cross_entropy_backward(np.ones_like(loss), loss_cache)
        counted = int(np.count_nonzero(np.asarray(targets) != -100))
        return LossAndGradients(
            loss.item(), self.backward(dlogits, cache, gradients), counted, None
        )

    def score(
        self,
        source: npt.ArrayLike,
        lengths: npt.ArrayLike,
        ids: npt.ArrayLike,
        targets: npt.ArrayLike,
    ) -> tuple[float, None]:
        """Return the summed cross-entropy of the targets, without dropout and smoothing."""
        logits, _ = self.forward(source, lengths, ids)
        loss, _ = cross_entropy_forward(logits, np.asarray(targets), reduction="sum")
        return loss.item(), None

    def initial_state(self, _: int) -> None:
        """Return None: every text begins anew."""
        return None  # noqa: RET501
