"""An encoder: a text as vectors, each of which has seen all others.

Vaswani et al., "Attention Is All You Need" (2017), section 3.1: a stack of blocks like those of a
language model, but that attention has no causal mask. What fills a row up is hidden instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
from npllm.layers.arrays import Array, Ids, Mask, check_floats, check_ids, check_shape
from npllm.layers.attention import Sight
from npllm.layers.dropout import DropoutCache
from npllm.layers.linear import LinearCache
from npllm.layers.norm import LayerNormCache
from npllm.layers.pieces import Pieces
from npllm.layers.projected_attention import ProjectedAttentionCache


class EncoderBlockCache(NamedTuple):
    """The caches of the block's layers, in the order in which they run."""

    attention: ProjectedAttentionCache
    dropped: DropoutCache
    norm1: LayerNormCache | Pieces
    linear1: LinearCache
    gelu: GeluCache | Pieces
    linear2: LinearCache
    mlp_dropped: DropoutCache
    norm2: LayerNormCache | Pieces


def encoder_block_shapes(width: int, inner: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a block's parameters, by torch's names.

    Args:
        width: E.
        inner: F, between the two linear maps.
    """
    return {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        "self_attn.out_proj.weight": (width, width),
        "self_attn.out_proj.bias": (width,),
        "linear1.weight": (inner, width),
        "linear1.bias": (inner,),
        "linear2.weight": (width, inner),
        "linear2.bias": (width,),
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
    }


def encoder_block_forward(
    x: Array,
    p: Mapping[str, Array],
    heads: int,
    *,
    real: Mask | None = None,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    eps: float = 1e-5,
) -> tuple[Array, EncoderBlockCache]:
    """Add to x what attention makes of it, and to that what two linear maps make of it.

    With norm a layer norm and its own parameters each time::

        x = norm(x + dropout(attention(x)))
        x = norm(x + dropout(linear2(gelu(linear1(x)))))

    Args:
        x: (B, T, E).
        p: the block's parameters, by the names of torch's ``nn.TransformerEncoderLayer``.
        heads: N.
        real: (B, T), which places are not there to fill a row up; all where None.
        dropout: of the attention weights, and of what each half adds.
        rng: draws the masks of dropout.
        eps: of the layer norms.

    Returns:
        x (B, T, E) and the cache of :func:`encoder_block_backward`.
    """
    check_floats(x=x, **p)
    sight = Sight(None if real is None else real[:, None, None])  # (B, 1, 1, T)
    (a, _), attention = projected_attention_forward(
        x, None, *attention_maps(p, "self_attn"), heads, sight=sight, dropout=dropout, rng=rng
    )
    a, dropped = dropout_forward(a, p=dropout, rng=rng)
    x, norm1 = layer_norm_forward(x + a, p["norm1.weight"], p["norm1.bias"], eps=eps)
    m, linear1 = linear_forward(x, p["linear1.weight"], p["linear1.bias"])  # (B, T, F)
    m, gelu = gelu_forward(m)
    m, linear2 = linear_forward(m, p["linear2.weight"], p["linear2.bias"])  # (B, T, E)
    m, mlp_dropped = dropout_forward(m, p=dropout, rng=rng)
    x, norm2 = layer_norm_forward(x + m, p["norm2.weight"], p["norm2.bias"], eps=eps)
    return x, EncoderBlockCache(
        attention, dropped, norm1, linear1, gelu, linear2, mlp_dropped, norm2
    )


def encoder_block_backward(dy: Array, cache: EncoderBlockCache) -> tuple[Array, dict[str, Array]]:
    """Return dx, and the gradients of the block's parameters by name.

    Args:
        dy: (B, T, E).
        cache: what :func:`encoder_block_forward` returned.
    """
    attention, dropped, norm1, linear1, gelu, linear2, mlp_dropped, norm2 = cache
    g: dict[str, Array] = {}
    # x = norm(x + dropout(linear2(gelu(linear1(x)))))
    dx, g["norm2.weight"], g["norm2.bias"] = layer_norm_backward(dy, norm2)
    dm = dropout_backward(dx, mlp_dropped)
    dm, g["linear2.weight"], g["linear2.bias"] = linear_backward(dm, linear2)
    dm = gelu_backward(dm, gelu)
    dm, g["linear1.weight"], g["linear1.bias"] = linear_backward(dm, linear1)
    # x = norm(x + dropout(attention(x)))
    dx, g["norm1.weight"], g["norm1.bias"] = layer_norm_backward(dx + dm, norm1)
    da = dropout_backward(dx, dropped)
    da, *dmaps = projected_attention_backward(da, attention)
    g |= named_maps("self_attn", dmaps)
    return dx + da, g


_MAPS = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")


def attention_maps(p: Mapping[str, Array], part: str) -> tuple[Array, Array, Array, Array]:
    """Return the maps of an attention, in the order in which the layer takes them."""
    in_weight, in_bias, out_weight, out_bias = (p[f"{part}.{name}"] for name in _MAPS)
    return in_weight, in_bias, out_weight, out_bias


def named_maps(part: str, maps: Sequence[Array]) -> dict[str, Array]:
    """Return the maps of an attention, or their gradients, by their names."""
    return {f"{part}.{name}": array for name, array in zip(_MAPS, maps, strict=True)}


def real_places(lengths: Ids, steps: int) -> Mask | None:
    """Return (B, T), which places of each row are real; None where all are.

    Args:
        lengths: (B,).
        steps: T.

    >>> real_places(np.array([1, 2]), 2).tolist()
    [[True, False], [True, True]]
    """
    return None if (lengths == steps).all() else np.arange(steps) < lengths[:, None]


def checked_rows(ids: object, lengths: object, vocab_size: int) -> tuple[Ids, Ids]:
    """Return (B, T) ids and (B,) lengths.

    Raises:
        TypeError: they are not integers.
        ValueError: one is out of range, a row is empty, or they do not fit.
    """
    rows = check_ids(np.asarray(ids), vocab_size)
    if rows.ndim != 2:
        raise ValueError(f"ids must have shape (B, T), got {rows.shape}")
    ends = check_ids(np.asarray(lengths), rows.shape[1] + 1, "lengths")
    check_shape(ends, rows.shape[:1], "lengths")
    if not ends.all():
        raise ValueError("lengths must be 1 or more, got 0: a row needs a token")
    return rows, ends
