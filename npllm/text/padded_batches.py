"""Batches of texts of unequal lengths, filled up at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from npllm.text.tokenizers import Ids

POOL = 32  # batches among which texts of like lengths are put together


class LabelledBatch(NamedTuple):
    """Texts and their labels.

    Attributes:
        ids: (B, T), zeros behind each text.
        lengths: (B,).
        labels: (B,).
    """

    ids: Ids
    lengths: Ids
    labels: Ids

    @property
    def continues(self) -> bool:
        """No text goes on from the batch before."""
        return False

    @property
    def arguments(self) -> tuple[Ids, Ids, Ids]:
        """What a classifier's ``loss_and_gradients`` takes of it."""
        return self.ids, self.lengths, self.labels

    @property
    def counted(self) -> int:
        """How many labels there are."""
        return len(self.labels)

    def rows(self, rows: slice) -> LabelledBatch:
        """Return some of its rows."""
        return LabelledBatch(self.ids[rows], self.lengths[rows], self.labels[rows])


def padded(texts: Sequence[Ids]) -> tuple[Ids, Ids]:
    """Return (B, T) ids, zeros behind each text, and their lengths (B,).

    >>> ids, lengths = padded([np.array([3, 4]), np.array([5])])
    >>> ids.tolist(), lengths.tolist()
    ([[3, 4], [5, 0]], [2, 1])
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    ids = np.zeros((len(texts), lengths.max(initial=0)), np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    return ids, lengths


class PooledBatches:
    """Texts in random order, without end, each once an epoch.

    Within some batches' worth of texts those of like lengths come together, so that little is
    filled up; the last batch of an epoch may have fewer.

    Args:
        lengths: (N,) of the texts.
        batch_size: B.
        seed: of the orders.

    Attributes:
        steps_per_epoch: how many batches show all texts once.
    """

    def __init__(self, lengths: Ids, batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self.steps_per_epoch = -(-len(lengths) // batch_size)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def places(self, step: int) -> Ids:
        """Return which texts the batch of a step has."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order, self._epoch = self._ordered(epoch), epoch
        size = self._batch_size
        return self._order[position * size : (position + 1) * size]

    def _ordered(self, epoch: int) -> Ids:
        """Return the order of an epoch: random, by length within pools, the batches random."""
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._lengths))
        size = self._batch_size
        batches = []
        for start in range(0, len(order), POOL * size):
            part = order[start : start + POOL * size]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += [part[i : i + size] for i in range(0, len(part), size)]
        whole = [batch for batch in batches if len(batch) == size]
        short = [batch for batch in batches if len(batch) < size]  # the last, if there is one
        mixed = [whole[i] for i in rng.permutation(len(whole))]
        return np.concatenate([*mixed, *short])


class LabelledBatches(PooledBatches):
    """Labelled texts.

    Args:
        texts: the ids of each.
        labels: (N,).
        batch_size: see :class:`PooledBatches`.
        seed: see there.

    >>> texts = [np.arange(n) for n in (3, 1, 2)]
    >>> batches = LabelledBatches(texts, np.array([0, 1, 1]), batch_size=2, seed=0)
    >>> batches.steps_per_epoch, sorted(int(n) for i in range(2) for n in batches[i].lengths)
    (2, [1, 2, 3])
    """

    def __init__(self, texts: Sequence[Ids], labels: Ids, batch_size: int, seed: int = 0) -> None:
        super().__init__(np.array([len(text) for text in texts]), batch_size, seed)
        self._texts, self._labels = list(texts), labels

    def __getitem__(self, step: int) -> LabelledBatch:
        places = self.places(step)
        ids, lengths = padded([self._texts[i] for i in places])
        return LabelledBatch(ids, lengths, self._labels[places])


class PairedBatch(NamedTuple):
    """Texts and their translations.

    Attributes:
        source: (B, S), zeros behind each text.
        lengths: (B,) of the sources.
        ids: (B, T), the mark and the translation, marks behind it.
        targets: (B, T), the translation and the mark, -100 behind it.
    """

    source: Ids
    lengths: Ids
    ids: Ids
    targets: Ids

    @property
    def continues(self) -> bool:
        """No text goes on from the batch before."""
        return False

    @property
    def arguments(self) -> tuple[Ids, Ids, Ids, Ids]:
        """What a translator's ``loss_and_gradients`` takes of it."""
        return self.source, self.lengths, self.ids, self.targets

    @property
    def counted(self) -> int:
        """How many targets there are."""
        return int(np.count_nonzero(self.targets != -100))

    def rows(self, rows: slice) -> PairedBatch:
        """Return some of its rows."""
        return PairedBatch(*(array[rows] for array in self.arguments))


def paired(sources: Sequence[Ids], targets: Sequence[Ids], mark: int) -> PairedBatch:
    """Return the batch of texts and their translations.

    >>> batch = paired([np.array([5])], [np.array([3, 4])], mark=9)
    >>> batch.ids.tolist(), batch.targets.tolist()
    ([[9, 3, 4]], [[3, 4, 9]])
    """
    source, lengths = padded(sources)
    steps = 1 + max(map(len, targets), default=0)
    ids = np.full((len(targets), steps), mark)
    wanted = np.full((len(targets), steps), -100)
    for row, goal, text in zip(ids, wanted, targets, strict=True):
        row[1 : len(text) + 1] = text
        goal[: len(text)] = text
        goal[len(text)] = mark
    return PairedBatch(source, lengths, ids, wanted)


class PairedBatches(PooledBatches):
    """Texts and their translations.

    Args:
        sources: the ids of each text.
        targets: those of its translation.
        mark: the id at which a translation begins and ends.
        batch_size: see :class:`PooledBatches`.
        seed: see there.
    """

    def __init__(
        self,
        sources: Sequence[Ids],
        targets: Sequence[Ids],
        mark: int,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        lengths = np.array([len(a) + len(b) for a, b in zip(sources, targets, strict=True)])
        super().__init__(lengths, batch_size, seed)
        self._sources, self._targets, self._mark = list(sources), list(targets), mark

    def __getitem__(self, step: int) -> PairedBatch:
        places = self.places(step)
        sources = [self._sources[i] for i in places]
        return paired(sources, [self._targets[i] for i in places], self._mark)
