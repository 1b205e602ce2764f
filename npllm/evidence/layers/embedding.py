"""Evidence on the embedding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array


def embedding_arguments(
    source: Source, lead: Lead, n: int, m: int, *, padding_idx: int | None = None
) -> Bound:
    """Look up ids, most of them more than once, among n words of width m."""
    ids = source.ids(n, (*lead, 5))
    forward = partial(layers.embedding_forward, ids, padding_idx=padding_idx)
    return Bound(forward, layers.embedding_backward, (source.normal(n, m),))


EMBEDDING_VARIANTS: Variants = {"": {}, "padding": {"padding_idx": -1}}


def embedding_cases(rng: Generator) -> Iterator[Case]:
    """Look up ids that repeat."""
    ids = np.array([[4, 0, 4], [2, 4, 1]])
    for label, padding_idx in (("repeated ids", None), ("padding_idx", 4)):

        def forward(
            ids: Array, weight: Array, padding_idx: int | None = padding_idx
        ) -> tuple[Array, object]:
            # a row that is not trained is a constant: it must not move with the weight
            y, cache = layers.embedding_forward(ids, weight, padding_idx=padding_idx)
            trained = np.ones(ids.shape, bool) if padding_idx is None else ids != padding_idx
            return np.where(trained[..., None], y, np.zeros((), y.dtype)), cache

        yield Case(label, forward, layers.embedding_backward, (ids, rng.normal(size=(5, 3))))


_backward = layers.embedding_backward


EMBEDDING_MISTAKES = [
    Mistake(
        "embedding",
        "repeated ids",
        "dW[ids] += dy",
        "NumPy's indexed += writes each row once; with repeated ids the last one wins.",
        "Only rows whose id occurs more than once are wrong: test with a batch that repeats words.",
        _backward,
        "dweight[used] += rows",
        "dweight[ids.ravel()] += dy",
        cause="repeated_ids",
        wild=True,
    ),
    Mistake(
        "embedding",
        "repeated ids",
        "the gradient of a word averaged over its occurrences",
        "An average has the shape of a sum, and looks like a kindness to frequent words.",
        "Rows of words that occur once are right; a row of n occurrences is off by 1 / n.",
        _backward,
        "rows = x.T @ dy",
        "rows = x.T @ dy / x.sum(axis=0)[:, None]",
        cause="repeated_ids",
    ),
    Mistake(
        "embedding",
        "repeated ids",
        "the ids sorted, but not the rows of dy with them",
        "Sorting makes the sum fast; forgetting to carry dy along changes no shape.",
        "Every row gets rows of dy, but those of other words.",
        _backward,
        "columns, np.arange",
        "np.sort(columns), np.arange",
    ),
    Mistake(
        "embedding",
        "repeated ids",
        "the gradient summed in float32",
        "Half the memory; the result is cast back, so the dtype says nothing.",
        "Every number of the gradient is a float32: the error is 1e-8, too small for a lax check.",
        _backward,
        "x.T @ dy",
        "(x.T @ dy).astype(np.float32).astype(dtype)",
        cause="float32",
    ),
    Mistake(
        "embedding",
        "padding_idx",
        "the row of padding_idx trained",
        "The row has a gradient like any other; nothing but intent says that it must not.",
        "Zero by contract: the padding then drifts, and with it every padded batch.",
        _backward,
        "used == padding_idx % vocabulary",
        "used < 0",
        cause="not_zero",
    ),
    Mistake(
        "embedding",
        "padding_idx",
        "every row up to padding_idx frozen",
        "A slice where an index was meant; both take the zero.",
        "Words that do occur get a gradient of exactly zero.",
        _backward,
        "used == padding_idx % vocabulary",
        "used <= padding_idx % vocabulary",
        cause="zero",
    ),
]
