"""Layers as people write them, brought into the form that :func:`gradcheck` takes.

Each adapter returns a :class:`Checkable`, the three arguments of ``gradcheck``::

    assert_gradients(*from_object(layer, x))
    print(gradcheck(*from_loss(loss_and_gradients, params)))

Objects are adapted in :mod:`npllm.checking.objects`, torch in :mod:`npllm.checking.torch_modules`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.checking.pair import Backward, Forward
from npllm.checking.trees import Array, map_leaves


class Checkable(NamedTuple):
    """The arguments of :func:`gradcheck`."""

    forward: Forward
    backward: Backward
    args: tuple[object, ...]


def from_pullback(
    function: Callable[..., tuple[object, Callable[..., object]]], *args: object
) -> Checkable:
    """Adapt ``y, pullback = function(*args)`` with ``gradients = pullback(dy)``.

    >>> from npllm.checking import gradcheck
    >>> def square(x):
    ...     return x * x, lambda dy: 2 * x * dy
    >>> gradcheck(*from_pullback(square, np.array([1.0, 3.0]))).passed
    True
    """
    return Checkable(function, lambda dy, pullback: pullback(dy), args)


def from_loss(function: Forward, *params: object) -> Checkable:
    """Adapt ``loss, grads = function(*params)``, a scalar and its gradients.

    Each of ``params`` is an array or a nested dict, list or tuple of arrays; ``grads`` has the
    structure of the one, or is a tuple with an entry for each; entries of other names are passed
    over.

    Raises:
        TypeError: in the check, if the function does not return a pair.
        ValueError: in the check, if the loss is not a scalar.

    >>> from npllm.checking import gradcheck
    >>> def loss(params):
    ...     return (params["w"] ** 2).sum(), {"w": 2 * params["w"]}
    >>> gradcheck(*from_loss(loss, {"w": np.array([1.0, 3.0])})).passed
    True
    """

    def forward(*params: object) -> tuple[object, object]:
        result: object = function(*params)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            what = type(result).__name__
            raise TypeError(f"the function must return the pair (loss, grads), got {what}")
        loss, grads = result
        if isinstance(loss, Mapping) or np.size(loss) != 1:
            raise ValueError(f"the loss must be a scalar, got {_kind(loss)}")
        return loss, grads

    def backward(dloss: Array, grads: object) -> object:
        return map_leaves(lambda g: g * np.reshape(dloss, ()), grads)

    names = argument_names(function, len(params), "params")
    return Checkable(named(forward, names), backward, params)


def _kind(value: npt.ArrayLike | Mapping[str, object]) -> str:
    """Return a dict's type, or an array's shape, for a message."""
    return "a dict" if isinstance(value, Mapping) else f"shape {np.shape(value)}"


def argument_names(function: Callable[..., object] | None, count: int, otherwise: str) -> list[str]:
    """Return names for the first arguments of a function."""
    try:
        parameters = [] if function is None else [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD][:count]
    return names if len(names) == count else [f"{otherwise}{n}" for n in range(count)]


def named(function: Forward, names: Sequence[str]) -> Forward:
    """Return the function with these argument names, which the report will show."""

    def call(*args: object) -> tuple[object, object]:
        return function(*args)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    unique = names if len(set(names)) == len(names) else [f"x{n}" for n in range(len(names))]
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in unique])
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def is_number(value: object) -> bool:
    """Whether it is a floating array or number."""
    return (
        isinstance(value, (np.ndarray, np.floating, float)) and np.asarray(value).dtype.kind == "f"
    )
