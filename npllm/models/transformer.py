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
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
    linear_forward,
)
from npllm.layers.arrays import Array, check_ids, check_shape
from npllm.models.language_model import LossAndGradients, last_tokens
from npllm.models.parameters import Parameters

# Attention comes in tiles where a block's scores are more than these, 64 MB in float32, and those
# of a head by itself enough to be worth a tile.
SCORES, SCORES_OF_A_HEAD = 2**24, 2**16


class Memory(NamedTuple):
    """What a Transformer keeps of the tokens it has read: the state it goes on from.

    Attributes:
        blocks: the keys and values of each block, (B, K, P, D) each.
        lengths: (B,) how many tokens of each row are real.
        real: (B, P), which are; None where all of them are.
    """

    blocks: tuple[tuple[Array, Array], ...]
    lengths: Array
    real: Array | None


class Place(NamedTuple):
    """Where the tokens of a call stand, and which keys they may see.

    Attributes:
        positions: (B, T), or (T,) where all rows stand alike.
        mask: (B, 1, 1 or T, P + T), which keys are real; None where all are.
        near: whether the mask leaves out what is beyond the model's window.
        lengths: (B,), of the memory after this call.
        real: (B, P + T) or None, of the memory after this call.
    """

    positions: Array
    mask: Array | None
    near: bool
    lengths: Array
    real: Array | None


class Transformer(ABC):
    """A decoder: logits = head(norm(blocks(embed(ids)))).

    Args:
        config: what the model was made with; ``vocab_size``, ``context``, ``width``,
            ``num_layers`` and ``dropout`` among it.
        block: the shape of each of a block's parameters, by its name within the block.
        tie_weights: whether the head is the token embedding.
        dtype: float32, float64 or, for the complex step, complex128.
    """

    TOKENS: ClassVar[str]  # the names of the parameters
    POSITIONS: ClassVar[str | None]  # None: they are rotary
    BLOCK: ClassVar[str]  # with a place for the block's number
    BLOCK_OPTIONS: ClassVar[tuple[str, ...]]  # what a block takes of the config
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

    def rotary(self, positions: Array) -> Any:
        """Return the rotary table of the positions, in a model without a table of its own."""
        raise NotImplementedError

    @abstractmethod
    def norm_forward(self, x: Array) -> tuple[Array, Any]:
        """Normalize the last block's output."""

    @abstractmethod
    def norm_backward(self, dy: Array, cache: Any) -> tuple[Array, ...]:
        """Return dx and the gradients of the norm's parameters."""

    def hidden_forward(
        self,
        ids: npt.ArrayLike,
        state: Memory | None = None,
        rng: np.random.Generator | None = None,
        lengths: npt.ArrayLike | None = None,
        keep: bool = True,
        tiled: bool = True,
    ) -> tuple[tuple[Array, Memory], Any]:
        """Return what the head sees, (B, T, E), and the memory; and the backward's cache.

        Where nothing is to be differentiated, ``keep=False`` holds one block's cache at a time.
        ``tiled`` lets long texts, without dropout, have :mod:`npllm.layers.tiled_attention`.
        """
        p, place = self.parameters, self._place(ids, state, lengths)
        rate = self.config["dropout"] if rng is not None else 0.0
        x, token_cache = embedding_forward(ids, p[self.TOKENS])  # (B, T, E)
        position_cache = None
        if self.POSITIONS is not None:
            where, position_cache = embedding_forward(place.positions, p[self.POSITIONS])
            x += where
        x, dropout_cache = dropout_forward(x, rate, rng)
        options = {name: self.config[name] for name in self.BLOCK_OPTIONS}
        if self.POSITIONS is None:
            options["rotary"] = self.rotary(place.positions)
        options |= {"mask": place.mask, "dropout": rate, "rng": rng}
        batch, steps, _ = x.shape
        scores = steps * (_steps_of(state) + steps)  # of a head
        many = scores >= SCORES_OF_A_HEAD and batch * self.config["heads"] * scores > SCORES
        options["tiled"] = tiled and rate == 0 and many
        if place.near:
            options["window"] = None
        blocks, caches = [], []
        for n in range(self.config["num_layers"]):
            own = {name: p[self.BLOCK.format(n) + name] for name in self._block}
            past = None if state is None else state.blocks[n]
            (x, kept), cache = self.block_forward(x, own, past=past, **options)
            blocks.append(kept)
            if keep:
                caches.append(cache)
        h, norm_cache = self.norm_forward(x)
        memory = Memory(tuple(blocks), place.lengths, place.real)
        return (h, memory), (token_cache, position_cache, dropout_cache, caches, norm_cache)

    def hidden_backward(self, dh: Array, cache: Any) -> Parameters:
        """Return the gradients of all parameters, as far as they come through the hidden state."""
        gradients = self.parameters.zeros_like()
        token_cache, position_cache, dropout_cache, caches, norm_cache = cache
        # h = norm(x)
        dx, *dnorm = self.norm_backward(dh, norm_cache)
        for name, gradient in zip(self.NORM, dnorm, strict=True):
            gradients[name] += gradient
        # x = block(x)
        for n in reversed(range(self.config["num_layers"])):
            dx, own = self.block_backward((dx, None), caches[n])
            for name, gradient in own.items():
                gradients[self.BLOCK.format(n) + name] += gradient
        # x = dropout(tokens + positions)
        dx = dropout_backward(dx, dropout_cache)
        if self.POSITIONS is not None:
            where = dx.sum(axis=0) if position_cache[0].ndim == 1 else dx
            gradients[self.POSITIONS] += embedding_backward(where, position_cache)
        # a tied matrix adds to what the head gives it
        gradients[self.TOKENS] += embedding_backward(dx, token_cache)
        return gradients

    def forward(
        self,
        ids: npt.ArrayLike,
        state: Memory | None = None,
        rng: np.random.Generator | None = None,
        lengths: npt.ArrayLike | None = None,
    ) -> tuple[Array, Any]:
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
        (h, memory), hidden_cache = self.hidden_forward(ids, state, rng, lengths, tiled=False)
        logits, head_cache = linear_forward(h, self.parameters[self.HEAD])  # (B, T, V)
        return logits, _Cache(memory, hidden_cache, head_cache)

    def backward(self, dlogits: Array, cache: Any) -> Parameters:
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

    def attention_weights(self, cache: Any) -> list[Array]:
        """Return each block's attention weights, (B, N, T, P + T), P tokens being remembered.

        Row t of a head is how much token t takes of each token up to itself.

        Args:
            cache: what :meth:`forward` returned.
        """
        _, _, _, caches, _ = cache.hidden
        return [self.block_weights(block) for block in caches]

    def loss_and_gradients(
        self,
        ids: npt.ArrayLike,
        targets: npt.ArrayLike,
        state: None = None,
        rng: np.random.Generator | None = None,
    ) -> LossAndGradients:
        """Return the summed cross-entropy of the targets, its gradients and their number.

        The logits of all positions are never held, see :mod:`npllm.layers.linear_cross_entropy`.

        Args:
            ids: (B, T) integers in [0, V).
            targets: (B, T): the token that follows each; -100 where none counts.
            state: None: every window starts anew.
            rng: as for :meth:`forward`.
        """
        targets = np.asarray(targets)
        (h, _), cache = self.hidden_forward(ids, state, rng)
        loss, loss_cache = linear_cross_entropy_forward(h, self.parameters[self.HEAD], targets)
        dh, dhead = linear_cross_entropy_backward(1.0, loss_cache)
        gradients = self.hidden_backward(dh, cache)
        gradients[self.HEAD] += dhead
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
        (h, memory), _ = self.hidden_forward(ids, state, None, lengths, keep=False)
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

    def select(self, state: Memory, rows: npt.ArrayLike) -> Memory:
        """Return the memory of some of the batch's rows, in any order, repeated or not."""
        rows = np.asarray(rows)
        blocks = tuple((keys[rows], values[rows]) for keys, values in state.blocks)
        real = None if state.real is None else state.real[rows]
        return Memory(blocks, state.lengths[rows], real)

    def _place(self, ids: npt.ArrayLike, state: Memory | None, lengths: Any) -> Place:
        """Return where the tokens stand and what they may see."""
        ids = check_ids(ids, self.config["vocab_size"])
        if ids.ndim != 2:
            raise ValueError(f"ids must have shape (B, T), got {ids.shape}")
        batch, steps = ids.shape
        before = np.zeros(batch, np.int64) if state is None else state.lengths  # (B,)
        if len(before) != batch:
            raise ValueError(f"the memory is of {len(before)} rows, ids have {batch}")
        added: Array = np.full(batch, steps)
        if lengths is not None:
            added = check_ids(lengths, steps + 1, "lengths")
            check_shape(added, (batch,), "lengths")
        after = before + added
        if after.max(initial=0) > self.context:
            raise ValueError(
                f"the model has {self.context} positions, and the text {after.max()} tokens: "
                "shorten it"
            )
        past_real = None if state is None else state.real
        if (lengths is None or (added == steps).all()) and past_real is None:
            return Place(_steps_of(state) + np.arange(steps), None, False, after, None)
        real = np.arange(steps) < added[:, None]  # (B, T)
        if state is not None:
            kept = np.ones((batch, _steps_of(state)), np.bool_) if past_real is None else past_real
            real = np.concatenate([kept, real], axis=1)  # (B, P + T)
        # what fills a row up stands anywhere: nothing sees it
        positions = np.minimum(before[:, None] + np.arange(steps), self.context - 1)
        mask = real[:, None, None]  # (B, 1, 1, P + T)
        window = self.config.get("window")
        near = window is not None and past_real is not None
        if near:  # what is remembered has gaps: near are tokens, not columns
            stands = real.cumsum(axis=1)[:, None, None] - 1  # (B, 1, 1, P + T)
            mask = mask & (positions[:, None, :, None] - stands < window)
        return Place(positions, mask, near, after, real)


def _steps_of(state: Memory | None) -> int:
    """Return P, how many tokens a memory holds for each row, real or not."""
    return 0 if state is None else int(state.blocks[0][0].shape[2])


class _Cache(NamedTuple):
    state: Memory
    hidden: Any
    head: Any
