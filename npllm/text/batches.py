"""Batches of token ids and the tokens that follow them.

Both kinds are sequences without end, ``batches[step]``: a batch depends on the ids, the seed and
the step alone. The position in the data is the step, and training goes on from any of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.text.tokenizers import Ids


class Batch(NamedTuple):
    """Inputs, and at each position the token that follows.

    Attributes:
        ids: (B, T).
        targets: (B, T).
        continues: whether row b goes on where row b of the batch before ended, so that a model may
            carry its state over.
    """

    ids: Ids
    targets: Ids
    continues: bool

    @property
    def arguments(self) -> tuple[Ids, Ids]:
        """What a model's ``loss_and_gradients`` takes of it."""
        return self.ids, self.targets

    @property
    def counted(self) -> int:
        """How many targets there are."""
        return self.targets.size

    def rows(self, rows: slice) -> Batch:
        """Return some of its rows."""
        return Batch(self.ids[rows], self.targets[rows], self.continues)


class ContiguousBatches:
    """The text cut in B streams that are read side by side, T tokens at a step.

    For truncated backpropagation through time with carried states: a batch continues the one
    before, until the streams end and all begin anew. Up to B T tokens at the very end of the
    streams are not seen.

    Args:
        ids: the text.
        batch_size: B.
        length: T.

    Raises:
        ValueError: a size is below 1, or the text has fewer than B T + 1 tokens.

    >>> batches = ContiguousBatches(np.arange(9), batch_size=2, length=2)
    >>> batches[1].ids.tolist(), batches[1].targets.tolist(), batches[1].continues
    ([[2, 3], [6, 7]], [[3, 4], [7, 8]], True)
    """

    def __init__(self, ids: Ids, batch_size: int, length: int) -> None:
        _check(ids, batch_size, length, batch_size * length)
        stream = (len(ids) - 1) // batch_size
        used = batch_size * stream
        self._inputs = ids[:used].reshape(batch_size, stream)
        self._targets = ids[1 : used + 1].reshape(batch_size, stream)
        self._length = length
        self.steps_per_epoch = stream // length

    def __getitem__(self, step: int) -> Batch:
        position = step % self.steps_per_epoch
        window = slice(position * self._length, (position + 1) * self._length)
        return Batch(self._inputs[:, window], self._targets[:, window], position > 0)


class ShuffledWindows:
    """Windows of T tokens in random order, each starting from a zero state.

    An epoch shows a window once, except those too few for a last batch, which it leaves out; each
    epoch shifts the windows' grid and draws a new order.

    Args:
        ids: the text.
        batch_size: B.
        length: T.
        seed: of the shifts and orders.

    Raises:
        ValueError: a size is below 1, or the text has fewer than B T + 1 tokens.

    >>> batch = ShuffledWindows(np.arange(9), batch_size=2, length=3, seed=0)[0]
    >>> bool((batch.targets == batch.ids + 1).all()), batch.continues
    (True, False)
    """

    def __init__(self, ids: Ids, batch_size: int, length: int, seed: int = 0) -> None:
        _check(ids, batch_size, length, batch_size * length)
        self._ids, self._batch_size, self._length, self._seed = ids, batch_size, length, seed
        self._shifts = min(length, len(ids) - batch_size * length)
        windows = (len(ids) - self._shifts) // length
        self.steps_per_epoch = windows // batch_size
        self._windows = windows
        self._epoch, self._starts = -1, np.empty(0, np.int64)

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng((self._seed, epoch))
            shift = rng.integers(self._shifts)
            self._starts = shift + self._length * rng.permutation(self._windows)
            self._epoch = epoch
        rows = slice(position * self._batch_size, (position + 1) * self._batch_size)
        window = self._starts[rows, None] + np.arange(self._length)  # (B, T)
        return Batch(self._ids[window], self._ids[window + 1], False)


def _check(ids: Ids, batch_size: int, length: int, needed: int) -> None:
    for name, size in {"batch_size": batch_size, "length": length}.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if len(ids) <= needed:
        raise ValueError(
            f"{batch_size} windows of {length} tokens need {needed + 1} tokens of text, "
            f"got {len(ids)}: use a longer text, or a smaller batch_size or length"
        )
