"""A layer that treats each row by itself, some rows at a time.

A function of many rows passes over memory once for every operation in it. Over as many rows as the
cache holds, only its argument and its result travel; and rows that do not know of each other can be
on several cores, as many as :func:`npllm.threads.blas_held` grants. The layer itself stays as it
reads: it is called with the rows of a piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from npllm.layers.arrays import Array, Shape, as_rows, check_shape
from npllm.threads import granted_cores, on_cores

# Numbers: 256 KB in float32, so that an operation's few arrays stay in a core's cache. Where
# threads share the work, each operation is one turn at Python's lock, and has to be worth it.
ALONE, SHARED = 2**16, 2**18

Cache = TypeVar("Cache")


class Pieces(NamedTuple):
    """The cache of a layer that was computed in pieces."""

    slices: list[slice]
    caches: list[Any]
    shape: Shape


def numbers_at_a_time() -> int:
    """Return how many numbers a piece has."""
    return ALONE if granted_cores() == 1 else SHARED


def forward_in_pieces(
    forward: Callable[..., tuple[Array, Cache]], *arrays: Array
) -> tuple[Array, Cache | Pieces]:
    """Return what ``forward(*arrays)`` returns, computed some rows at a time.

    Args:
        forward: a pair's forward, in which each row of the result is made of the same row of the
            arrays.
        arrays: (..., E), all of one shape.

    >>> y, cache = forward_in_pieces(lambda x: (x * x, x), np.full((3, ALONE), 2.0))
    >>> y.shape, len(cache.slices)
    ((3, 65536), 3)
    """
    shape = arrays[0].shape
    piece = numbers_at_a_time()
    if arrays[0].size <= piece or len(shape) < 2:
        return forward(*arrays)
    rows = [as_rows(array) for array in arrays]
    size = max(1, piece // shape[-1])
    slices = [slice(start, start + size) for start in range(0, len(rows[0]), size)]
    first, cache = forward(*(array[slices[0]] for array in rows))
    y = np.empty(rows[0].shape, first.dtype)
    y[slices[0]] = first

    def run(piece: slice) -> Cache:
        y[piece], cache = forward(*(array[piece] for array in rows))
        return cache

    caches = [cache, *on_cores(run, slices[1:])]
    return y.reshape(shape), Pieces(slices, caches, shape)


def backward_in_pieces(
    backward: Callable[[Array, Cache], tuple[Array, ...]],
    dy: Array,
    cache: Cache | Pieces,
    arrays: int = 1,
) -> tuple[Array, ...]:
    """Return what the pair's ``backward(dy, cache)`` returns.

    Args:
        backward: returns the gradients of the arrays that were cut, and then of what all rows
            share, which are added up.
        dy: (..., E).
        cache: what :func:`forward_in_pieces` returned.
        arrays: how many were cut.
    """
    if not isinstance(cache, Pieces):
        return backward(dy, cache)
    check_shape(dy, cache.shape, "dy")
    rows = as_rows(dy)
    first, *others = zip(cache.slices, cache.caches, strict=True)
    found = backward(rows[first[0]], first[1])
    gradients = [np.empty(rows.shape, part.dtype) for part in found[:arrays]]

    def place(piece: slice, found: tuple[Array, ...]) -> tuple[Array, ...]:
        for gradient, part in zip(gradients, found, strict=False):
            gradient[piece] = part
        return found[arrays:]

    def run(numbered: tuple[slice, Cache]) -> tuple[Array, ...]:
        piece, own = numbered
        return place(piece, backward(rows[piece], own))

    shares = [place(first[0], found), *on_cores(run, others)]
    sums = [np.sum(parts, axis=0) for parts in zip(*shares, strict=True)]
    return *(gradient.reshape(cache.shape) for gradient in gradients), *sums
