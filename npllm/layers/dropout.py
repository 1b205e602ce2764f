"""Dropout: forget a random part of the activations while training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array, Shape, check_dy, check_floats, check_probability


class RowsOfDraws(np.random.Generator):
    """Some rows of what a generator would have drawn for a whole batch.

    Whoever computes a part of a batch has the masks that the part has in the whole, and leaves the
    generator where the whole would.

    Args:
        rng: is drawn from.
        batch: B, how many rows the whole batch has.
        rows: which of them are wanted.
        axis: where they stand in what is drawn.

    >>> draw = RowsOfDraws(np.random.default_rng(0), 4, slice(1, 3), axis=0).random((2, 5))
    >>> bool((draw == np.random.default_rng(0).random((4, 5))[1:3]).all())
    True
    """

    def __init__(self, rng: np.random.Generator, batch: int, rows: slice, axis: int) -> None:
        super().__init__(rng.bit_generator)
        self._batch, self._rows, self._axis = batch, rows, axis

    def random(self, size: Shape, dtype: npt.DTypeLike = np.float64) -> Array:  # type: ignore[override]
        """Draw from [0, 1) for the whole batch; return (..., rows, ...) of it.

        Args:
            size: the shape of the rows.
            dtype: float64 or float32.
        """
        whole = (*size[: self._axis], self._batch, *size[self._axis + 1 :])
        drawn: Array = super().random(whole, dtype)  # type: ignore[arg-type]
        return drawn[(slice(None),) * self._axis + (self._rows,)]


class DropoutCache(NamedTuple):
    """What the backward needs of the forward."""

    mask: Array | None  # of factors; None where nothing was dropped
    shape: Shape
    dtype: np.dtype[np.inexact]


def dropout_forward(
    x: Array, *, p: float = 0.5, rng: np.random.Generator | None = None, training: bool = True
) -> tuple[Array, DropoutCache]:
    """Zero each element with probability ``p`` and scale the others by 1 / (1 - p).

    Srivastava et al., "Dropout" (2014), in the inverted form that leaves the expectation of every
    element as it was, so that evaluation needs no factor.

    Args:
        x: any shape.
        p: the probability of zero, in [0, 1].
        rng: draws one float32 number in [0, 1) an element, which is kept where that is ``p`` or
            more: the same state gives the same mask for every dtype. It may be None where nothing
            is drawn.
        training: False returns a copy of ``x``.

    Returns:
        y of x's shape, and the cache of :func:`dropout_backward`.

    Raises:
        ValueError: ``p`` is no probability, or a mask is due and ``rng`` is None.

    >>> y, _ = dropout_forward(np.ones(8), p=0.5, rng=np.random.default_rng(0))
    >>> sorted(set(y.tolist()))  # 0, or 1 / (1 - 0.5)
    [0.0, 2.0]
    """
    check_floats(x=x)
    check_probability(p, "p")
    if not training or p == 0:
        return x.copy(), DropoutCache(None, x.shape, x.dtype)
    if rng is None:
        raise ValueError("rng must be a numpy.random.Generator where dropout is on, got None")
    kept = rng.random(x.shape, dtype=np.float32) >= p
    scale = 0.0 if p == 1 else 1 / (1 - p)
    mask = kept.astype(x.real.dtype) * np.asarray(scale, x.real.dtype)
    return x * mask, DropoutCache(mask, x.shape, x.dtype)


def dropout_backward(dy: Array, cache: DropoutCache) -> Array:
    """Return dx = dy times the mask of the forward: the same elements, the same factor."""
    mask, shape, dtype = cache
    check_dy(dy, shape, dtype)
    return dy.copy() if mask is None else dy * mask
