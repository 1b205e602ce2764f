"""Evidence on the mean of a text's places."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from npllm.evidence.case import Bound, Case, Generator, Lead
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array
from npllm.models.classifier import mean_backward, mean_forward


def mean_arguments(source: Source, lead: Lead, n: int, m: int) -> Bound:
    """Take the mean of rows of n places, the first of them shorter."""
    batch = prod(lead)
    lengths = np.maximum(n - np.arange(batch), 1)

    def forward(x: Array) -> tuple[object, object]:
        return mean_forward(x, lengths)

    return Bound(forward, mean_backward, (source.normal(batch, n, m),))


def mean_cases(rng: Generator) -> Iterator[Case]:
    """Take the mean of rows of one length, and of unequal ones."""
    for label, lengths in {"one length": [5, 5, 5], "unequal lengths": [5, 1, 3]}.items():

        def forward(x: Array, lengths: list[int] = lengths) -> tuple[object, object]:
            return mean_forward(x, np.array(lengths))

        yield Case(label, forward, mean_backward, (rng.normal(size=(3, 5, 4)),))


_shares = "shares[..., None]"


MEAN_MISTAKES = [
    Mistake(
        "mean",
        "unequal lengths",
        "what fills a row up counted in the mean",
        "np.mean over the steps has the shape that is due.",
        "Right for the longest row; in a shorter one what fills it up has a gradient.",
        mean_backward,
        _shares,
        "np.full_like(shares, 1 / shares.shape[1])[..., None]",
    ),
    Mistake(
        "mean",
        "unequal lengths",
        "the real places summed, and divided by the steps of the longest row",
        "What fills a row up is hidden, as it should be.",
        "Each row is off by its own factor, the longest is right.",
        mean_backward,
        _shares,
        "((shares > 0) / shares.shape[1])[..., None]",
    ),
    Mistake(
        "mean",
        "one length",
        "a place's gradient that of the sum",
        "Sum and mean have one shape, and a norm behind them hides the factor.",
        "Off by exactly the length.",
        mean_backward,
        _shares,
        "np.sign(shares)[..., None]",
        cause="scale",
    ),
]
