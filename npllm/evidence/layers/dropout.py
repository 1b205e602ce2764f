"""Evidence on dropout."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array


def dropout_arguments(
    source: Source, lead: Lead, n: int, m: int, *, training: bool = True
) -> Bound:
    """Draw the same mask in each call."""

    def forward(x: Array) -> tuple[Array, object]:
        rng = np.random.default_rng(5)
        return layers.dropout_forward(x, p=0.3, rng=rng, training=training)

    return Bound(forward, layers.dropout_backward, (source.normal(*lead, n, m),))


DROPOUT_VARIANTS: Variants = {"": {}, "off": {"training": False}}


def dropout_cases(rng: Generator) -> Iterator[Case]:
    """Draw the same mask each time."""
    x = rng.normal(size=(4, 7))
    for p in (0.3, 0.0, 1.0):

        def forward(x: Array, p: float = p) -> tuple[Array, object]:
            return layers.dropout_forward(x, p=p, rng=np.random.default_rng(5))

        yield Case(f"p = {p}", forward, layers.dropout_backward, (x,), {"p": p})
    forward = partial(layers.dropout_forward, p=0.3, training=False)
    yield Case("not training", forward, layers.dropout_backward, (x,))


DROPOUT_MISTAKES = [
    Mistake(
        "dropout",
        "p = 0.3",
        "the output in place of the mask",
        "The output is zero where the mask is, and has its shape.",
        "Each element is off by its own x.",
        layers.dropout_forward,
        "x * mask, DropoutCache(mask, x.shape, x.dtype)",
        "x * mask, DropoutCache(x * mask, x.shape, x.dtype)",
        cause="factor",
        wild=True,
    ),
    Mistake(
        "dropout",
        "p = 0.3",
        "1 / (1 - p) forgotten on the way back",
        "The mask of booleans fits as well as that of factors.",
        "Off by exactly 1 - p.",
        layers.dropout_backward,
        "dy * mask",
        "dy * (mask != 0)",
        cause="scale",
    ),
    Mistake(
        "dropout",
        "p = 0.3",
        "1 / (1 - p) applied twice",
        "The mask carries the factor already.",
        "Off by exactly 1 / (1 - p).",
        layers.dropout_backward,
        "dy * mask",
        "dy * mask * mask",
        cause="scale",
    ),
    Mistake(
        "dropout",
        "p = 0.3",
        "dropout forgotten on the way back",
        "dy has the shape of dx.",
        "The gradient is the incoming gradient; and it flows through what was dropped.",
        layers.dropout_backward,
        "dy * mask",
        "dy.copy()",
        cause="returned_dy",
    ),
    Mistake(
        "dropout",
        "p = 0.3",
        "a fresh mask drawn in the backward",
        "Any mask has the right shape and the right share of zeros.",
        "Zero where the output moved, and not where it did not.",
        layers.dropout_backward,
        "dy * mask",
        "dy * np.random.default_rng(8).permutation(mask.ravel()).reshape(mask.shape)",
    ),
    Mistake(
        "dropout",
        "p = 0.0",
        "dy handed on instead of copied where nothing is dropped",
        "The numbers are right.",
        "dx and dy are one array: who adds to one in place changes the other.",
        layers.dropout_backward,
        "dy.copy() if mask is None",
        "dy if mask is None",
        cause="aliased",
    ),
    Mistake(
        "dropout",
        "p = 0.0",
        "x handed on instead of copied where nothing is dropped",
        "The numbers are right.",
        "y and x are one array: an activation in place then destroys what the backward needs.",
        layers.dropout_forward,
        "return x.copy(), ",
        "return x, ",
        cause="aliased",
    ),
    Mistake(
        "dropout",
        "p = 0.3",
        "the mask from a global generator, not from the one that was handed in",
        "It drops as it should.",
        "The same call gives another y: no run can be repeated, and no gradient checked.",
        layers.dropout_forward,
        "rng.random(",
        "np.random.default_rng().random(",
        cause="random",
    ),
]
