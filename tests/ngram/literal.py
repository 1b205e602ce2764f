"""The smoothings as their papers have them, in fractions and dictionaries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from npllm.ngram.smoothing import USUAL_DISCOUNTS

MARK = "<s>"
Gram = tuple[object, ...]


class Literal:
    """p(w | h), as the formulas read.

    Args:
        sentences: of words.
        vocabulary: what may be predicted.
        order: n.
        smoothing: by name.
        k: of add-k.
    """

    def __init__(self, sentences, vocabulary: Sequence[object], order: int, smoothing: str, k=1):
        self.v, self.order, self.smoothing, self.k = list(vocabulary), order, smoothing, Fraction(k)
        self.c: Counter[Gram] = Counter()
        for sentence in sentences:
            words = (MARK, *sentence)
            for m in range(1, order + 1):
                self.c.update(words[i : i + m] for i in range(len(words) - m + 1))
        del self.c[MARK,]
        self.counts = self.c
        if smoothing == "kneser-ney":
            left = Counter(gram[1:] for gram in self.c if len(gram) > 1)
            self.counts = Counter(
                {g: n if len(g) == order or g[0] == MARK else left[g] for g, n in self.c.items()}
            )
        self.discounts = [self.discounts_of(m) for m in range(1, order + 1)]

    def discounts_of(self, m: int):
        of_order = [n for gram, n in self.counts.items() if len(gram) == m]
        n1, n2, n3, n4 = (of_order.count(r) for r in (1, 2, 3, 4))
        if n1 and n2 and n3:
            y = Fraction(n1, n1 + 2 * n2)
            d = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
            if all(0 <= each <= r for r, each in enumerate(d, 1)):
                return d
        return tuple(map(Fraction, USUAL_DISCOUNTS))

    def p(self, word: object, history: Gram) -> Fraction:
        """Return p(word | history), the history being what there is of it."""
        h = history[max(0, len(history) - self.order + 1) :]
        return getattr(self, self.smoothing.replace("-", "_"))(word, h)

    def after(self, h: Gram) -> dict[object, int]:
        """Return the words after a history, with their counts."""
        return {w: self.counts[(*h, w)] for w in self.v if self.counts[(*h, w)]}

    def add_k(self, word: object, h: Gram) -> Fraction:
        c_h = sum(self.after(h).values())
        return (self.counts[(*h, word)] + self.k) / (c_h + self.k * len(self.v))

    def witten_bell(self, word: object, h: Gram) -> Fraction:
        lower = self.witten_bell(word, h[1:]) if h else Fraction(1, len(self.v))
        after = self.after(h)
        if not after:
            return lower
        t = len(after)
        return (self.counts[(*h, word)] + t * lower) / (sum(after.values()) + t)

    def kneser_ney(self, word: object, h: Gram) -> Fraction:
        lower = self.kneser_ney(word, h[1:]) if h else Fraction(1, len(self.v))
        after = self.after(h)
        if not after:
            return lower
        d = (0, *self.discounts[len(h)])
        n = self.counts[(*h, word)]
        total = sum(after.values())
        gamma = sum(d[min(r, 3)] for r in after.values()) / total
        return (n - d[min(n, 3)]) / total + gamma * lower
