"""Clipping by the global norm."""

from __future__ import annotations

import math

import numpy as np

from npllm.optim.optimizer import PIECE, Array, as_vector, check_range

# Sums of squares of float32 between these have all of their digits.
_SMALL, _LARGE = 1e-30, 1e38


def clip_global_norm(gradients: object, max_norm: float) -> float:
    """Shorten the gradients, in place, to a Euclidean norm of ``max_norm`` where it is larger.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013),
    algorithm 1. The factor is max_norm / (norm + 1e-6), as in torch.

    Args:
        gradients: what a model's ``backward`` returned, or a vector.
        max_norm: the largest norm, 0 or more.

    Returns:
        The norm before clipping, also where its square is beyond the dtype. Where it is no finite
        number nothing can be shortened, and the gradients stay as they are.

    Raises:
        ValueError: ``max_norm`` is negative.

    >>> g = np.array([3.0, 4.0])
    >>> clip_global_norm(g, 1.0), g.round(5).tolist()
    (5.0, [0.6, 0.8])
    """
    check_range("max_norm", max_norm, 0.0)
    vector = as_vector(gradients, "gradients")
    norm = math.sqrt(sum_of_squares(vector))
    largest = float(np.abs(vector).max(initial=0))
    if math.isinf(norm) and math.isfinite(largest):  # in float64 too, squares have an end
        norm = largest * math.sqrt(sum_of_squares(vector / largest))
    factor = clip_factor(norm, max_norm)
    if factor < 1:
        vector *= factor
    return norm


def clip_factor(norm: float, max_norm: float) -> float:
    """Return what gradients of a norm are multiplied with to have at most another, if below 1."""
    return max_norm / (norm + 1e-6) if math.isfinite(norm) else 1.0


def sum_of_squares(vector: Array) -> float:
    """Return the squared norm: in float64, where a float32 would lose it.

    >>> bool(np.isclose(sum_of_squares(np.full(4, 1e20, np.float32)), 4e40))
    True
    """
    total = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, vector.size, PIECE):
            piece = vector[start : start + PIECE]
            squares = float(np.vdot(piece, piece))
            if not _SMALL < squares < _LARGE:  # where float32 has lost digits, or all
                wide = piece.astype(np.float64)
                squares = float(np.vdot(wide, wide))
            total += squares
    return total
