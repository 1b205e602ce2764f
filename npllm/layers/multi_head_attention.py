"""Attention in several heads side by side, on projected queries, keys and values.

Vaswani et al., "Attention Is All You Need" (2017), section 3.2.2. A head is a stretch of the
features. Several query heads may share a key and a value head: Ainslie et al., "GQA" (2023); with
one key head for all of them it is Shazeer's multi-query attention (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from npllm.layers.arrays import Array, Mask, Shape, check_dy, check_floats, check_shape
from npllm.layers.attention import (
    AttentionCache,
    Sight,
    attention_backward,
    attention_forward,
    attention_weights,
)
from npllm.layers.growing import GrowingPair
from npllm.layers.rotary import RotaryCache, rotary_backward, rotary_forward
from npllm.layers.tiled_attention import (
    TiledCache,
    tiled_attention_backward,
    tiled_attention_forward,
)

KeysAndValues = tuple[Array, Array]  # (B, K, T, D) and (B, K, T, Dv)
Scores = TypeVar("Scores", Array, Mask)


class Rotary(NamedTuple):
    """How q and k are turned: see :func:`npllm.layers.rotary_forward`."""

    cos: Array
    sin: Array
    interleaved: bool = False


class MultiHeadAttentionCache(NamedTuple):
    """What the backward needs of the forward."""

    attention: AttentionCache | TiledCache
    rotary: tuple[RotaryCache, RotaryCache] | None  # of q and of k
    past_steps: int
    bias_shape: Shape | None
    y_shape: Shape  # (B, K, G, Tq, Dv)


def multi_head_attention_forward(
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    *,
    kv_heads: int | None = None,
    rotary: Rotary | None = None,
    past: KeysAndValues | None = None,
    sight: Sight = Sight(),  # noqa: B008 (it cannot change)
    bias: Array | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    tiled: bool = False,
) -> tuple[tuple[Array, KeysAndValues], MultiHeadAttentionCache]:
    """Split q, k and v into heads, let each head attend, and join what they return.

    Self-attention where the three come from one sequence, cross-attention where k and v come from
    another.

    Args:
        q: (B, Tq, N D): head n has the features n D to (n + 1) D.
        k: (B, Tk, K D).
        v: (B, Tk, K Dv).
        heads: N.
        kv_heads: K, which divides N: query head n looks at key head n // (N / K); N where None.
        rotary: cos and sin of the positions of q and k (Tq = Tk), and whether the pairs are
            interleaved, see :func:`npllm.layers.rotary_forward`; not turned where None.
        past: keys and values of earlier steps, (B, K, P, D) and (B, K, P, Dv), as an earlier call
            returned them; constants. The first query then stands at position P. Those of a
            :class:`npllm.layers.growing.GrowingPair` grow in place.
        sight: which of the P + Tk keys a query may see, its mask (B, N, Tq, P + Tk) or what
            broadcasts to that; its offset follows from the past.
        bias: broadcasts to (B, N, Tq, P + Tk).
        scale: see :func:`npllm.layers.attention_forward`; so are the following.
        softcap: see there.
        dropout: see there; 0 where tiled.
        rng: see there.
        tiled: use :mod:`npllm.layers.tiled_attention`: the same numbers, memory linear in T.

    Returns:
        (y, (keys, values)) and the cache of :func:`multi_head_attention_backward`: y (B, Tq, N Dv),
        and the keys and values with those of the past in front, which are for the next step.

    Raises:
        ValueError: the shapes do not fit, or there is dropout where tiled.

    >>> x = np.random.default_rng(0).normal(size=(1, 3, 4))  # two heads are two attentions
    >>> (y, _), _ = multi_head_attention_forward(x, x, x, heads=2)
    >>> one, two = (attention_forward(h, h, h)[0] for h in (x[..., :2], x[..., 2:]))
    >>> bool(np.allclose(y, np.concatenate([one, two], axis=-1)))
    True
    """
    keys_before, values_before = past or (None, None)
    check_floats(q=q, k=k, v=v, past_keys=keys_before, past_values=values_before, bias=bias)
    kv_heads = heads if kv_heads is None else kv_heads
    if sight.offset:
        raise ValueError(f"the offset follows from the past, and must be 0, got {sight.offset}")
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"kv_heads must divide heads, {heads}, got {kv_heads}")
    qh, kh, vh = _split(q, heads, "q"), _split(k, kv_heads, "k"), _split(v, kv_heads, "v")
    rotary_caches = None
    if rotary is not None:
        cos, sin, interleaved = rotary
        qh, q_cache = rotary_forward(qh, cos, sin, interleaved=interleaved)
        kh, k_cache = rotary_forward(kh, cos, sin, interleaved=interleaved)
        rotary_caches = (q_cache, k_cache)
    keys, values = kh, vh  # (B, K, P + Tk, D or Dv)
    if isinstance(past, GrowingPair):
        keys, values = past = past.extended(kh, vh)
    elif past is not None:
        keys = np.concatenate([past[0], kh], axis=2)
        values = np.concatenate([past[1], vh], axis=2)
    past_steps = keys.shape[2] - kh.shape[2]
    # (B, N, ...) as (B, K, G, ...): the G query heads of a key head
    grouped = qh.reshape(len(q), kv_heads, heads // kv_heads, *qh.shape[2:])
    attend: Callable[..., tuple[Array, AttentionCache | TiledCache]]
    if not tiled:
        attend = partial(attention_forward, dropout=dropout, rng=rng)
    elif dropout == 0:
        attend = tiled_attention_forward
    else:
        raise ValueError(f"tiled attention has no dropout, got {dropout}")
    seen = sight._replace(mask=_grouped(sight.mask, kv_heads), offset=past_steps)
    y, cache = attend(
        grouped,
        keys[:, :, None],
        values[:, :, None],
        **seen._asdict(),
        bias=_grouped(bias, kv_heads),
        scale=scale,
        softcap=softcap,
    )
    # y is (B, K, G, Tq, Dv)
    bias_shape = None if bias is None else bias.shape
    kept = past if isinstance(past, GrowingPair) else (keys.copy(), values.copy())
    return (_joined(y), kept), MultiHeadAttentionCache(
        cache, rotary_caches, past_steps, bias_shape, y.shape
    )


def multi_head_attention_backward(
    dy: tuple[Array, KeysAndValues | None], cache: MultiHeadAttentionCache
) -> tuple[Array, ...]:
    """Return dq, dk, dv and, where there was a bias, dbias.

    Args:
        dy: (dy, (dkeys, dvalues)), shaped as the forward's result; None in place of the pair where
            the loss does not see what later steps make of them.
        cache: what :func:`multi_head_attention_forward` returned.
    """
    attention, rotary_caches, past_steps, bias_shape, y_shape = cache
    batch, kv_heads, group, steps, width = y_shape
    djoined, dkept = dy
    check_floats(dy=djoined)
    check_shape(djoined, (batch, steps, kv_heads * group * width), "dy")
    # y = joined(attention(q, k, v))
    dheads = djoined.reshape(batch, steps, kv_heads, group, width).transpose(0, 2, 3, 1, 4)
    if isinstance(attention, TiledCache):
        dq, dk, dv, *dbias = tiled_attention_backward(dheads, attention)
    else:
        dq, dk, dv, *dbias = attention_backward(dheads, attention)
    dq = dq.reshape(batch, kv_heads * group, *dq.shape[3:])  # (B, N, Tq, D)
    # keys = concatenate(past, k): the past is a constant
    new = slice(past_steps, None)
    dk, dv = dk.squeeze(2)[:, :, new], dv.squeeze(2)[:, :, new]  # (B, K, Tk, D or Dv)
    if dkept is not None:
        kept = (batch, kv_heads, past_steps + dk.shape[2])
        for d, size, name in ((dkept[0], dk.shape[3], "dkeys"), (dkept[1], width, "dvalues")):
            check_dy(d, (*kept, size), dk.dtype, name)
        dk, dv = dk + dkept[0][:, :, new], dv + dkept[1][:, :, new]
    # q, k = rotary(q), rotary(k)
    if rotary_caches is not None:
        q_cache, k_cache = rotary_caches
        dq, dk = rotary_backward(dq, q_cache), rotary_backward(dk, k_cache)
    # q, k, v = split(q), split(k), split(v)
    if bias_shape is not None:
        dbias = [d.reshape(bias_shape) for d in dbias]
    return _joined(dq), _joined(dk), _joined(dv), *dbias


def multi_head_attention_weights(cache: MultiHeadAttentionCache) -> Array:
    """Return the softmax of each head, (B, N, Tq, P + Tk), before dropout.

    Args:
        cache: what :func:`multi_head_attention_forward` returned.

    Raises:
        ValueError: it was tiled, and all weights were never held.
    """
    if isinstance(cache.attention, TiledCache):
        raise ValueError("tiled attention holds no weights to return")
    weights = attention_weights(cache.attention)  # (B, K, G, Tq, P + Tk)
    batch, kv_heads, group, *steps = weights.shape
    return weights.reshape(batch, kv_heads * group, *steps)


def _split(x: Array, heads: int, name: str) -> Array:
    """Return (B, T, N D) as (B, N, T, D)."""
    if x.ndim != 3 or x.shape[-1] % heads:
        raise ValueError(f"{name} must have shape (B, T, {heads} D), got {x.shape}")
    return x.reshape(*x.shape[:2], heads, x.shape[-1] // heads).swapaxes(1, 2)


def _joined(y: Array) -> Array:
    """Return (B, ..., T, D), with any axes of heads between, as (B, T, N D)."""
    moved = np.moveaxis(y, -2, 1)
    return moved.reshape(*moved.shape[:2], math.prod(moved.shape[2:]))


def _grouped(array: Scores | None, kv_heads: int) -> Scores | None:
    """Return what broadcasts to (B, N, Tq, Tk) as what broadcasts to (B, K, G, Tq, Tk)."""
    if array is None or array.ndim < 3:
        return array
    heads = array.shape[-3]
    split = (1, 1) if heads == 1 else (kv_heads, heads // kv_heads)
    return array.reshape(*array.shape[:-3], *split, *array.shape[-2:])
