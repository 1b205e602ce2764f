"""What a classifier has to beat: the most frequent label, and naive Bayes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npllm.layers.arrays import Array, tally
from npllm.text.tokenizers import Ids


def majority(classes: Ids, size: int) -> Array:
    """Return log p (C,) of the classes, by how frequent they are; the same for every text.

    Args:
        classes: (N,) of the texts that are learned from.
        size: C.
    """
    with np.errstate(divide="ignore"):
        return np.log(tally(classes, size=size) / len(classes))


class NaiveBayes:
    """The words of a text are drawn one by one, each label from its own distribution.

    p(c | text) is proportional to p(c) prod_t p(w_t | c), with p(w | c) = (n(w, c) + 1) / (n(c) +
    V): Manning, Raghavan and Schuetze, "Introduction to Information Retrieval" (2008), section
    13.2.

    Args:
        texts: the ids of each text.
        classes: (N,).
        vocab_size: V.
        size: C.

    >>> model = NaiveBayes([np.array([0, 0]), np.array([1])], np.array([0, 1]), 2, 2)
    >>> np.exp(model.log_probabilities([np.array([0])])).round(12).tolist()  # 3/4 and 1/3
    [[0.692307692308, 0.307692307692]]
    """

    def __init__(self, texts: Sequence[Ids], classes: Ids, vocab_size: int, size: int) -> None:
        self._log_prior = majority(classes, size)
        lengths = [len(text) for text in texts]
        pairs = np.repeat(classes, lengths) * vocab_size + np.concatenate(texts)
        counts = tally(pairs, size=size * vocab_size).reshape(size, vocab_size)
        totals = counts.sum(axis=1, keepdims=True) + vocab_size
        self._log_p = np.log((counts + 1) / totals)  # (C, V)

    def log_probabilities(self, texts: Sequence[Ids]) -> Array:
        """Return log p (N, C) of the classes of each text."""
        scores = np.array([self._log_p[:, text].sum(axis=1) for text in texts]) + self._log_prior
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
