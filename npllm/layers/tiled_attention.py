"""Attention with memory that grows with T, not with T^2: a block of queries at a time.

The weights of all queries, (..., Tq, Tk), are never held. Each head's queries come in blocks, each
block over the keys it can see at all; the backward computes a block's weights again, as Dao et al.,
"FlashAttention" (2022), do. A block is :mod:`npllm.layers.attention` itself, so both give the same
numbers, forward and backward, but for the order in which the keys' gradients are added up.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeVar

import numpy as np

from npllm.layers.arrays import Array, Mask, Shape, check_dy
from npllm.layers.attention import (
    AttentionCache,
    Sight,
    attention_backward,
    attention_cache,
    check_attention,
    weighed,
)
from npllm.threads import granted_cores, on_cores

Part = TypeVar("Part", Array, Mask)

# Scores at a time: few enough to stay in the cache, and those of so many queries at least that the
# products are worth it; twice as many where threads take turns at Python's lock.
SCORES, QUERIES = 2**17, 128


class Tile(NamedTuple):
    """A block of one head's queries, and the keys between the first and last that they see."""

    lead: Shape  # the index of its leading axes
    rows: slice
    keys: slice


class TiledCache(NamedTuple):
    """What the backward needs of the forward: nothing but the arguments."""

    q: Array
    k: Array
    v: Array
    bias: Array | None
    sight: Sight
    scale: float | None
    softcap: float | None
    tiles: list[Tile]
    y_shape: Shape


def tiled_attention_forward(
    q: Array,
    k: Array,
    v: Array,
    *,
    mask: Mask | None = None,
    bias: Array | None = None,
    causal: bool = False,
    window: int | None = None,
    offset: int = 0,
    scale: float | None = None,
    softcap: float | None = None,
    scores: int | None = None,
) -> tuple[Array, TiledCache]:
    """Apply what :func:`npllm.layers.attention_forward` applies, with the same arguments.

    Args:
        q: (..., Tq, D).
        k: (..., Tk, D).
        v: (..., Tk, Dv).
        mask: as there; so are the following.
        bias: its gradient has its shape, so a full (Tq, Tk) bias is not linear in T.
        causal: spares half of the work.
        window: spares all but Tq window of it.
        offset: as there.
        scale: as there.
        softcap: as there.
        scores: how many scores a block may hold; it holds one query's at least. Where None, 2^17
            or those of 128 queries, and twice as many on several cores.

    Returns:
        y of shape (..., Tq, Dv), and the cache of :func:`tiled_attention_backward`, which holds
        nothing but the arguments.

    Raises:
        TypeError: as there.
        ValueError: as there.

    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> from npllm.layers import attention_forward
    >>> y, _ = tiled_attention_forward(x, x, x, causal=True, scores=130)
    >>> bool(np.allclose(y, attention_forward(x, x, x, causal=True)[0], rtol=1e-12))
    True
    """
    lead = check_attention(q, k, v, mask, bias)
    tq, tk = q.shape[-2], k.shape[-2]
    sight = Sight(mask, causal, window, offset)
    if scores is None:
        scores = max(SCORES, QUERIES * tk) * min(2, granted_cores())
    tiles = _tiles(lead, tq, tk, sight, scores)
    y = np.empty((*lead, tq, v.shape[-1]), q.dtype)
    cache = TiledCache(q, k, v, bias, sight, scale, softcap, tiles, y.shape)

    def run(tile: Tile) -> None:
        block = _block(cache, tile)
        y[tile.lead][tile.rows] = weighed(block.dropped, block.v)

    on_cores(run, tiles)
    return y, cache


def tiled_attention_backward(dy: Array, cache: TiledCache) -> tuple[Array, ...]:
    """Return dq, dk, dv and, where there was a bias, dbias.

    A query's gradient is its block's; a key adds up what comes from all blocks that see it, of all
    heads that share it.

    Args:
        dy: (..., Tq, Dv).
        cache: what :func:`tiled_attention_forward` returned.
    """
    q, k, v, bias, *_ = cache
    check_dy(dy, cache.y_shape, v.dtype)
    everything = slice(None)
    gradients = [np.zeros_like(a) for a in (q, k, v, bias) if a is not None]

    def run(tiles: list[Tile]) -> None:
        for tile in tiles:
            index, rows, keys = tile
            block = _block(cache, tile)
            cuts = ((rows, everything), (keys, everything), (keys, everything), (rows, keys))
            parts = attention_backward(dy[index][rows], block)
            for i, part in enumerate(parts):
                place = _part(gradients[i], index, *cuts[i])
                place += part

    on_cores(run, _apart(cache))
    return tuple(gradients)


def _apart(cache: TiledCache) -> list[list[Tile]]:
    """Return the tiles in groups that add to no gradient of each other's, in their order."""
    q, k, v, bias, *_ = cache
    if bias is not None or q.shape[:-2] != cache.y_shape[:-2] or k.shape[:-2] != v.shape[:-2]:
        return [cache.tiles]  # heads share more than keys and values, or these differently
    groups: dict[Shape, list[Tile]] = {}
    for tile in cache.tiles:
        groups.setdefault(_own(k, tile.lead), []).append(tile)
    return list(groups.values())


def _block(cache: TiledCache, tile: Tile) -> AttentionCache:
    """Return what attention's backward needs of one tile."""
    q, k, v, bias, (mask, causal, window, offset), *_ = cache
    index, rows, keys = tile
    everything = slice(None)
    # the block's first query stands this far from its first key
    offset += rows.start - keys.start
    seen = None if mask is None else _part(mask, index, rows, keys)
    return attention_cache(
        _part(q, index, rows, everything),
        _part(k, index, keys, everything),
        _part(v, index, keys, everything),
        Sight(seen, causal, window, offset),
        None if bias is None else _part(bias, index, rows, keys),
        cache.scale,
        cache.softcap,
    )


def _tiles(lead: Shape, tq: int, tk: int, sight: Sight, scores: int) -> list[Tile]:
    """Return the blocks of queries, each with the keys between the first and last it may see."""
    _, causal, window, offset = sight
    if scores < 1:
        raise ValueError(f"scores must be at least 1, got {scores}")
    size = max(1, scores // max(tk, 1))
    if window is not None:  # n queries see no more than n + 2 window keys
        size = max(size, math.isqrt(window * window + scores) - window)
    blocks = []
    for start in range(0, tq, size):
        stop = min(start + size, tq)
        first, last = start + offset, stop - 1 + offset  # positions
        low = 0 if window is None else first - window + 1
        high = last + 1 if causal else tk if window is None else last + window
        low, high = (min(max(edge, 0), tk) for edge in (low, high))
        blocks.append((slice(start, stop), slice(min(low, high), high)))
    return [Tile(index, rows, keys) for index in np.ndindex(lead) for rows, keys in blocks]


def _part(array: Part, index: Shape, rows: slice, columns: slice) -> Part:
    """Return a view of what a tile sees; an axis of size 1 is broadcast, and stays whole."""
    array = np.atleast_2d(array)
    height, width = array.shape[-2:]
    place: tuple[Any, ...] = (*_own(array, index), _cut(rows, height), _cut(columns, width))
    return array[place]


def _own(array: Array, index: Shape) -> Shape:
    """Return the index of an array's leading axes, some of which are broadcast."""
    lead = array.shape[:-2]
    return tuple(i % size for i, size in zip(index[len(index) - len(lead) :], lead, strict=True))


def _cut(part: slice, size: int) -> slice:
    return slice(None) if size == 1 and part.start != part.stop else part
