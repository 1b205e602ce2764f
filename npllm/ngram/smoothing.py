"""Probabilities of n-grams that have been counted: three ways to leave some to those unseen.

Each has the form

    p(w | h) = f(h w) + b(h) p(w | h'),

h' being h without its first word: f takes something from what was counted, and b(h) hands it on to
a shorter history. The empty history hands it on to the uniform distribution, 1 / V. Chen and
Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1999), sections 2 and
3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.layers.arrays import Array, tally
from npllm.ngram.counts import Grams, Integers

SMOOTHINGS = ("add-k", "witten-bell", "kneser-ney")

# where a text is too small, or not like others
USUAL_DISCOUNTS = (0.5, 1.0, 1.5)


class Table(NamedTuple):
    """The n-grams of one order with their probabilities.

    Attributes:
        codes: (G,) see :class:`npllm.ngram.counts.Grams`.
        log_p: (G,) log p(w | h) of each, in nats.
        log_b: (G,) log b of each as a history: the weight of what is handed on to its suffix. 0 of
            the highest order, which is nobody's history.
    """

    codes: Integers
    log_p: Array
    log_b: Array


def smooth(grams: list[Grams], words: int, smoothing: str, k: float) -> list[Table]:
    """Return the tables of all orders.

    Args:
        grams: of each order from 1.
        words: how many there are, the mark of a beginning among them, which is never predicted.
        smoothing: "add-k", "witten-bell" or "kneser-ney".
        k: what add-k adds to every count.

    Raises:
        ValueError: there is no such smoothing.
    """
    predicted = words - 1
    uniform = np.array([1 / predicted])  # p of the empty n-gram's only continuation, so to say
    lower: Array = uniform
    tables: list[Table] = []
    for order, own in enumerate(grams, 1):
        counts = adjusted(grams, order) if smoothing == "kneser-ney" else own.counts
        counts = np.where(own.codes % words == predicted, 0, counts)
        prefixes = own.codes // words
        histories = 1 if order == 1 else len(grams[order - 2].codes)
        if smoothing == "add-k":
            taken, b = add_k(counts, prefixes, histories, k, predicted)
            lower = uniform[np.zeros(len(counts), np.int64)]
        elif smoothing == "witten-bell":
            taken, b = witten_bell(counts, prefixes, histories)
            lower = lower[own.suffixes]
        elif smoothing == "kneser-ney":
            taken, b = kneser_ney(counts, prefixes, histories)
            lower = lower[own.suffixes]
        else:
            raise ValueError(f"smoothing must be one of {', '.join(SMOOTHINGS)}, got {smoothing}")
        lower = taken + b[prefixes] * lower
        with np.errstate(divide="ignore"):  # of b, where nothing is discounted
            tables.append(Table(own.codes, np.log(lower), np.zeros(len(lower))))
            if order > 1:
                tables[-2] = tables[-2]._replace(log_b=np.log(b))
    return tables


def adjusted(grams: list[Grams], order: int) -> Integers:
    """Return the counts that Kneser-Ney takes: of how many different words each n-gram comes after.

    Those of the highest order are as they occur, and so are those at the beginning of a sentence,
    which come after nothing.
    """
    own = grams[order - 1]
    if order == len(grams):
        return own.counts
    different = tally(grams[order].suffixes, size=len(own.codes))
    return np.where(own.initial, own.counts, different)


def add_k(
    counts: Integers, prefixes: Integers, histories: int, k: float, predicted: int
) -> tuple[Array, Array]:
    """Return f and b of p(w | h) = (c(h w) + k) / (c(h) + k V), Chen and Goodman's equation 6.

    b(h) = k V / (c(h) + k V) goes to the uniform distribution at once.
    """
    total = tally(prefixes, counts, histories) + k * predicted
    return counts / total[prefixes], k * predicted / total


def witten_bell(counts: Integers, prefixes: Integers, histories: int) -> tuple[Array, Array]:
    """Return f and b of Witten and Bell's smoothing, Chen and Goodman's section 2.6.

    With T(h) different words after h, f = c(h w) / (c(h) + T(h)), b = T(h) / (c(h) + T(h)): a word
    is as likely to be new as new ones have been frequent.
    """
    total = tally(prefixes, counts, histories)
    different = tally(prefixes, counts > 0, histories)
    whole = total + different
    return counts / whole[prefixes], _left(different, whole)


def kneser_ney(counts: Integers, prefixes: Integers, histories: int) -> tuple[Array, Array]:
    """Return f and b of modified Kneser-Ney smoothing, Chen and Goodman's equation 26.

    f = (c(h w) - D(c)) / c(h), and b(h) is what the discounts leave, (D1 N1 + D2 N2 + D3 N3) /
    c(h), of N1, N2 and N3 words that come once, twice, and more often after h.
    """
    discount = np.array([0.0, *discounts(counts)])
    taken = discount[np.minimum(counts, 3)]
    total = tally(prefixes, counts, histories)
    left = tally(prefixes, taken, histories)
    return (counts - taken) / total[prefixes], _left(left, total)


def discounts(counts: Integers) -> tuple[float, float, float]:
    """Return the discounts of what occurs once, twice, and more often: equation 17.

    With n_r n-grams that occur r times, D_r = r - (r + 1) Y n_(r+1) / n_r, Y = n_1 / (n_1 + 2 n_2).
    A text without n_1, n_2 or n_3, or with a D_r below 0, has the usual ones.

    >>> discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4]))  # Y = 1/2
    (0.5, 1.25, 1.0)
    """
    n1, n2, n3, n4 = (int(np.sum(counts == r)) for r in (1, 2, 3, 4))
    if n1 and n2 and n3:
        y = n1 / (n1 + 2 * n2)
        found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        if min(found) >= 0:
            return found
    return USUAL_DISCOUNTS


def _left(part: Array, whole: Array) -> Array:
    """Return part over whole; 1 of a history after which nothing was seen."""
    return np.divide(part, whole, out=np.ones(len(whole)), where=whole > 0)
