"""A classifier of texts that has the mean of the words."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array, Ids
from npllm.models.classifier import Classifier, MeanCache, mean_backward, mean_forward
from npllm.models.language_model import check_sizes
from npllm.models.parameters import Parameters


class BagClassifier(Classifier[MeanCache]):
    """The mean of the words: their order has no effect.

    Args:
        vocab_size: V.
        classes: C.
        embed_size: E.
        dropout: probability of zeroing an element of an embedded word.
        seed: see :class:`Classifier`.
        dtype: see there.

    >>> model = BagClassifier(vocab_size=5, classes=3, embed_size=4)
    >>> one, other = (model.forward([ids], [3])[0] for ids in ([0, 1, 2], [2, 0, 1]))
    >>> one.shape, bool(np.allclose(one, other))
    ((1, 3), True)
    """

    CHOICES: ClassVar[tuple[str, ...]] = ("embed_size", "dropout")

    def __init__(
        self,
        vocab_size: int,
        classes: int,
        embed_size: int,
        dropout: float = 0.0,
        *,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        sizes = {"vocab_size": vocab_size, "classes": classes, "embed_size": embed_size}
        super().__init__(check_sizes(sizes), dropout, embed_size, {}, embed_size, seed, dtype)

    def pooled_forward(
        self,
        e: Array,
        lengths: Ids,
        rate: float,  # noqa: ARG002 (nothing more is dropped)
        rng: np.random.Generator | None,  # noqa: ARG002
    ) -> tuple[Array, MeanCache]:
        """Return the mean of the words."""
        return mean_forward(e, lengths)

    def pooled_backward(
        self,
        dy: Array,
        cache: MeanCache,
        gradients: Parameters,  # noqa: ARG002 (it has no parameters)
    ) -> Array:
        """Return de."""
        return mean_backward(dy, cache)
