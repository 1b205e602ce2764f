"""What several layers need of their arrays: a type, the checks, the adjoint of broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]  # real or complex floating numbers, of one dtype in a call
Ids = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
Shape = tuple[int, ...]


def check_floats(**arrays: Array | None) -> None:
    """Raise TypeError, naming the argument, unless all are floating arrays of one dtype.

    That is the rule of every layer: what has a gradient is float32 or float64 (or complex, which
    the complex step needs), and the same throughout a call, so that nothing is rounded or widened
    unseen. Constants (a mask, a class's weight, the cosines of positions) are brought to it.

    Args:
        arrays: by the names of the arguments; None of one that is not given.

    >>> check_floats(x=np.zeros(2), weight=np.zeros(2, np.float32))
    Traceback (most recent call last):
    TypeError: weight must be float64 as x is, got float32
    """
    first = None
    for name, array in arrays.items():
        if array is None:
            continue
        dtype = getattr(array, "dtype", None)
        if getattr(dtype, "char", "?") not in _FLOATS:
            got = type(array).__name__ if dtype is None else dtype
            raise TypeError(f"{name} must be an array of float32 or float64, got {got}")
        if first is None:
            first = name, dtype
        elif dtype != first[1]:
            raise TypeError(f"{name} must be {first[1]} as {first[0]} is, got {dtype}")


_FLOATS = "fdFD"  # float32, float64, and complex numbers of both


def check_dy(dy: Array, shape: Shape, dtype: npt.DTypeLike, name: str = "dy") -> None:
    """Raise, naming the argument, unless a cotangent has the forward's shape and dtype.

    Raises:
        TypeError: it is no array, or of another dtype.
        ValueError: it has another shape.
    """
    check_floats(**{name: dy})
    check_shape(dy, shape, name)
    if dy.dtype != dtype:
        raise TypeError(f"{name} must be {np.dtype(dtype)} as the result is, got {dy.dtype}")


Parameter = ParamSpec("Parameter")
Result = TypeVar("Result")


def underflowing(function: Callable[Parameter, Result]) -> Callable[Parameter, Result]:
    """Return a function in which numbers that are too small become zero, without a word.

    exp(-1000) is a weight of zero, whatever the caller's ``np.errstate`` makes of underflow.
    """

    @wraps(function)
    def quiet(*args: Parameter.args, **options: Parameter.kwargs) -> Result:
        with np.errstate(under="ignore"):
            return function(*args, **options)

    return quiet


def check_ids(ids: npt.ArrayLike, size: int, name: str = "ids") -> Ids:
    """Return ``ids`` as an integer array, every entry of it in [0, size).

    Raises:
        TypeError: the entries are not integers.
        ValueError: an entry is negative, or ``size`` or more.
    """
    array = np.asarray(ids)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= size):
        bad = array[(array < 0) | (array >= size)].flat[0]
        raise ValueError(f"{name} must lie in [0, {size}), got {bad}")
    return array


def tally(places: Ids, weights: Array | None = None, size: int = 0) -> Array:
    """Return how often each place from 0 on occurs, or the sum of its weights: NumPy's bincount.

    NumPy takes no integers that an address of the machine cannot hold, which has 32 bits in a
    browser.

    >>> tally(np.array([2, 0, 2], np.uint64)).tolist()
    [1, 0, 2]
    """
    return np.bincount(places.astype(np.intp, casting="same_kind", copy=False), weights, size)


def check_shape(array: npt.NDArray[np.generic], expected: Shape, name: str) -> None:
    """Raise ValueError, naming the argument, unless ``array`` has the expected shape."""
    if array.shape != expected:
        raise ValueError(f"{name} must have shape {expected}, got {array.shape}")


def check_last_axis(array: Array, expected: int, name: str) -> None:
    """Raise ValueError, naming the argument, unless its last axis has the expected size."""
    if array.ndim == 0 or array.shape[-1] != expected:
        raise ValueError(f"{name} must have shape (..., {expected}), got {array.shape}")


def check_probability(p: float, name: str) -> None:
    """Raise ValueError, naming the argument, unless 0 <= p <= 1."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {p}")


def as_rows(array: Array) -> Array:
    """Return (..., I) as a matrix (M, I), also where a size is zero."""
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def split_last(array: Array, parts: int) -> list[Array]:
    """Return views of equal parts of the last axis: as np.split has, in a fraction of its time."""
    size = array.shape[-1] // parts
    return [array[..., k * size : (k + 1) * size] for k in range(parts)]


def row_sum(x: Array, y: Array | None = None, axis: int = -1) -> Array:
    """Return the sum of x, or of x y, over an axis, which stays."""
    if axis not in (-1, x.ndim - 1):
        sums: Array = (x if y is None else x * y).sum(axis=axis, keepdims=True)
        return sums
    return _weighed_rows(x, y, 1)


def row_mean(x: Array, y: Array | None = None) -> Array:
    """Return the mean of x, or of x y, over the last axis, which stays."""
    return _weighed_rows(x, y, 1 / x.shape[-1])


def _weighed_rows(x: Array, y: Array | None, weight: float) -> Array:
    """Return the sum of x, or of x y, over the last axis, which stays, times a weight.

    A product with a vector takes a fraction of the time of a sum. It adds one after the other, not
    in pairs: the error grows with the axis, not with its logarithm.
    """
    if y is not None:
        return np.einsum("...i,...i->...", x, y)[..., None] * weight
    return x @ np.full((x.shape[-1], 1), weight, x.dtype)


def column_sum(x: Array) -> Array:
    """Return the sum (E,) of the rows of (..., E)."""
    rows = as_rows(x)
    return np.ones(len(rows), x.dtype) @ rows


def unbroadcast(gradient: Array, shape: Shape) -> Array:
    """Sum ``gradient`` over the axes along which ``shape`` was broadcast to reach it.

    Broadcasting copies one value to many places, so its derivative adds what comes back from them.

    >>> unbroadcast(np.ones((4, 2, 3)), (2, 1)).tolist()
    [[12.0], [12.0]]
    """
    if gradient.shape == shape:
        return gradient
    leading = gradient.ndim - len(shape)
    stretched = (leading + axis for axis, size in enumerate(shape) if size == 1)
    return gradient.sum(axis=(*range(leading), *stretched)).reshape(shape)
