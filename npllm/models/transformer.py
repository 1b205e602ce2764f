"""What GPT and Llama share: token embedding, a stack of blocks, a norm, a tied or untied head.

A model names its parameters and says what its block and its norm are. A block is a pair of
functions, as in :mod:`npllm.layers`, of the hidden state and of its own parameters, which it knows
by the names they have within the block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    dropout_backward,
    dropout_forward,
    embedding_backward,
    embedding_forward,
    linear_backward,
    linear_cross_entropy_forward,
    linear_cross_entropy_gradients,
    linear_forward,
)
from npllm.layers.arrays import Array, Ids, check_ids
from npllm.layers.attention import Sight
from npllm.layers.dropout import DropoutCache, RowsOfDraws
from npllm.layers.embedding import EmbeddingCache
from npllm.layers.growing import GrowingPair
from npllm.layers.linear import LinearCache
from npllm.layers.multi_head_attention import Rotary
from npllm.models.language_model import Views, last_tokens
from npllm.models.parameters import Parameters
from npllm.models.places import Memory, placed
from npllm.models.trainable import LossAndGradients

# Attention comes in tiles where a head's scores leave the cache (T = 512), for tiles are faster
# then; and, for the memory, where a block's are over 64 MB in float32 and a head's worth a tile.
LONG, SCORES, SCORES_OF_A_HEAD = 2**18, 2**24, 2**16


class BlockOptions(NamedTuple):
    """What all blocks of a call share.

    Attributes:
        rotary: how queries and keys are turned; None in a model with a table of positions.
        sight: which keys a query may see, its mask what broadcasts to (B, N, T, P + T).
        dropout: of the attention weights, and of what each half of a block adds.
        rng: draws the masks of dropout.
        tiled: see :func:`npllm.layers.multi_head_attention_forward`.
    """

    rotary: Rotary | None = None
    sight: Sight = Sight(causal=True)
    dropout: float = 0.0
    rng: np.random.Generator | None = None
    tiled: bool = False


class HiddenCache(NamedTuple):
    """What the backward needs of :meth:`Transformer.hidden_forward`."""

    tokens: EmbeddingCache
    positions: EmbeddingCache | None
    alike: bool  # whether all rows stand at the same positions
    dropout: DropoutCache
    blocks: list[object]
    norm: object


class ForwardCache(NamedTuple):
    """What the backward needs of :meth:`Transformer.forward`, and the memory."""

    state: Memory
    hidden: HiddenCache
    head: LinearCache


class Transformer(ABC):
    """A decoder: logits = head(norm(blocks(embed(ids)))).

    Args:
        config: what the model was made with; ``vocab_size``, ``context``, ``width``,
            ``num_layers``, ``heads`` and ``dropout`` among it.
        block: the shape of each of a block's parameters, by its name within the block.
        tie_weights: whether the head is the token embedding.
        dtype: float32, float64 or, for the complex step, complex128.
    """

    CHOICES: ClassVar[tuple[str, ...]]  # the arguments that a training run chooses
    TOKENS: ClassVar[str]  # the names of the parameters
    POSITIONS: ClassVar[str | None]  # None: they are rotary
    BLOCK: ClassVar[str]  # with a place for the block's number
    BLOCK_SIZES: ClassVar[tuple[str, ...]]  # what a block takes of the config
    NORM: ClassVar[tuple[str, ...]]
    HEAD: ClassVar[str]
    block_forward: ClassVar[Callable[..., tuple[Any, Any]]]
    block_backward: ClassVar[Callable[..., Any]]
    block_weights: ClassVar[Callable[..., Array]]

    def __init__(
        self,
        config: dict[str, Any],
        block: Mapping[str, tuple[int, ...]],
        tie_weights: bool,
        dtype: npt.DTypeLike,
    ) -> None:
        self.config = config
        self._block = tuple(block)
        vocabulary, width = config["vocab_size"], config["width"]
        shapes: dict[str, tuple[int, ...]] = {self.TOKENS: (vocabulary, width)}
        if self.POSITIONS is not None:
            shapes[self.POSITIONS] = (config["context"], width)
        for n in range(config["num_layers"]):
            shapes |= {self.BLOCK.format(n) + name: shape for name, shape in block.items()}
        shapes |= dict.fromkeys(self.NORM, (width,))
        if not tie_weights:
            shapes[self.HEAD] = (vocabulary, width)
        tied = {self.HEAD: self.TOKENS} if tie_weights else {}
        self.parameters = Parameters(shapes, dtype, tied)

    @property
    def context(self) -> int:
        """How many positions the model has."""
        return int(self.config["context"])

    def rotary(self, _: Ids) -> Rotary | None:
        """Return how positions turn queries and keys: not at all, with a table of positions."""
        return None

    @abstractmethod
    def norm_forward(self, x: Array) -> tuple[Array, object]:
        """Normalize the last block's output."""

    @abstractmethod
    def norm_backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        """Return dx and the gradients of the norm's parameters."""

    def hidden_forward(
        self,
        ids: npt.ArrayLike,
        state: Memory | None = None,
        *,
        rng: np.random.Generator | None = None,
        lengths: npt.ArrayLike | None = None,
        keep: bool = True,
        tiled: bool = True,
        watched: list[Array] | None = None,
    ) -> tuple[tuple[Array, Memory], HiddenCache]:
        """Return what the head sees, (B, T, E), and the memory; and the backward's cache.

        Where nothing is to be differentiated, ``keep=False`` holds one block's cache at a time.
        ``tiled`` lets long texts, without dropout, have :mod:`npllm.layers.tiled_attention`.
        What goes into the first block, and comes out of each, is added to ``watched``.
        """
        p, c = self.parameters, self.config
        ids = check_ids(ids, c["vocab_size"])
        place = placed(ids, state, lengths, self.context, c.get("window"))
        rate = c["dropout"] if rng is not None else 0.0
        x, tokens = embedding_forward(ids, p[self.TOKENS])  # (B, T, E)
        positions = None
        if self.POSITIONS is not None:
            where, positions = embedding_forward(place.positions, p[self.POSITIONS])
            x += where
        x, dropped = dropout_forward(x, p=rate, rng=rng)
        tiled = tiled and rate == 0 and self._tiles_pay(ids.shape, state)
        options = BlockOptions(self.rotary(place.positions), place.sight, rate, rng, tiled)
        sizes = {name: c[name] for name in self.BLOCK_SIZES}
        blocks, caches = [], []
        for n in range(c["num_layers"]):
            if watched is not None:
                watched.append(x)
            own = {name: p[self.BLOCK.format(n) + name] for name in self._block}
            past = None if state is None else state.blocks[n]
            (x, kept), cache = self.block_forward(x, own, **sizes, past=past, options=options)
            # a text that is read to be written on: the next token's go behind these
            blocks.append(kept if keep or isinstance(kept, GrowingPair) else GrowingPair.of(*kept))
            if keep:
                caches.append(cache)
        if watched is not None:
            watched.append(x)
        h, norm = self.norm_forward(x)
        memory = Memory(tuple(blocks), place.lengths, place.real)
        alike = place.positions.ndim == 1
        return (h, memory), HiddenCache(tokens, positions, alike, dropped, caches, norm)

    def _tiles_pay(self, shape: tuple[int, ...], state: Memory | None) -> bool:
        """Whether a block has so many scores that attention should come in tiles."""
        batch, steps = shape
        scores = steps * (steps + (0 if state is None else state.steps))  # of a head
        many = batch * self.config["heads"] * scores > SCORES
        return scores >= LONG or (scores >= SCORES_OF_A_HEAD and many)

    def hidden_backward(
        self, dh: Array, cache: HiddenCache, gradients: Parameters | None = None
    ) -> Parameters:
        """Return the gradients of all parameters, as far as they come through the hidden state.

        They are added to ``gradients`` where these are given.
        """
        gradients = self.parameters.zeros_like() if gradients is None else gradients
        # h = norm(x)
        dx, *dnorm = self.norm_backward(dh, cache.norm)
        for name, gradient in zip(self.NORM, dnorm, strict=True):
            gradients[name] += gradient
        # x = block(x)
        for n in reversed(range(self.config["num_layers"])):
            dx, own = self.block_backward((dx, None), cache.blocks[n])
            for name, gradient in own.items():
                gradients[self.BLOCK.format(n) + name] += gradient
        # x = dropout(tokens + positions)
        dx = dropout_backward(dx, cache.dropout)
        if self.POSITIONS is not None and cache.positions is not None:
            where = dx.sum(axis=0) if cache.alike else dx
            embedding_backward(where, cache.positions, gradients[self.POSITIONS])
        # a tied matrix adds to what the head gives it
        embedding_backward(dx, cache.tokens, gradients[self.TOKENS])
        return gradients

    def forward(
        self,
        ids: npt.ArrayLike,
        state: Memory | None = None,
        *,
        rng: np.random.Generator | None = None,
        lengths: npt.ArrayLike | None = None,
    ) -> tuple[Array, ForwardCache]:
        """Return the logits of the next token at every position, and the backward's cache.

        Args:
            ids: (B, T) integers in [0, V).
            state: the memory of an earlier call, to go on from.
            rng: draws the dropout masks; None turns dropout off.
            lengths: (B,) how much of each row is real, where it is filled up at its end: what
                stands behind it is not seen by what follows.

        Returns:
            logits (B, T, V), and the cache of :meth:`backward`, whose ``state`` is the memory.

        Raises:
            TypeError: the ids are not integers.
            ValueError: an id is out of range, ``ids`` is not (B, T), the memory is of another
                batch, or there are more tokens than the model has positions.
        """
        # the cache shows the attention weights: all of them are held
        (h, memory), hidden_cache = self.hidden_forward(
            ids, state, rng=rng, lengths=lengths, tiled=False
        )
        logits, head_cache = linear_forward(h, self.parameters[self.HEAD])  # (B, T, V)
        return logits, ForwardCache(memory, hidden_cache, head_cache)

    def backward(self, dlogits: Array, cache: ForwardCache) -> Parameters:
        """Return the gradients of all parameters, by the parameters' names.

        Args:
            dlogits: (B, T, V).
            cache: what :meth:`forward` returned.
        """
        # logits = linear(h, head)
        dh, dhead = linear_backward(dlogits, cache.head)
        gradients = self.hidden_backward(dh, cache.hidden)
        gradients[self.HEAD] += dhead
        return gradients

    def views(self, cache: ForwardCache) -> Views:
        """Return each block's attention weights, (B, N, T, P + T), P tokens being remembered.

        Row t of a head is how much token t takes of each token up to itself.

        Args:
            cache: what :meth:`forward` returned.
        """
        return Views(attention=tuple(map(self.block_weights, cache.hidden.blocks)))

    def layers(self, ids: npt.ArrayLike) -> list[Array]:
        """Return the embedded tokens, and what each block makes of them, (B, T, E) each.

        Args:
            ids: as for :meth:`forward`.
        """
        watched: list[Array] = []
        self.hidden_forward(ids, keep=False, watched=watched)
        return watched

    def initial_state(self, _: int) -> None:
        """Return None: every window starts anew, whatever the batch."""
        return None  # noqa: RET501

    def loss_and_gradients(
        self,
        ids: npt.ArrayLike,
        targets: npt.ArrayLike,
        state: None = None,
        *,
        rng: np.random.Generator | None = None,
        gradients: Parameters | None = None,
    ) -> LossAndGradients:
        """Return the summed cross-entropy of the targets, its gradients and their number.

        The logits of all positions are never held, see :mod:`npllm.layers.linear_cross_entropy`.

        Args:
            ids: (B, T) integers in [0, V).
            targets: (B, T): the token that follows each; -100 where none counts.
            state: None: every window starts anew.
            rng: as for :meth:`forward`.
            gradients: to be added to, and returned; new ones where None.
        """
        targets = np.asarray(targets)
        (h, _), cache = self.hidden_forward(ids, state, rng=rng)
        gradients = self.parameters.zeros_like() if gradients is None else gradients
        loss, (dh, _) = linear_cross_entropy_gradients(
            h, self.parameters[self.HEAD], targets, onto=[gradients[self.HEAD]]
        )
        gradients = self.hidden_backward(dh, cache, gradients)
        return LossAndGradients(
            loss.item(), gradients, int(np.count_nonzero(targets != -100)), None
        )

    def predict(
        self,
        ids: npt.ArrayLike,
        state: Memory | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        last: bool = False,
    ) -> tuple[Array, Memory]:
        """Return the logits and the memory, without dropout.

        Args:
            ids: as for :meth:`forward`.
            state: as for :meth:`forward`.
            lengths: as for :meth:`forward`.
            last: return the logits (B, 1, V) of each row's last real token alone.
        """
        (h, memory), _ = self.hidden_forward(ids, state, lengths=lengths, keep=False)
        if last:
            h = h[np.arange(len(h)), last_tokens(h.shape[1], lengths)][:, None]
        logits, _ = linear_forward(h, self.parameters[self.HEAD])
        return logits, memory

    def score(
        self, ids: npt.ArrayLike, targets: npt.ArrayLike, state: Memory | None = None
    ) -> tuple[float, Memory]:
        """Return the summed cross-entropy of the targets and the memory; no logits are kept.

        Args:
            ids: as for :meth:`forward`.
            targets: (B, T): the token that follows each; -100 where none counts.
            state: as for :meth:`forward`.
        """
        (h, memory), _ = self.hidden_forward(ids, state, keep=False)
        head = self.parameters[self.HEAD]
        loss, _ = linear_cross_entropy_forward(h, head, np.asarray(targets))
        return loss.item(), memory

    def activations(self, batch: int, steps: int) -> int:
        """Return B T E: all positions are computed at once."""
        return batch * steps * int(self.config["width"])

    def rows_of_state(self, state: Memory, rows: npt.ArrayLike | slice) -> Memory:
        """Return the memory of some of the batch's rows, in any order, repeated or not."""
        return state.rows(rows)

    def rows_of_draws(
        self, rng: np.random.Generator, batch: int, rows: slice
    ) -> np.random.Generator:
        """Return what draws for some of the batch's rows as ``rng`` would for all of them."""
        return RowsOfDraws(rng, batch, rows, axis=0)  # (B, T, E) and (B, N, T, T)
