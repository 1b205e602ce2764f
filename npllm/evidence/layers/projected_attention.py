"""Evidence on multi-head attention with its linear maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array
from npllm.layers.attention import Sight
from npllm.layers.multi_head_attention import KeysAndValues
from npllm.layers.projected_attention import ProjectedAttentionCache

Attend = Callable[..., tuple[tuple[Array, KeysAndValues], ProjectedAttentionCache]]


def projected_attention_arguments(
    source: Source, lead: Lead, n: int, m: int, *, memory: bool = False, past: bool = False
) -> Bound:
    """Attend in m heads of width 2, to itself or to a memory."""
    batch, width = prod(lead), 2 * m
    sight = Sight(causal=not memory)
    kept = (source.normal(batch, m, 2, 2), source.normal(batch, m, 2, 2)) if past else None
    sequences = [source.normal(batch, n, width)]
    if memory:
        sequences.append(source.normal(batch, n + 1, width))
    shapes = [(3 * width, width), (3 * width,), (width, width), (width,)]

    def forward(x: Array, *args: Array) -> tuple[object, object]:
        asked = args[0] if memory else None
        in_weight, in_bias, out_weight, out_bias = args[-4:]
        (y, _), cache = layers.projected_attention_forward(
            x, asked, in_weight, in_bias, out_weight, out_bias, m, past=kept, sight=sight
        )
        return y, cache

    args = (*sequences, *(source.normal(*shape) for shape in shapes))
    return Bound(forward, layers.projected_attention_backward, args)


PROJECTED_ATTENTION_VARIANTS: Variants = {
    "": {},
    "memory": {"memory": True},
    "memory, past": {"memory": True, "past": True},
}


def projected_attention_cases(rng: Generator) -> Iterator[Case]:
    """Attend to itself and to a memory, after a past, masked and with dropout."""
    heads, width = 2, 6
    x, memory = rng.normal(size=(2, 3, width)), rng.normal(size=(2, 5, width))
    past = (rng.normal(size=(2, heads, 4, 3)), rng.normal(size=(2, heads, 4, 3)))
    real = np.arange(5) < np.array([5, 2])[:, None, None, None]
    configurations: dict[str, tuple[tuple[Array, ...], dict[str, Any]]] = {
        "itself": ((x,), {}),
        "itself, past, causal": ((x,), {"past": past, "sight": Sight(causal=True)}),
        "memory, mask, dropout": ((x, memory), {"sight": Sight(real), "dropout": 0.4}),
        "memory, past": ((x, memory), {"past": past}),
    }
    for label, (sequences, options) in configurations.items():
        maps = [(3 * width, width), (3 * width,), (width, width), (width,)]
        attend: Attend = partial(layers.projected_attention_forward, **options)
        args = (*sequences, *(rng.normal(size=shape) / 2 for shape in maps))
        named = _of_itself if len(sequences) == 1 else _of_memory
        forward = partial(named, attend)
        yield Case(label, forward, layers.projected_attention_backward, args)


def _of_itself(
    attend: Attend, x: Array, in_weight: Array, in_bias: Array, out_weight: Array, out_bias: Array
) -> tuple[object, object]:
    return _of_memory(attend, x, None, in_weight, in_bias, out_weight, out_bias)


def _of_memory(
    attend: Attend,
    x: Array,
    memory: Array | None,
    in_weight: Array,
    in_bias: Array,
    out_weight: Array,
    out_bias: Array,
) -> tuple[object, object]:
    maps = in_weight, in_bias, out_weight, out_bias
    (y, _), cache = attend(x, memory, *maps, 2, rng=np.random.default_rng(5))
    return y, cache


_backward = layers.projected_attention_backward
_itself = "np.concatenate([dq, dk, dv], axis=-1)"
_other = "np.concatenate([dk, dv], axis=-1)"
_weight = "np.concatenate([dweight_q, dweight_kv])"
_memory = "dx, dmemory, dweight, dbias, *dout"


PROJECTED_ATTENTION_MISTAKES = [
    Mistake(
        "projected_attention",
        "itself",
        "the gradients of q, k and v joined as k, q and v",
        "All three have one shape, and libraries differ in their order.",
        "The first two thirds of in_proj are exchanged, and dx is wrong; the output map is right.",
        _backward,
        _itself,
        "np.concatenate([dk, dq, dv], axis=-1)",
    ),
    Mistake(
        "projected_attention",
        "itself",
        "what asks taken for the only way to x",
        "dq W_q has the shape of dx.",
        "The maps are right; dx, and so everything below, is not.",
        _backward,
        "return dx, dweight, dbias, *dout",
        "dx = linear_backward(np.concatenate([dq, 0 * dk, 0 * dv], axis=-1), of_all)[0]\n"
        "        return dx, dweight, dbias, *dout",
    ),
    Mistake(
        "projected_attention",
        "memory, mask, dropout",
        "the memory's gradient through the keys only",
        "dk W_k has the shape of dk W_k + dv W_v.",
        "The maps and dx are right; dmemory, and so the encoder, is not.",
        _backward,
        "return " + _memory,
        "dmemory = linear_backward(np.concatenate([dk, 0 * dv], axis=-1), of_kv)[0]\n"
        "    return " + _memory,
    ),
    Mistake(
        "projected_attention",
        "memory, mask, dropout",
        "the memory's gradient through the values only",
        "As above, the other share; keys seem to belong to the scores alone.",
        "The maps and dx are right; dmemory, and so the encoder, is not.",
        _backward,
        "return " + _memory,
        "dmemory = linear_backward(np.concatenate([0 * dk, dv], axis=-1), of_kv)[0]\n"
        "    return " + _memory,
    ),
    Mistake(
        "projected_attention",
        "memory, mask, dropout",
        "the gradients of k and v joined as v and k",
        "Both have one shape.",
        "The last two thirds of in_proj are exchanged, and dmemory is wrong; dx is right.",
        _backward,
        _other,
        "np.concatenate([dv, dk], axis=-1)",
    ),
    Mistake(
        "projected_attention",
        "memory, past",
        "the map of the keys and values not trained where there is a memory",
        "It lies in one array with that of the queries, which learns.",
        "Two thirds of in_proj_weight are zero; without a memory all is right.",
        _backward,
        _weight,
        "np.concatenate([dweight_q, 0 * dweight_kv])",
    ),
    Mistake(
        "projected_attention",
        "memory, mask, dropout",
        "the maps' gradients below each other in the wrong order",
        "The queries' third and the others' two thirds join to one shape either way.",
        "in_proj_weight's rows are moved by a third; dx and dmemory are right.",
        _backward,
        _weight,
        "np.concatenate([dweight_kv, dweight_q])",
    ),
    Mistake(
        "projected_attention",
        "itself, past, causal",
        "the output map's gradient taken for that of what attention returned",
        "The map is square: dy has the shape of what goes into it.",
        "The output map is right, all below is not.",
        _backward,
        "dy, *dout = linear_backward(dy, output)",
        "dout = linear_backward(dy, output)[1:]",
    ),
]
