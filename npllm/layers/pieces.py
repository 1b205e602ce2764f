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

from npllm.layers.arrays import Array, Shape, as_rows, check_floats, check_shape
from npllm.threads import granted_cores, on_cores

# Numbers: 256 KB in float32, so that an operation's few arrays stay in a core's cache. Where
# threads share the work, each operation is one turn at Python's lock, and has to be worth it.
ALONE, SHARED = 2**16, 2**18

Cache = TypeVar("Cache")


class Pieces(NamedTuple):
    """The cache of a layer that was computed in pieces."""

    parts: list[tuple[slice, Any]]  # the rows and the layer's cache of each piece
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
    >>> y.shape, len(cache.parts)
    ((3, 65536), 3)
    """
    whole = arrays[0]
    piece = numbers_at_a_time()
    if whole.size <= piece or whole.ndim < 2:
        return forward(*arrays)
    rows = [as_rows(array) for array in arrays]
    width = whole.shape[-1]
    number, size = whole.size // width, max(1, piece // width)
    slices = [slice(start, start + size) for start in range(0, number, size)]
    first, cache = forward(*(array[slices[0]] for array in rows))
    y = np.empty((number, width), first.dtype)
    y[slices[0]] = first

    def run(piece: slice) -> tuple[slice, Cache]:
        y[piece], cache = forward(*(array[piece] for array in rows))
        return piece, cache

    parts = [(slices[0], cache), *on_cores(run, slices[1:])]
    return y.reshape(whole.shape), Pieces(parts, whole.shape)


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
    check_floats(dy=dy)
    check_shape(dy, cache.shape, "dy")
    rows = as_rows(dy)
    piece, own = cache.parts[0]
    found = backward(rows[piece], own)
    gradients = [np.empty(rows.shape, part.dtype) for part in found[:arrays]]

    def place(piece: slice, found: tuple[Array, ...]) -> tuple[Array, ...]:
        for n, gradient in enumerate(gradients):
            gradient[piece] = found[n]
        return found[arrays:]

    def run(part: tuple[slice, Cache]) -> tuple[Array, ...]:
        piece, own = part
        return place(piece, backward(rows[piece], own))

    shares = [place(piece, found), *on_cores(run, cache.parts[1:])]
    sums = map(lambda *parts: np.sum(parts, axis=0), *shares)
    return *(gradient.reshape(cache.shape) for gradient in gradients), *sums
