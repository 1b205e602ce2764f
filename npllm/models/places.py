"""Where the tokens of a call stand, after those that a Transformer remembers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array, Ids, Mask, check_ids, check_shape
from npllm.layers.attention import Sight
from npllm.layers.multi_head_attention import KeysAndValues


class Memory(NamedTuple):
    """What a Transformer keeps of the tokens it has read: the state it goes on from.

    Attributes:
        blocks: the keys and values of each block, (B, K, P, D) each.
        lengths: (B,) how many tokens of each row are real.
        real: (B, P), which are; None where all of them are.
    """

    blocks: tuple[KeysAndValues, ...]
    lengths: Ids
    real: Mask | None

    @property
    def steps(self) -> int:
        """P, how many tokens are held for each row, real or not."""
        return int(self.blocks[0][0].shape[2])

    def rows(self, rows: npt.ArrayLike | slice) -> Memory:
        """Return the memory of some of the batch's rows, in any order, repeated or not."""
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        blocks = tuple((keys[rows], values[rows]) for keys, values in self.blocks)
        return Memory(blocks, self.lengths[rows], None if self.real is None else self.real[rows])


class Place(NamedTuple):
    """Where the tokens of a call stand, and which keys they may see.

    Attributes:
        positions: (B, T), or (T,) where all rows stand alike.
        sight: which keys they may see; its mask (B, 1, 1 or T, P + T), or None where all are real.
        lengths: (B,), of the memory after this call.
        real: (B, P + T) or None, of the memory after this call.
    """

    positions: Ids
    sight: Sight
    lengths: Ids
    real: Mask | None


def placed(
    ids: Ids,
    memory: Memory | None,
    lengths: npt.ArrayLike | None,
    context: int,
    window: int | None,
) -> Place:
    """Return where tokens stand and what they may see.

    Args:
        ids: (B, T).
        memory: of the tokens before them.
        lengths: (B,) how much of each row is real, where it is filled up at its end.
        context: how many positions there are.
        window: how many positions back a token sees, itself included; all where None.

    Raises:
        TypeError: the lengths are not integers.
        ValueError: ``ids`` is not (B, T), the memory is of another batch, a length is out of range,
            or there are more tokens than positions.
    """
    if ids.ndim != 2:
        raise ValueError(f"ids must have shape (B, T), got {ids.shape}")
    batch, steps = ids.shape
    past = 0 if memory is None else memory.steps
    before = np.zeros(batch, np.int64) if memory is None else memory.lengths  # (B,)
    if len(before) != batch:
        raise ValueError(f"the memory is of {len(before)} rows, ids have {batch}")
    added: Array = np.full(batch, steps)
    if lengths is not None:
        added = check_ids(lengths, steps + 1, "lengths")
        check_shape(added, (batch,), "lengths")
    after = before + added
    if after.max(initial=0) > context:
        raise ValueError(
            f"the model has {context} positions, and the text {after.max()} tokens: shorten it"
        )
    past_real = None if memory is None else memory.real
    if (lengths is None or (added == steps).all()) and past_real is None:
        sight = Sight(causal=True, window=window)
        return Place(past + np.arange(steps), sight, after, None)
    real = np.arange(steps) < added[:, None]  # (B, T)
    if memory is not None:
        kept = np.ones((batch, past), np.bool_) if past_real is None else past_real
        real = np.concatenate([kept, real], axis=1)  # (B, P + T)
    # what fills a row up stands anywhere: nothing sees it
    positions = np.minimum(before[:, None] + np.arange(steps), context - 1)
    mask = real[:, None, None]  # (B, 1, 1, P + T)
    if window is not None and past_real is not None:
        # what is remembered has gaps: near are tokens, not columns
        stands = real.cumsum(axis=1)[:, None, None] - 1  # (B, 1, 1, P + T)
        mask, window = mask & (positions[:, None, :, None] - stands < window), None
    return Place(positions, Sight(mask, causal=True, window=window), after, real)
