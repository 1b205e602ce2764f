"""Evidence on attention in heads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np

from npllm import layers
from npllm.checking.pair import Forward
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array
from npllm.layers.attention import Sight
from npllm.layers.multi_head_attention import Rotary


def multi_head_attention_arguments(
    source: Source,
    lead: Lead,
    n: int,
    m: int,
    *,
    past: bool = False,
    window: int | None = None,
    tiled: bool = False,
) -> Bound:
    """Attend in 2 m heads of width 4 that share m key heads."""
    batch = prod(lead)
    shapes = [(batch, n, 8 * m), (batch, n, 4 * m), (batch, n, 3 * m)]
    start = 2 if past else 0
    table = Rotary(*layers.rotary_table(np.arange(start, start + n), 4))
    sight = Sight(causal=True, window=window)
    kept = (source.normal(batch, m, 2, 4), source.normal(batch, m, 2, 3)) if past else None

    def forward(q: Array, k: Array, v: Array) -> tuple[object, object]:
        return layers.multi_head_attention_forward(
            q, k, v, 2 * m, kv_heads=m, rotary=table, past=kept, sight=sight, tiled=tiled
        )

    args = tuple(source.normal(*shape) for shape in shapes)
    return Bound(forward, layers.multi_head_attention_backward, args)


MULTI_HEAD_ATTENTION_VARIANTS: Variants = {
    "": {},
    "past": {"past": True, "window": 2},
    "tiled": {"tiled": True},
}


def multi_head_attention_cases(rng: Generator) -> Iterator[Case]:
    """Attend in heads of their own and in shared ones, after a past, turned and not."""
    heads, kv_heads, size = 6, 2, 4
    q, k, v = (rng.normal(size=(2, 3, n)) for n in (heads * size, kv_heads * size, kv_heads * 5))
    own = (q, rng.normal(size=q.shape), rng.normal(size=(2, 3, heads * 3)))
    across = (q, rng.normal(size=(2, 5, kv_heads * size)), rng.normal(size=(2, 5, kv_heads * 5)))
    past = (rng.normal(size=(2, kv_heads, 4, size)), rng.normal(size=(2, kv_heads, 4, 5)))
    turned = Rotary(*layers.rotary_table(np.arange(3), size, 100.0))
    later = Rotary(*layers.rotary_table(np.arange(4, 7), 2, 100.0), interleaved=True)
    mask = rng.random((2, 1, 3, 3)) < 0.7
    one, causal = {"kv_heads": kv_heads}, Sight(causal=True)
    configurations: dict[str, tuple[tuple[Array, ...], dict[str, Any]]] = {
        "own heads, causal": (own, {"sight": causal}),
        "grouped, causal, rotary": ((q, k, v), {**one, "sight": causal, "rotary": turned}),
        "multi-query": ((q, k[..., :size], v[..., :5]), {"kv_heads": 1}),
        "cross-attention": (across, one),
        "past, causal, interleaved rotary": (
            (q, k, v),
            {**one, "past": past, "sight": causal, "rotary": later},
        ),
        "mask, dropout": ((q, k, v), {**one, "sight": Sight(mask), "dropout": 0.4}),
        "past, causal, window": (
            (q, k, v),
            {**one, "past": past, "sight": Sight(causal=True, window=3)},
        ),
        "bias": ((q, k, v, rng.normal(size=(heads, 3, 3))), one),
        "scale, softcap": ((q, k, v), {**one, "scale": 0.7, "softcap": 0.8}),
        "tiled, past, causal, bias": (
            (q, k, v, rng.normal(size=(heads, 3, 7))),
            {**one, "past": past, "sight": causal, "tiled": True},
        ),
    }
    for label, (args, options) in configurations.items():
        attend: Forward = partial(layers.multi_head_attention_forward, **options)

        def forward(
            q: Array, k: Array, v: Array, bias: Array | None = None, attend: Forward = attend
        ) -> tuple[object, object]:
            return attend(q, k, v, heads, bias=bias, rng=np.random.default_rng(5))

        yield Case(label, forward, layers.multi_head_attention_backward, args)


_backward = layers.multi_head_attention_backward
_attention = layers.attention_backward
_heads = "djoined.reshape(batch, steps, kv_heads, group, width).transpose(0, 2, 3, 1, 4)"
_new = "new = slice(past_steps, None)"
_turned = "dq, dk = rotary_backward(dq, q_cache), rotary_backward(dk, k_cache)"


MULTI_HEAD_ATTENTION_MISTAKES = [
    Mistake(
        "multi_head_attention",
        "grouped, causal, rotary",
        "a key head gets the gradient of the first query head that shares it",
        "A slice has the shape that the sum over the group would have.",
        "Only dk is wrong, and only where heads are shared.",
        _attention,
        "unbroadcast(dk, k.shape)",
        "dk[:, :, :1]",
    ),
    Mistake(
        "multi_head_attention",
        "multi-query",
        "a value head gets the mean of the query heads that share it",
        "mean and sum over the group have one shape.",
        "Attention's share is off by exactly the size of the group; what later steps add is right.",
        _attention,
        "unbroadcast(dv, v.shape)",
        "dv.mean(axis=2, keepdims=True)",
    ),
    Mistake(
        "multi_head_attention",
        "grouped, causal, rotary",
        "query head n led to key head n mod K instead of n // (N / K)",
        "np.tile for np.repeat: either way each key head is shared by N / K heads.",
        "dk and dv are wrong; dq is right in the first and the last head, where both orders agree.",
        _backward,
        _heads,
        "djoined.reshape(batch, steps, group, kv_heads, width).transpose(0, 3, 2, 1, 4)",
    ),
    Mistake(
        "multi_head_attention",
        "own heads, causal",
        "dy split into heads by a reshape alone",
        "(B, T, N Dv) and (B, N, T, Dv) hold as many numbers; only a transpose moves them rightly.",
        "Heads and steps are mixed; right for one head, and for one step.",
        _backward,
        _heads,
        "djoined.reshape(batch, kv_heads, group, steps, width)",
    ),
    Mistake(
        "multi_head_attention",
        "grouped, causal, rotary",
        "the heads' gradients joined by a reshape alone",
        "As above, on the way out.",
        "The right numbers in the wrong places.",
        _backward,
        "_joined(dq), _joined(dk), _joined(dv)",
        "*(d.reshape(batch, d.shape[2], -1) for d in (dq, dk, dv))",
    ),
    Mistake(
        "multi_head_attention",
        "past, causal, interleaved rotary",
        "the past not cut off: the first keys' gradients taken for the new ones'",
        "[:T] has as many steps as [P:].",
        "dk and dv belong to constants; dq is right. Without a past, so are they.",
        _backward,
        _new,
        "new = slice(None, dk.shape[3] - past_steps)",
    ),
    Mistake(
        "multi_head_attention",
        "past, causal, window",
        "the past cut off one step too early",
        "A slice shifted by one is as long.",
        "dk and dv are shifted by one along the steps; dq is right.",
        _backward,
        _new,
        "new = slice(past_steps - 1, -1)",
        cause="permuted",
    ),
    Mistake(
        "multi_head_attention",
        "own heads, causal",
        "the gradient of the keys and values that are kept forgotten",
        "In training nothing is made of them.",
        "dq is right; dk and dv are wrong once a loss sees what later steps make of them.",
        _backward,
        "if dkept is not None:",
        "if False:",
    ),
    Mistake(
        "multi_head_attention",
        "grouped, causal, rotary",
        "only the queries turned back",
        "A gradient that was turned has the shape of one that was not.",
        "dk is right at position 0, where nothing turns, and at no other.",
        _backward,
        _turned,
        "dq = rotary_backward(dq, q_cache)",
        cause="first_step",
    ),
    Mistake(
        "multi_head_attention",
        "past, causal, interleaved rotary",
        "only the keys turned back",
        "As above, the other way round.",
        "dk and dv are right, dq is wrong in the features that turn.",
        _backward,
        _turned,
        "dk = rotary_backward(dk, k_cache)",
    ),
    Mistake(
        "multi_head_attention",
        "past, causal, interleaved rotary",
        "the kept keys' gradient added after the turn back",
        "Both have the keys' shape, and without rotary positions the order does not matter.",
        "What is kept are turned keys: dk alone is wrong, in the features that turn.",
        _backward,
        _turned,
        "kept = 0 if dkept is None else dkept[0][:, :, new]\n"
        "        dq = rotary_backward(dq, q_cache)\n"
        "        dk = rotary_backward(dk - kept, k_cache) + kept",
    ),
    Mistake(
        "multi_head_attention",
        "bias",
        "the bias's heads joined in the order of the group",
        "(K, G) and (G, K) hold as many heads.",
        "The right slices in the wrong order.",
        _backward,
        "d.reshape(bias_shape)",
        "d.swapaxes(-4, -3).reshape(bias_shape)",
        cause="permuted",
    ),
]
