"""Classifiers of texts: one of C classes for the whole of a text.

All of them embed the words, make one vector of a text, and have a linear map score the classes:

    scores = fc(pooled(embedding(ids)))

They differ in how they pool: the mean of the words; what an LSTM, which reads both ways, makes of
them, weighed by attention; the mean of what a Transformer's encoder makes of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    cross_entropy_backward,
    cross_entropy_forward,
    dropout_backward,
    dropout_forward,
    embedding_backward,
    embedding_forward,
    linear_backward,
    linear_forward,
    softmax_forward,
)
from npllm.layers.arrays import Array, Ids, check_dy, check_floats, check_ids
from npllm.layers.dropout import DropoutCache, RowsOfDraws
from npllm.layers.embedding import EmbeddingCache
from npllm.layers.linear import LinearCache
from npllm.models.encoder import (
    checked_rows,
)
from npllm.models.language_model import check_options
from npllm.models.parameters import Parameters
from npllm.models.trainable import LossAndGradients


class ClassifierCache(NamedTuple):
    """What the backward needs of the forward."""

    embedding: EmbeddingCache
    dropout: DropoutCache
    pooled: Any
    fc: LinearCache


Pooled = TypeVar("Pooled")  # what the backward needs of pooling


class Classifier(ABC, Generic[Pooled]):
    """scores = fc(pooled(embedding(ids))).

    Args:
        sizes: what the model is made with, ``vocab_size`` and ``classes`` among it.
        dropout: likewise.
        width: E, of the embedding.
        shapes: of the parameters between the embedding and ``fc``, by name.
        pooled_size: F, the width of what is pooled.
        seed: of the initial weights, or a Generator to draw them from; None leaves all zero.
        dtype: float32, float64 or, for the complex step, complex128.
    """

    CHOICES: ClassVar[tuple[str, ...]]  # the arguments that a training run chooses
    AXIS: ClassVar[int] = 0  # of the batch, in embedded words and whatever else masks are drawn for

    def __init__(
        self,
        sizes: Mapping[str, int],
        dropout: float,
        width: int,
        shapes: Mapping[str, tuple[int, ...]],
        pooled_size: int,
        seed: int | np.random.Generator | None,
        dtype: npt.DTypeLike,
    ) -> None:
        check_options(dropout, dtype)
        self.config: dict[str, Any] = {**sizes, "dropout": float(dropout)}
        self._width, classes = width, sizes["classes"]
        table = (sizes["vocab_size"], width)
        fc = {"fc.weight": (classes, pooled_size), "fc.bias": (classes,)}
        self.parameters = Parameters({"embedding.weight": table, **shapes, **fc}, dtype)
        if seed is not None:
            self._initialize(np.random.default_rng(seed))

    @property
    def context(self) -> int | None:
        """How many positions it has; None where there is no end to them."""
        return None

    def _initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights: uniform within 1 / sqrt(inputs), a norm's gain 1, a bias 0."""
        for name in self.parameters.shapes:
            array = self.parameters[name]
            if array.ndim == 1:
                array[...] = float("norm" in name and name.endswith("weight"))
            elif name in ("embedding.weight", "position.weight"):
                array[...] = 0.1 * rng.standard_normal(array.shape)
            else:
                bound = 1 / math.sqrt(array.shape[1])
                array[...] = rng.uniform(-bound, bound, array.shape)

    @abstractmethod
    def pooled_forward(
        self, e: Array, lengths: Ids, rate: float, rng: np.random.Generator | None
    ) -> tuple[Array, Pooled]:
        """Return one vector for each text, (B, F), of its embedded words.

        They are (B, T, E), or (T, B, E) where ``AXIS`` is 1.
        """

    @abstractmethod
    def pooled_backward(self, dy: Array, cache: Pooled, gradients: Parameters) -> Array:
        """Return de, as e, and add the gradients of the parameters between."""

    def forward(
        self,
        ids: npt.ArrayLike,
        lengths: npt.ArrayLike,
        *,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, ClassifierCache]:
        """Return the scores of the classes (B, C) before their softmax, and the backward's cache.

        Args:
            ids: (B, T) integers in [0, V).
            lengths: (B,) how much of each row is real, 1 or more: what stands behind has no effect.
            rng: draws the dropout masks; None turns dropout off.

        Raises:
            TypeError: the ids or lengths are not integers.
            ValueError: an id or a length is out of range.
        """
        rate = self.config["dropout"] if rng is not None else 0.0
        rows, ends = checked_rows(ids, lengths, self.config["vocab_size"])
        e, embedding = embedding_forward(rows, self.parameters["embedding.weight"])  # (B, T, E)
        e, dropped = dropout_forward(e.swapaxes(0, self.AXIS), p=rate, rng=rng)
        pooled, cache = self.pooled_forward(e, ends, rate, rng)  # (B, F)
        weight, bias = self.parameters["fc.weight"], self.parameters["fc.bias"]
        scores, fc = linear_forward(pooled, weight, bias)  # (B, C)
        return scores, ClassifierCache(embedding, dropped, cache, fc)

    def backward(
        self, dscores: Array, cache: ClassifierCache, gradients: Parameters | None = None
    ) -> Parameters:
        """Return the gradients of all parameters, added to ``gradients`` where these are given.

        Args:
            dscores: (B, C).
            cache: what :meth:`forward` returned.
            gradients: to be added to; new ones where None.
        """
        gradients = self.parameters.zeros_like() if gradients is None else gradients
        de = self._backward_to_words(dscores, cache, gradients)
        # e = embedding(ids, embedding.weight)
        embedding_backward(de, cache.embedding, gradients["embedding.weight"])
        return gradients

    def _backward_to_words(
        self, dscores: Array, cache: ClassifierCache, gradients: Parameters
    ) -> Array:
        """Return de (B, T, E), and add the gradients of all parameters but the embedding."""
        # scores = linear(pooled, fc.weight, fc.bias)
        dpooled, dweight, dbias = linear_backward(dscores, cache.fc)
        gradients["fc.weight"] += dweight
        gradients["fc.bias"] += dbias
        de = self.pooled_backward(dpooled, cache.pooled, gradients)
        # e = dropout(e)
        return dropout_backward(de, cache.dropout).swapaxes(0, self.AXIS)

    def loss_and_gradients(
        self,
        ids: npt.ArrayLike,
        lengths: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        rng: np.random.Generator | None = None,
        gradients: Parameters | None = None,
    ) -> LossAndGradients:
        """Return the summed cross-entropy of the labels, its gradients and their number.

        Args:
            ids: as for :meth:`forward`.
            lengths: likewise.
            labels: (B,) the class of each text.
            rng: as for :meth:`forward`.
            gradients: to be added to, and returned; new ones where None.
        """
        scores, cache = self.forward(ids, lengths, rng=rng)
        loss, loss_cache = cross_entropy_forward(scores, np.asarray(labels), reduction="sum")
        dscores = cross_entropy_backward(np.ones_like(loss), loss_cache)
        return LossAndGradients(
            loss.item(), self.backward(dscores, cache, gradients), len(scores), None
        )

    def score(
        self, ids: npt.ArrayLike, lengths: npt.ArrayLike, labels: npt.ArrayLike
    ) -> tuple[float, None]:
        """Return the summed cross-entropy of the labels, without dropout, and no state."""
        scores, _ = self.forward(ids, lengths)
        loss, _ = cross_entropy_forward(scores, np.asarray(labels), reduction="sum")
        return loss.item(), None

    def probabilities(self, ids: npt.ArrayLike, lengths: npt.ArrayLike) -> Array:
        """Return how likely each class is, (B, C), for each text."""
        return softmax_forward(self.forward(ids, lengths)[0])[0]

    def word_weights(
        self, ids: npt.ArrayLike, lengths: npt.ArrayLike, labels: npt.ArrayLike
    ) -> Array:
        """Return how much each word speaks for a class, (B, T): gradient times input.

        With e_t the word's embedding and s the score of the class, e_t . ds / de_t: to first order,
        how much of the score would be lost without the word. Simonyan, Vedaldi and Zisserman, "Deep
        Inside Convolutional Networks" (2014), section 3, times the input.

        Args:
            ids: as for :meth:`forward`.
            lengths: likewise.
            labels: (B,) the class that is asked about.
        """
        scores, cache = self.forward(ids, lengths)
        classes = check_ids(labels, scores.shape[-1], "labels")
        dscores = np.zeros_like(scores)
        dscores[np.arange(len(scores)), classes] = 1
        de = self._backward_to_words(dscores, cache, self.parameters.zeros_like())
        e, _ = embedding_forward(np.asarray(ids), self.parameters["embedding.weight"])
        return np.einsum("bte,bte->bt", e, de)

    def initial_state(self, _: int) -> None:
        """Return None: every text begins anew."""
        return None  # noqa: RET501

    def rows_of_state(self, state: None, rows: npt.ArrayLike | slice) -> None:  # noqa: ARG002
        """Return None, the state of any texts."""
        return state

    def activations(self, batch: int, steps: int) -> int:
        """Return B T E: all words are embedded at once."""
        return batch * steps * self._width

    def rows_of_draws(
        self, rng: np.random.Generator, batch: int, rows: slice
    ) -> np.random.Generator:
        """Return what draws for some of the batch's rows as ``rng`` would for all of them."""
        return RowsOfDraws(rng, batch, rows, axis=self.AXIS)


class MeanCache(NamedTuple):
    """What the backward needs of the forward."""

    shares: Array  # (B, T)
    width: int
    dtype: np.dtype[np.inexact]


def mean_forward(x: Array, lengths: Ids) -> tuple[Array, MeanCache]:
    """Return the mean (B, E) of each row's real places of x (B, T, E), and the cache."""
    check_floats(x=x)
    real = np.arange(x.shape[1]) < lengths[:, None]
    shares = (real / lengths[:, None]).astype(x.real.dtype)
    return np.einsum("bt,bte->be", shares, x), MeanCache(shares, x.shape[2], x.dtype)


def mean_backward(dy: Array, cache: MeanCache) -> Array:
    """Return dx (B, T, E): each real place has its share of the mean's gradient (B, E)."""
    shares, width, dtype = cache
    check_dy(dy, (len(shares), width), dtype)
    return shares[..., None] * dy[:, None]
