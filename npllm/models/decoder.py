"""A decoder's block: a text that sees itself up to a place, and all of another text.

Vaswani et al., "Attention Is All You Need" (2017), section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from npllm.layers import (
    dropout_backward,
    dropout_forward,
    gelu_backward,
    gelu_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
    projected_attention_backward,
    projected_attention_forward,
)
from npllm.layers.activations import GeluCache
from npllm.layers.arrays import Array, Mask, check_floats
from npllm.layers.attention import Sight
from npllm.layers.dropout import DropoutCache
from npllm.layers.linear import LinearCache
from npllm.layers.multi_head_attention import KeysAndValues
from npllm.layers.norm import LayerNormCache
from npllm.layers.pieces import Pieces
from npllm.layers.projected_attention import ProjectedAttentionCache
from npllm.models.encoder import attention_maps, encoder_block_shapes, named_maps


class DecoderBlockCache(NamedTuple):
    """The caches of the block's layers, in the order in which they run."""

    attention: ProjectedAttentionCache
    dropped: DropoutCache
    norm1: LayerNormCache | Pieces
    cross: ProjectedAttentionCache
    cross_dropped: DropoutCache
    norm2: LayerNormCache | Pieces
    linear1: LinearCache
    gelu: GeluCache | Pieces
    linear2: LinearCache
    mlp_dropped: DropoutCache
    norm3: LayerNormCache | Pieces


def decoder_block_shapes(width: int, inner: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a block's parameters, by torch's names: an encoder's, and a third part.

    Args:
        width: E.
        inner: F, between the two linear maps.
    """
    own = encoder_block_shapes(width, inner)
    cross = {
        name.replace("self_attn", "multihead_attn"): shape
        for name, shape in own.items()
        if name.startswith("self_attn")
    }
    return own | cross | {"norm3.weight": (width,), "norm3.bias": (width,)}


def decoder_block_forward(
    x: Array,
    memory: Array | None,
    p: Mapping[str, Array],
    heads: int,
    *,
    past: KeysAndValues | None = None,
    source: KeysAndValues | None = None,
    sight: Sight = Sight(causal=True),  # noqa: B008 (it cannot change)
    real: Mask | None = None,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    eps: float = 1e-5,
) -> tuple[tuple[Array, KeysAndValues, KeysAndValues], DecoderBlockCache]:
    """Add to x what it sees of itself, then of the source, then what two linear maps make of it.

    With norm a layer norm and its own parameters each time::

        x = norm(x + dropout(attention(x, x)))
        x = norm(x + dropout(attention(x, memory)))
        x = norm(x + dropout(linear2(gelu(linear1(x)))))

    Args:
        x: (B, T, E).
        memory: (B, S, E), what the encoder made of the source; None where ``source`` is given.
        p: the block's parameters, by the names of torch's ``nn.TransformerDecoderLayer``.
        heads: N.
        past: keys and values of earlier steps; constants.
        source: those of the memory, where an earlier call returned them; constants.
        sight: which places x may see of itself and its past.
        real: (B, S), which places of the source are not there to fill a row up; all where None.
        dropout: of the attention weights, and of what each part adds.
        rng: draws the masks of dropout.
        eps: of the layer norms.

    Returns:
        (x, (keys, values), (keys, values) of the memory) and the cache of
        :func:`decoder_block_backward`.
    """
    check_floats(x=x, memory=memory, **p)
    options: dict[str, Any] = {"dropout": dropout, "rng": rng}
    own = attention_maps(p, "self_attn")
    (a, kept), attention = projected_attention_forward(
        x, None, *own, heads, past=past, sight=sight, **options
    )
    a, dropped = dropout_forward(a, p=dropout, rng=rng)
    x, norm1 = layer_norm_forward(x + a, p["norm1.weight"], p["norm1.bias"], eps=eps)
    asked = np.zeros((len(x), 0, x.shape[-1]), x.dtype) if memory is None else memory
    seen = Sight(None if real is None else real[:, None, None])  # (B, 1, 1, S)
    (c, of_source), cross = projected_attention_forward(
        x, asked, *attention_maps(p, "multihead_attn"), heads, past=source, sight=seen, **options
    )
    c, cross_dropped = dropout_forward(c, p=dropout, rng=rng)
    x, norm2 = layer_norm_forward(x + c, p["norm2.weight"], p["norm2.bias"], eps=eps)
    m, linear1 = linear_forward(x, p["linear1.weight"], p["linear1.bias"])  # (B, T, F)
    m, gelu = gelu_forward(m)
    m, linear2 = linear_forward(m, p["linear2.weight"], p["linear2.bias"])  # (B, T, E)
    m, mlp_dropped = dropout_forward(m, p=dropout, rng=rng)
    x, norm3 = layer_norm_forward(x + m, p["norm3.weight"], p["norm3.bias"], eps=eps)
    first = attention, dropped, norm1, cross, cross_dropped, norm2
    cache = DecoderBlockCache(*first, linear1, gelu, linear2, mlp_dropped, norm3)
    return (x, kept, of_source), cache


def decoder_block_backward(
    dy: Array, cache: DecoderBlockCache
) -> tuple[Array, Array, dict[str, Array]]:
    """Return dx, dmemory, and the gradients of the block's parameters by name.

    Args:
        dy: (B, T, E).
        cache: what :func:`decoder_block_forward` returned of a memory, and without a past.
    """
    g: dict[str, Array] = {}
    # x = norm(x + dropout(linear2(gelu(linear1(x)))))
    dx, g["norm3.weight"], g["norm3.bias"] = layer_norm_backward(dy, cache.norm3)
    dm = dropout_backward(dx, cache.mlp_dropped)
    dm, g["linear2.weight"], g["linear2.bias"] = linear_backward(dm, cache.linear2)
    dm = gelu_backward(dm, cache.gelu)
    dm, g["linear1.weight"], g["linear1.bias"] = linear_backward(dm, cache.linear1)
    # x = norm(x + dropout(attention(x, memory)))
    dx, g["norm2.weight"], g["norm2.bias"] = layer_norm_backward(dx + dm, cache.norm2)
    dc = dropout_backward(dx, cache.cross_dropped)
    dc, dmemory, *dmaps = projected_attention_backward(dc, cache.cross)
    g |= named_maps("multihead_attn", dmaps)
    # x = norm(x + dropout(attention(x, x)))
    dx, g["norm1.weight"], g["norm1.bias"] = layer_norm_backward(dx + dc, cache.norm1)
    da = dropout_backward(dx, cache.dropped)
    da, *dmaps = projected_attention_backward(da, cache.attention)
    g |= named_maps("self_attn", dmaps)
    return dx + da, dmemory, g
