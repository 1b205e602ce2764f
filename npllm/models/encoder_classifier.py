"""A classifier of texts on a Transformer's encoder."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    embedding_backward,
    embedding_forward,
)
from npllm.layers.arrays import Array, Ids, Mask
from npllm.layers.embedding import EmbeddingCache
from npllm.models.classifier import Classifier, MeanCache, mean_backward, mean_forward
from npllm.models.encoder import (
    EncoderBlockCache,
    encoder_block_backward,
    encoder_block_forward,
    encoder_block_shapes,
    real_places,
)
from npllm.models.language_model import check_sizes
from npllm.models.parameters import Parameters


class EncoderPoolCache(NamedTuple):
    """What the backward needs of the forward."""

    positions: EmbeddingCache
    blocks: list[EncoderBlockCache]
    mean: MeanCache


class EncoderClassifier(Classifier[EncoderPoolCache]):
    """The mean of what a Transformer's encoder makes of the words.

    Args:
        vocab_size: V.
        classes: C.
        context: how many positions there are.
        width: E.
        num_layers: L, blocks on top of one another.
        heads: N, which divides E.
        dropout: probability of zeroing an element of an embedded word, of an attention's weights
            and of what each half of a block adds.
        seed: see :class:`Classifier`.
        dtype: see there.

    >>> sizes = {"vocab_size": 5, "classes": 3, "context": 4, "width": 6}
    >>> model = EncoderClassifier(**sizes, num_layers=1, heads=2)
    >>> short, _ = model.forward([[1, 2]], [2])
    >>> filled, _ = model.forward([[1, 2, 0, 0]], [2])
    >>> bool(np.allclose(short, filled))
    True
    """

    CHOICES: ClassVar[tuple[str, ...]] = ("context", "width", "num_layers", "heads", "dropout")

    def __init__(
        self,
        vocab_size: int,
        classes: int,
        context: int,
        width: int,
        num_layers: int,
        heads: int,
        dropout: float = 0.0,
        *,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        sizes = {
            "vocab_size": vocab_size,
            "classes": classes,
            "context": context,
            "width": width,
            "num_layers": num_layers,
            "heads": heads,
        }
        sizes = check_sizes(sizes)
        if width % heads:
            raise ValueError(f"heads must divide width={width}, got {heads}")
        shapes: dict[str, tuple[int, ...]] = {"position.weight": (context, width)}
        for n in range(num_layers):
            block = encoder_block_shapes(width, 4 * width)
            shapes |= {f"layers.{n}.{name}": shape for name, shape in block.items()}
        self._block = tuple(encoder_block_shapes(1, 1))
        super().__init__(sizes, dropout, width, shapes, width, seed, dtype)

    @property
    def context(self) -> int:
        """How many positions it has."""
        return int(self.config["context"])

    def pooled_forward(
        self, e: Array, lengths: Ids, rate: float, rng: np.random.Generator | None
    ) -> tuple[Array, EncoderPoolCache]:
        """Return the mean of what the encoder makes of the words and their places."""
        p, steps = self.parameters, e.shape[1]
        if steps > self.context:
            raise ValueError(f"the model has {self.context} positions, and a text {steps} tokens")
        where, positions = embedding_forward(np.arange(steps), p["position.weight"])
        x = e + where
        real: Mask | None = real_places(lengths, steps)
        blocks = []
        for n in range(self.config["num_layers"]):
            own = {name: p[f"layers.{n}.{name}"] for name in self._block}
            x, block = encoder_block_forward(
                x, own, self.config["heads"], real=real, dropout=rate, rng=rng
            )
            blocks.append(block)
        pooled, mean = mean_forward(x, lengths)
        return pooled, EncoderPoolCache(positions, blocks, mean)

    def pooled_backward(self, dy: Array, cache: EncoderPoolCache, gradients: Parameters) -> Array:
        """Return de, and add the gradients of the blocks and of the positions."""
        dx = mean_backward(dy, cache.mean)
        for n in reversed(range(self.config["num_layers"])):
            dx, own = encoder_block_backward(dx, cache.blocks[n])
            for name, gradient in own.items():
                gradients[f"layers.{n}.{name}"] += gradient
        # x = e + positions
        embedding_backward(dx.sum(axis=0), cache.positions, gradients["position.weight"])
        return dx
