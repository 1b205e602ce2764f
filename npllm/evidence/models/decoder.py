"""Evidence on a decoder's block."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source, frozen
from npllm.layers.arrays import Array
from npllm.layers.attention import Sight
from npllm.models.decoder import (
    decoder_block_backward,
    decoder_block_forward,
    decoder_block_shapes,
)


def decoder_block_arguments(
    source: Source, lead: Lead, n: int, m: int, *, padding: bool = False
) -> Bound:
    """Run a block of one head of width m + 2 over n positions, and n + 1 of a memory."""
    batch, width = prod(lead), m + 2
    ends = np.maximum(n + 1 - np.arange(batch), 1)
    real = np.arange(n + 1) < ends[:, None] if padding else None

    def forward(x: Array, memory: Array, p: dict[str, Array]) -> tuple[object, object]:
        (y, _, _), cache = decoder_block_forward(x, memory, p, 1, real=real)
        return y, cache

    shapes = decoder_block_shapes(width, m + 1)
    # small: the GELU of numbers far from the real axis has no end
    p = {name: frozen(source.normal(*shape) / 4) for name, shape in shapes.items()}
    x, memory = source.normal(batch, n, width), source.normal(batch, n + 1, width)
    return Bound(forward, decoder_block_backward, (x, memory, p))


DECODER_BLOCK_VARIANTS: Variants = {"": {}, "padding": {"padding": True}}


def decoder_block_cases(rng: Generator) -> Iterator[Case]:
    """Run one block, over all of a memory, and with dropout over what is real of it."""
    unequal = np.arange(5) < np.array([[5], [2]])
    seen = Sight(rng.random((2, 1, 3, 3)) < 0.7, causal=True)
    configurations: dict[str, dict[str, Any]] = {
        "all of the memory": {},
        "padding, mask, dropout": {"real": unequal, "sight": seen, "dropout": 0.3, "eps": 1e-3},
    }
    for label, options in configurations.items():

        def forward(
            x: Array, memory: Array, p: dict[str, Array], options: dict[str, Any] = options
        ) -> tuple[object, object]:
            rng = np.random.default_rng(5)
            (y, _, _), cache = decoder_block_forward(x, memory, p, 2, rng=rng, **options)
            return y, cache

        shapes = decoder_block_shapes(4, 3)
        p = {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}
        args = (rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4)), p)
        yield Case(label, forward, decoder_block_backward, args)


_backward = decoder_block_backward
_result = "return dx + da, dmemory, g"


DECODER_BLOCK_MISTAKES = [
    Mistake(
        "decoder_block",
        "all of the memory",
        "the residual path around cross-attention forgotten",
        "dc has the shape of dx + dc.",
        "Cross-attention and all above are right, self-attention and dx are not.",
        _backward,
        "layer_norm_backward(dx + dc, cache.norm1)",
        "layer_norm_backward(dc, cache.norm1)",
    ),
    Mistake(
        "decoder_block",
        "all of the memory",
        "cross-attention taken for a constant of what asks",
        "The memory is what it reads; the residual path goes on below.",
        "Cross-attention and all above are right, self-attention and dx are not.",
        _backward,
        "layer_norm_backward(dx + dc, cache.norm1)",
        "layer_norm_backward(dx, cache.norm1)",
    ),
    Mistake(
        "decoder_block",
        "all of the memory",
        "the gradients of the two attentions exchanged",
        "Both have the same names within, and the same shapes.",
        "Each is what belongs to the other; dx and dmemory are right.",
        _backward,
        _result,
        'swap = {"self_attn": "multihead_attn", "multihead_attn": "self_attn"}\n'
        '    parts = [n.split(".", 1) for n in g]\n'
        '    g = {n: g[f"{swap.get(a, a)}.{b}"] for n, (a, b) in zip(list(g), parts)}\n'
        "    " + _result,
        cause="swapped",
    ),
    Mistake(
        "decoder_block",
        "padding, mask, dropout",
        "the memory's gradient averaged over the places that asked",
        "Each place of the target asks, and a mean has the shape of a sum.",
        "Off by exactly the number of places; dx and the maps are right.",
        _backward,
        _result,
        "return dx + da, dmemory / dy.shape[1], g",
        cause="scale",
    ),
    Mistake(
        "decoder_block",
        "all of the memory",
        "the memory detached",
        "The encoder runs once and the decoder many times: its output looks like data.",
        "dmemory is zero: the encoder does not learn.",
        _backward,
        _result,
        "return dx + da, np.zeros_like(dmemory), g",
        cause="zero",
    ),
    Mistake(
        "decoder_block",
        "padding, mask, dropout",
        "the dropout of cross-attention forgotten on the way back",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "The linear maps are right, all below is not, the memory too.",
        _backward,
        "dc = dropout_backward(dx, cache.cross_dropped)",
        "dc = dx",
    ),
    Mistake(
        "decoder_block",
        "padding, mask, dropout",
        "one dropout mask used for both attentions",
        "Both masks have one shape, and each keeps as many.",
        "Cross-attention and all above are right; at p = 0 all is right.",
        _backward,
        "dropout_backward(dx, cache.dropped)",
        "dropout_backward(dx, cache.cross_dropped)",
    ),
    Mistake(
        "decoder_block",
        "all of the memory",
        "the second norm's cache used for the first",
        "All norms cache arrays of one shape.",
        "The first norm's bias, which needs no cache, is right; self-attention is not.",
        _backward,
        "layer_norm_backward(dx + dc, cache.norm1)",
        "layer_norm_backward(dx + dc, cache.norm2)",
    ),
]
