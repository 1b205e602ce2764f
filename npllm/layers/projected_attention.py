"""Multi-head attention with its linear maps: from one sequence to itself, or to another.

Vaswani et al., "Attention Is All You Need" (2017), section 3.2.2: what torch calls
``nn.MultiheadAttention``, with its parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npllm.layers.arrays import Array, check_floats, check_shape, split_last
from npllm.layers.attention import Sight
from npllm.layers.linear import LinearCache, linear_backward, linear_forward
from npllm.layers.multi_head_attention import (
    KeysAndValues,
    MultiHeadAttentionCache,
    multi_head_attention_backward,
    multi_head_attention_forward,
)


class ProjectedAttentionCache(NamedTuple):
    """What the backward needs of the forward."""

    inputs: tuple[LinearCache, ...]  # of q, k and v together; or of q, and of k and v
    attention: MultiHeadAttentionCache
    output: LinearCache


def projected_attention_forward(
    x: Array,
    memory: Array | None,
    in_weight: Array,
    in_bias: Array,
    out_weight: Array,
    out_bias: Array,
    heads: int,
    *,
    past: KeysAndValues | None = None,
    sight: Sight = Sight(),  # noqa: B008 (it cannot change)
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[tuple[Array, KeysAndValues], ProjectedAttentionCache]:
    """Apply y = W_o attention(W_q x, W_k m, W_v m), the maps with their biases.

    Args:
        x: (B, T, E), which asks.
        memory: m (B, S, E), which is asked: the other sequence; None for x itself.
        in_weight: (3E, E), W_q, W_k and W_v below each other.
        in_bias: (3E,).
        out_weight: W_o (E, E).
        out_bias: (E,).
        heads: N, which divides E.
        past: keys and values that come before those of m, or of x; constants, see
            :func:`npllm.layers.multi_head_attention_forward`.
        sight: see there; so are the following.
        dropout: see there.
        rng: see there.

    Returns:
        (y, (keys, values)) and the cache of :func:`projected_attention_backward`.

    Raises:
        ValueError: the shapes do not fit.

    >>> x, eye, zero = np.ones((1, 2, 2)), np.eye(2), np.zeros(6)
    >>> maps = np.vstack([eye] * 3), zero, eye, zero[:2]
    >>> (y, _), _ = projected_attention_forward(x, None, *maps, heads=1)
    >>> y.tolist()  # a mean of what is all the same
    [[[1.0, 1.0], [1.0, 1.0]]]
    """
    check_floats(
        x=x,
        memory=memory,
        in_weight=in_weight,
        in_bias=in_bias,
        out_weight=out_weight,
        out_bias=out_bias,
    )
    width = x.shape[-1]
    check_shape(in_weight, (3 * width, width), "in_weight")
    inputs: tuple[LinearCache, ...]
    if memory is None:
        qkv, cache = linear_forward(x, in_weight, in_bias)  # (B, T, 3E)
        q, k, v = split_last(qkv, 3)
        inputs = (cache,)
    else:
        q, q_cache = linear_forward(x, in_weight[:width], in_bias[:width])  # (B, T, E)
        kv, kv_cache = linear_forward(memory, in_weight[width:], in_bias[width:])  # (B, S, 2E)
        k, v = split_last(kv, 2)
        inputs = (q_cache, kv_cache)
    (y, kept), attention = multi_head_attention_forward(
        q, k, v, heads, past=past, sight=sight, dropout=dropout, rng=rng
    )
    y, output = linear_forward(y, out_weight, out_bias)  # (B, T, E)
    return (y, kept), ProjectedAttentionCache(inputs, attention, output)


def projected_attention_backward(dy: Array, cache: ProjectedAttentionCache) -> tuple[Array, ...]:
    """Return dx, dmemory if there was one, and the gradients of the maps, in their order.

    What asks and what is asked have their gradients from one product each; where they are the same
    sequence, the product adds them up.

    Args:
        dy: (B, T, E).
        cache: what :func:`projected_attention_forward` returned.
    """
    inputs, attention, output = cache
    # y = linear(y, out_weight, out_bias)
    dy, *dout = linear_backward(dy, output)
    dq, dk, dv = multi_head_attention_backward((dy, None), attention)
    # q, k, v = split(linear(x, in_weight, in_bias))
    if len(inputs) == 1:
        (of_all,) = inputs
        dx, dweight, dbias = linear_backward(np.concatenate([dq, dk, dv], axis=-1), of_all)
        return dx, dweight, dbias, *dout
    # q = linear(x, ...), k, v = split(linear(memory, ...))
    of_q, of_kv = inputs
    dx, dweight_q, dbias_q = linear_backward(dq, of_q)
    dmemory, dweight_kv, dbias_kv = linear_backward(np.concatenate([dk, dv], axis=-1), of_kv)
    dweight = np.concatenate([dweight_q, dweight_kv])
    dbias = np.concatenate([dbias_q, dbias_kv])
    return dx, dmemory, dweight, dbias, *dout
