"""The n-grams of a text and how often they occur, in sorted arrays of integers.

An n-gram's code is the rank of its prefix, all but its last word, among the n-grams one word
shorter, times the number of words, plus its last word. So a code fits into 64 bits at any order,
where the number of words to the power of the order would not; what may follow a prefix stands side
by side; and a rank is found by bisection.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import tally

Integers = npt.NDArray[np.int64]

NONE = -1  # in the place of a word, or of a rank, where a text has not begun
UNSEEN = -2  # in the place of the rank of an n-gram that does not occur


class Grams(NamedTuple):
    """The n-grams of one order that occur, in the order of their codes.

    The empty one has the rank 0; a single word has its id, whether it occurs or not.

    Attributes:
        codes: (G,) rank of the prefix times the number of words, plus the last word.
        counts: (G,) how often each occurs.
        suffixes: (G,) the rank of the n-gram without its first word.
        initial: (G,) whether it begins with the mark of a beginning.
    """

    codes: Integers
    counts: Integers
    suffixes: Integers
    initial: npt.NDArray[np.bool_]


def find(codes: Integers, words: int, prefixes: Integers, last: Integers) -> Integers:
    """Return the ranks of n-grams among ``codes``; UNSEEN, and NONE where a part is NONE.

    Args:
        codes: (G,) sorted.
        words: how many there are.
        prefixes: the ranks of their prefixes.
        last: their last words.

    >>> find(np.array([1, 5]), 3, np.array([0, 1, 1, NONE]), np.array([1, 2, 0, 2])).tolist()
    [0, 1, -2, -1]
    """
    wanted = prefixes * np.int64(words) + last
    ranks = np.searchsorted(codes, wanted).astype(np.int64)
    found = ranks < len(codes)  # and no code is below 0
    found[found] = codes[ranks[found]] == wanted[found]
    ranks[~found] = UNSEEN
    ranks[(prefixes == NONE) | (last == NONE)] = NONE
    return ranks


def count(ids: Integers, words: int, order: int) -> list[Grams]:
    """Return the n-grams of each order from 1 that occur in a text.

    None of them goes over the beginning of a sentence.

    Args:
        ids: (T,) the words, with ``words - 1`` before each sentence, the mark of its beginning.
        words: how many there are, the mark among them.
        order: the highest.

    >>> unigrams, bigrams = count(np.array([2, 0, 1, 0]), 3, 2)  # a mark, then a b a
    >>> unigrams.counts.tolist(), bigrams.codes.tolist()  # a b, b a, mark a
    ([2, 1, 1], [1, 3, 6])
    """
    mark = words - 1
    everywhere = np.arange(words, dtype=np.int64)
    counts = tally(ids).astype(np.int64)  # the mark is among them, the highest
    grams = [Grams(everywhere, counts, np.zeros(words, np.int64), everywhere == mark)]
    inside = ids[1:] != mark  # has the word before it in its sentence
    ranks = ids
    for _ in range(2, order + 1):
        prefixes = np.where(inside, ranks[:-1], NONE)
        there = np.flatnonzero(prefixes >= 0)
        codes, first, inverse, counts = np.unique(
            prefixes[there] * np.int64(words) + ids[1:][there],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        suffixes = ranks[1:][there[first]]
        grams.append(Grams(codes, counts, suffixes, grams[-1].initial[codes // words]))
        ranks = np.full(len(ids), NONE, np.int64)
        ranks[1:][there] = inverse
    return grams
