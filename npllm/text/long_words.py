"""Joining pairs in a piece of very many tokens, all occurrences of a pair at once.

A list is walked in Python; here the piece is an array, and a merge is a few passes of NumPy over
it. What neighbours what changes only beside the places that are joined.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

Pair = tuple[int, int]
Word = npt.NDArray[np.int64]

LONG = 256  # tokens from which an array pays
_HALF = 32  # bits of an id in the code of a pair


def pair_counts(word: Word, at: npt.NDArray[np.int64] | None = None) -> Counter[Pair]:
    """Return how often each pair of neighbours occurs, at some places or at all."""
    left = word[:-1] if at is None else word[at]
    right = word[1:] if at is None else word[at + 1]
    codes, counts = np.unique(left << _HALF | right, return_counts=True)
    low = (1 << _HALF) - 1
    pairs = [(code >> _HALF, code & low) for code in codes.tolist()]
    return Counter(dict(zip(pairs, counts.tolist(), strict=True)))


def join_everywhere(word: Word, pair: Pair, new: int) -> tuple[Word, Counter[Pair], Counter[Pair]]:
    """Return the word with each occurrence of a pair joined from the left, the pairs gone and come.

    >>> word, gone, come = join_everywhere(np.array([1, 1, 1, 2]), (1, 1), 3)
    >>> word.tolist(), gone, come
    ([3, 1, 2], Counter({(1, 1): 2}), Counter({(3, 1): 1}))
    """
    left, right = pair
    at = np.flatnonzero((word[:-1] == left) & (word[1:] == right))
    if left == right and len(at):  # of a run every other one
        begins = np.flatnonzero(np.diff(at, prepend=-2) != 1)
        lengths = np.diff(begins, append=len(at))
        at = at[(np.arange(len(at)) - np.repeat(begins, lengths)) % 2 == 0]
    last = len(word) - 2  # where the last pair is
    touched = np.unique(np.concatenate([at - 1, at, at + 1]))
    gone = pair_counts(word, touched[(touched >= 0) & (touched <= last)])
    word = word.copy()
    word[at] = new
    kept = np.ones(len(word), np.bool_)
    kept[at + 1] = False
    word = word[kept]
    at = at - np.arange(len(at))
    touched = np.unique(np.concatenate([at - 1, at]))
    come = pair_counts(word, touched[(touched >= 0) & (touched <= len(word) - 2)])
    return word, gone, come
