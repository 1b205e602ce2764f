"""Which pairs byte pair encoding joins: the most frequent one, again and again."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from npllm.text.long_words import LONG, Pair, Word, join_everywhere, pair_counts


def learn_merges(pieces: Iterable[str], tokens: list[bytes], size: int) -> list[Pair]:
    """Return pairs of ids, most frequent first, and append the tokens they make.

    After each merge only the pieces that held its pair are counted anew. Ties go to the pair of
    smaller ids, which makes the merges those of tokenizers' ``BpeTrainer``. No two pairs make the
    same bytes, since what lies within a token was joined the same way wherever the token stands.

    Args:
        pieces: of the text to learn from; none is joined across its ends.
        tokens: the bytes of each id, all 256 single bytes among them; it grows to ``size`` or until
            no pair is left.
        size: how many tokens there shall be.

    >>> tokens = [bytes([byte]) for byte in range(256)]
    >>> learn_merges(["abab", "ab"], tokens, 258), tokens[256:]
    ([(97, 98), (256, 256)], [b'ab', b'abab'])
    """
    ids = {token: i for i, token in enumerate(tokens)}
    of_byte = [ids[bytes([byte])] for byte in range(256)]
    frequencies = Counter(pieces)
    weights = list(frequencies.values())
    words = [_word(piece.encode(), of_byte) for piece in frequencies]
    counts: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)  # the words that hold a pair, or did
    for number, (word, weight) in enumerate(zip(words, weights, strict=True)):
        pairs = pair_counts(word) if isinstance(word, np.ndarray) else Counter(pairwise(word))
        for pair, times in pairs.items():
            counts[pair] += weight * times
            holders[pair].add(number)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while len(tokens) < size and heap:
        count, pair = heapq.heappop(heap)
        if -count != counts[pair]:  # it sank since it was pushed; where it rose it was pushed again
            if counts[pair]:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        merges.append(pair)
        joined = tokens[pair[0]] + tokens[pair[1]]
        new = ids.setdefault(joined, len(tokens))  # known already where it is a special token
        if new == len(tokens):
            tokens.append(joined)
        risen = set()
        for number in holders.pop(pair):
            word, weight = words[number], weights[number]
            if isinstance(word, np.ndarray):
                words[number], gone, come = join_everywhere(word, pair, new)
            else:
                words[number] = after = _join(word, pair, new)
                gone, come = Counter(pairwise(word)), Counter(pairwise(after))
            for old, times in gone.items():
                counts[old] -= weight * times
            for now, times in come.items():
                counts[now] += weight * times
                if new in now:
                    holders[now].add(number)
                    risen.add(now)
        for now in risen:
            heapq.heappush(heap, (-counts[now], now))
    return merges


def _word(piece: bytes, of_byte: list[int]) -> list[int] | Word:
    """Return the ids of a piece's bytes, as an array where there are many."""
    if len(piece) < LONG:
        return [of_byte[byte] for byte in piece]
    return np.array(of_byte, np.int64)[np.frombuffer(piece, np.uint8)]


def _join(word: list[int], pair: Pair, new: int) -> list[int]:
    """Return a word with each occurrence of a pair joined, from the left."""
    left, right = pair
    joined = []
    i, last = 0, len(word) - 1
    while i <= last:
        if word[i] == left and i < last and word[i + 1] == right:
            joined.append(new)
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return joined
