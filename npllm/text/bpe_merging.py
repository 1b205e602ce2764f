"""The heart of byte pair encoding: the bytes of a piece joined into tokens, by rank."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from npllm.text.long_words import LONG, Pair, join_everywhere, pair_counts

NEVER = 1 << 62  # the rank of a pair that was not learned
CACHED_PIECES = 1 << 15
CACHED_LENGTH = 128  # characters; longer pieces hardly come twice


class PieceEncoder(dict[str, bytes]):
    """The ids of a piece, as an array of int64 holds them; those of many pieces are remembered.

    A dictionary, since looking up a known piece is then a step of C.

    Args:
        merges: pairs of ids, first learned first.
        joined: the id that each of them makes.
        of_byte: the id of each byte, None where it has none: it is dropped, and its neighbours
            may be joined.

    >>> encoder = PieceEncoder([(0, 1), (2, 2)], [2, 3], [None] * 97 + [0, 1] + [None] * 157)
    >>> array("q", encoder["ababab"])
    array('q', [3, 2])
    """

    def __init__(
        self, merges: Sequence[Pair], joined: Sequence[int], of_byte: Sequence[int | None]
    ) -> None:
        super().__init__()
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._joined = joined
        self._of_byte = of_byte
        self._in_order = _in_order(merges, joined)

    def __missing__(self, piece: str) -> bytes:
        """Encode a piece that is not remembered."""
        of_bytes = map(self._of_byte.__getitem__, piece.encode("utf-8", "surrogateescape"))
        symbols = [symbol for symbol in of_bytes if symbol is not None]
        merge = self.merge_long if self._in_order else self.merge_by_place
        ids = as_bytes(self.merge_short(symbols) if len(symbols) < LONG else merge(symbols))
        if len(piece) <= CACHED_LENGTH:
            if len(self) >= CACHED_PIECES:
                self.clear()
            self[piece] = ids
        return ids

    def merge_short(self, symbols: list[int]) -> list[int]:
        """Join by rank, the leftmost of equals first: one pass a merge, but a pass of C."""
        rank_of = self._ranks.get
        ranks = [rank_of(pair, NEVER) for pair in pairwise(symbols)]
        while ranks and (rank := min(ranks)) != NEVER:
            i = ranks.index(rank)
            symbols[i : i + 2] = (self._joined[rank],)
            del ranks[i]
            if i:
                ranks[i - 1] = rank_of((symbols[i - 1], symbols[i]), NEVER)
            if i < len(ranks):
                ranks[i] = rank_of((symbols[i], symbols[i + 1]), NEVER)
        return symbols

    def merge_long(self, symbols: list[int]) -> list[int]:
        """Join as :meth:`merge_short` does, all occurrences of a rank at once.

        What a merge makes is joined further by later ones only, so none of them comes between.
        """
        word, rank_of = np.array(symbols, np.int64), self._ranks.get
        counts = pair_counts(word)
        heap = [(rank, pair) for pair in counts if (rank := rank_of(pair)) is not None]
        heapq.heapify(heap)
        while heap:
            rank, pair = heapq.heappop(heap)
            if counts[pair] > 0:
                word, gone, come = join_everywhere(word, pair, self._joined[rank])
                counts.subtract(gone)
                counts.update(come)
                for new in come:
                    if (later := rank_of(new)) is not None:
                        heapq.heappush(heap, (later, new))
        ids: list[int] = word.tolist()
        return ids

    def merge_by_place(self, symbols: list[int]) -> list[int]:
        """Join as :meth:`merge_short` does, with a heap of ranks over a linked list."""
        n = len(symbols)
        symbols = [*symbols, -1]  # no id: what is before the first and after the last
        after = [*range(1, n + 1), n]
        before = [*range(-1, n)]
        rank_of = self._ranks.get
        heap = [
            (rank, i)
            for i, pair in enumerate(pairwise(symbols))
            if (rank := rank_of(pair)) is not None
        ]
        heapq.heapify(heap)
        while heap:
            rank, i = heapq.heappop(heap)
            j = after[i]
            if rank_of((symbols[i], symbols[j])) != rank:
                continue  # one of the two has been joined meanwhile
            symbols[i], symbols[j] = self._joined[rank], -1
            k = after[i] = after[j]
            before[k] = i
            for left, right in ((before[i], i), (i, k)):
                if (new := rank_of((symbols[left], symbols[right]))) is not None:
                    heapq.heappush(heap, (new, left))
        return [symbol for symbol in symbols if symbol >= 0]


def _in_order(merges: Sequence[Pair], joined: Sequence[int]) -> bool:
    """Whether each merge is of tokens that earlier ones make, and no later one does."""
    made = {token: rank for rank, token in enumerate(joined)}  # the last that makes it
    return all(
        made.get(left, -1) < rank and made.get(right, -1) < rank
        for rank, (left, right) in enumerate(merges)
    )


def as_bytes(ids: list[int]) -> bytes:
    """Return ids as an array of int64 holds them."""
    return array("q", ids).tobytes()
