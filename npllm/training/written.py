"""Measures of a text that a model wrote: how varied it is, and how likely another finds it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.text.tokenizers import Ids

ORDERS = (1, 2, 3, 4)
WITHIN = 128  # tokens that a repetition is looked for in


class Variety(NamedTuple):
    """How varied a text is.

    Attributes:
        distinct: of the n-grams of each order from 1 to 4, the share that is distinct.
        repeated: the share of tokens that are among the 128 before.
    """

    distinct: tuple[float, ...]
    repeated: float


def variety(ids: Ids) -> Variety:
    """Return how varied a text is.

    Both are lower, and higher, for a longer text: compare texts of one length. Li et al., "A
    Diversity-Promoting Objective Function" (2016), section 5.3, and Welleck et al., "Neural Text
    Generation with Unlikelihood Training" (2020), section 6: 1 - distinct is seq-rep-n there, and
    repeated is rep/128.

    Args:
        ids: (T,) at least 4 of them.

    Raises:
        ValueError: there are fewer.

    >>> found = variety(np.array([0, 1, 0, 1, 0]))
    >>> found.distinct, found.repeated  # 2 of 5, 2 of 4, 2 of 3, 2 of 2; all but the first two
    ((0.4, 0.5, 0.6666666666666666, 1.0), 0.6)
    """
    if len(ids) < len(ORDERS):
        raise ValueError(f"a text must have at least {len(ORDERS)} tokens, got {len(ids)}")
    windows = (np.lib.stride_tricks.sliding_window_view(ids, n) for n in ORDERS)
    distinct = tuple(len(np.unique(grams, axis=0)) / len(grams) for grams in windows)
    # where each token occurred last
    order = np.argsort(ids, kind="stable")
    same = ids[order][1:] == ids[order][:-1]
    near = order[1:] - order[:-1] <= WITHIN
    return Variety(distinct, float((same & near).sum() / len(ids)))
