"""Evidence on an encoder's block."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source, frozen
from npllm.layers.arrays import Array, Mask
from npllm.models.encoder import (
    encoder_block_backward,
    encoder_block_forward,
    encoder_block_shapes,
)


def encoder_block_arguments(
    source: Source, lead: Lead, n: int, m: int, *, padding: bool = False
) -> Bound:
    """Run a block of one head of width m + 2 over n positions."""
    batch, width = prod(lead), m + 2
    real = np.arange(n) < np.maximum(n - np.arange(batch), 1)[:, None] if padding else None

    def forward(x: Array, p: dict[str, Array]) -> tuple[object, object]:
        return encoder_block_forward(x, p, 1, real=real)

    shapes = encoder_block_shapes(width, m + 1)
    # small: the GELU of numbers far from the real axis has no end
    p = {name: frozen(source.normal(*shape) / 4) for name, shape in shapes.items()}
    return Bound(forward, encoder_block_backward, (source.normal(batch, n, width), p))


ENCODER_BLOCK_VARIANTS: Variants = {"": {}, "padding": {"padding": True}}


def encoder_block_cases(rng: Generator) -> Iterator[Case]:
    """Run one block, over all places, and with dropout over those that are real."""
    unequal = np.arange(5) < np.array([[5], [2]])
    for label, real, dropout in (("all places", None, 0.0), ("padding, dropout", unequal, 0.3)):

        def forward(
            x: Array, p: dict[str, Array], real: Mask | None = real, dropout: float = dropout
        ) -> tuple[object, object]:
            rng = np.random.default_rng(5)
            return encoder_block_forward(x, p, 2, real=real, dropout=dropout, rng=rng, eps=1e-3)

        shapes = encoder_block_shapes(4, 3)
        p = {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}
        yield Case(label, forward, encoder_block_backward, (rng.normal(size=(2, 5, 4)), p))


_backward = encoder_block_backward
_norm1 = "layer_norm_backward(dx + dm, norm1)"


ENCODER_BLOCK_MISTAKES = [
    Mistake(
        "encoder_block",
        "all places",
        "the residual path around attention forgotten",
        "da has the shape of dx + da.",
        "The block's own parameters are right; dx, and so everything below, is not.",
        _backward,
        "return dx + da, g",
        "return da, g",
    ),
    Mistake(
        "encoder_block",
        "all places",
        "the residual path around the two linear maps forgotten",
        "dm has the shape of dx + dm.",
        "The maps and the norm behind them are right, all below is not.",
        _backward,
        _norm1,
        "layer_norm_backward(dm, norm1)",
    ),
    Mistake(
        "encoder_block",
        "all places",
        "the residual path taken past the norm",
        "It is the order since GPT-2, x + f(norm(x)); in 2017 it was norm(x + f(x)).",
        "The second half is right, the first is not.",
        _backward,
        _norm1,
        "layer_norm_backward(dy + dm, norm1)",
    ),
    Mistake(
        "encoder_block",
        "padding, dropout",
        "attention's dropout mask used for the linear maps too",
        "Both masks have one shape, and each keeps as many.",
        "The norm on top is right, all else is not; at p = 0 all is right.",
        _backward,
        "dropout_backward(dx, mlp_dropped)",
        "dropout_backward(dx, dropped)",
    ),
    Mistake(
        "encoder_block",
        "padding, dropout",
        "the residual path dropped with what is added to it",
        "The mask is at hand, and dx has its shape.",
        "The second half is right; dx is not. At p = 0 it is right.",
        _backward,
        "return dx + da, g",
        "return dropout_backward(dx, dropped) + da, g",
    ),
    Mistake(
        "encoder_block",
        "all places",
        "the GELU forgotten on the way back",
        "It has no parameters, and one shape on both sides.",
        "What stands above it is right.",
        _backward,
        "dm = gelu_backward(dm, gelu)",
        "pass",
    ),
    Mistake(
        "encoder_block",
        "all places",
        "the first norm's cache used for the second",
        "Both norms cache arrays of one shape.",
        "The second norm's bias, which needs no cache, is right; all else is not.",
        _backward,
        "layer_norm_backward(dy, norm2)",
        "layer_norm_backward(dy, norm1)",
    ),
    Mistake(
        "encoder_block",
        "all places",
        "the norm's gradient added to dy in place",
        "It saves an array, and what is returned is right.",
        "dy is the caller's.",
        _backward,
        'dx, g["norm2.weight"], g["norm2.bias"] = layer_norm_backward(dy, norm2)',
        'dx, g["norm2.weight"], g["norm2.bias"] = layer_norm_backward(dy, norm2)\n    dy += dx',
        cause="mutated_dy",
    ),
]
