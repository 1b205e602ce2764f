"""Evidence on the cross-entropy fused with the linear map before it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers import linear_cross_entropy
from npllm.layers.arrays import Array


def linear_cross_entropy_arguments(source: Source, lead: Lead, n: int, m: int) -> Bound:
    """Classify rows of width n into m classes, two at a time."""
    targets = source.ids(m, (*lead, 3))

    def forward(x: Array, weight: Array, bias: Array) -> tuple[Array, object]:
        return layers.linear_cross_entropy_forward(
            x, weight, targets, bias, ignore_index=0, logits=2 * m
        )

    args = (source.normal(*lead, 3, n), source.normal(m, n), source.normal(m))
    return Bound(forward, layers.linear_cross_entropy_backward, args)


def linear_cross_entropy_cases(rng: Generator) -> Iterator[Case]:
    """Score a few rows at a time."""
    x, weight, bias = rng.normal(size=(2, 4, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)
    targets = np.array([[3, 0, 3, 1], [4, -100, 2, 3]])
    for label, logits in (("a row at a time", 1), ("three rows at a time", 15), ("at once", 999)):

        def forward(
            x: Array, weight: Array, bias: Array | None = None, logits: int = logits
        ) -> tuple[Array, object]:
            return layers.linear_cross_entropy_forward(x, weight, targets, bias, logits=logits)

        backward = layers.linear_cross_entropy_backward
        yield Case(label, forward, backward, (x, weight, bias))
        if logits == 15:
            yield Case("no bias", forward, backward, (x, weight))

    def ignoring(x: Array, weight: Array) -> tuple[Array, object]:
        return layers.linear_cross_entropy_forward(
            x, weight, np.maximum(targets, 0), ignore_index=3
        )

    yield Case("another index ignored", ignoring, layers.linear_cross_entropy_backward, (x, weight))


_backward = layers.linear_cross_entropy_backward
_at_once = linear_cross_entropy._loss_and_gradients
_entropy = linear_cross_entropy._entropy
_WRITTEN = "out=dx[stretch]"


LINEAR_CROSS_ENTROPY_MISTAKES = [
    Mistake(
        "linear_cross_entropy",
        "three rows at a time",
        "the weight and the bias keep the last stretch's gradient",
        "= for +=: a stretch's gradient has the shape of the sum.",
        "dx is right; with all rows at once so is the rest.",
        _at_once,
        "dweight[words] +=",
        "dweight[words] =",
    ),
    Mistake(
        "linear_cross_entropy",
        "a row at a time",
        "a stretch's gradient written to the rows of another, from a stack of caches",
        "What was pushed first comes last; all stretches have one shape.",
        "Sums do not see the order: weight and bias are right, and dx runs backwards.",
        _at_once,
        _WRITTEN,
        "out=dx[::-1][stretch]",
        cause="permuted",
    ),
    Mistake(
        "linear_cross_entropy",
        "a row at a time",
        "the first stretch computed again for every stretch",
        "A loop whose variable is not used runs as often as it should.",
        "The first row of dx is right, and every other is the same.",
        linear_cross_entropy._stretches,
        "rows[stretch], weight, bias)",
        "rows[:size], weight, bias)",
    ),
    Mistake(
        "linear_cross_entropy",
        "three rows at a time",
        "dy forgotten",
        "It is 1 for the loss itself.",
        "The backward is not linear in dy: a loss that is scaled, or one of two, trains the same.",
        _backward,
        "dy * gradient for",
        "1 * gradient for",
        cause="scale",
    ),
    Mistake(
        "linear_cross_entropy",
        "three rows at a time",
        "the bias forgotten",
        "The output layer of most language models has none.",
        "Zero where it must not be.",
        _at_once,
        "total += column_sum(dlogits)",
        "pass",
        cause="zero",
    ),
    Mistake(
        "linear_cross_entropy",
        "three rows at a time",
        "each stretch averaged",
        "The mean is the usual reduction, and over one row it is the sum.",
        "The gradient depends on how many rows are held, and a shorter last stretch weighs more.",
        _at_once,
        "    loss += of_stretch",
        "    loss += of_stretch\n        dlogits = dlogits / len(dlogits)",
    ),
    Mistake(
        "linear_cross_entropy",
        "another index ignored",
        "rows that do not count trained all the same",
        "Their loss is left out of the sum, and the number that is reported is right.",
        "The weight and their own rows of dx have a gradient where there must be none.",
        _entropy,
        "p *= (counted / total)[:, None]",
        "p *= (1 / total)[:, None]",
    ),
]
