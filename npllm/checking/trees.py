"""Nested tuples, lists and dicts of arrays, as layers take and return them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def leaves(tree: object, name: str = "") -> Iterator[tuple[str, Array]]:
    """Yield the arrays of a tree with their names: ``state[0]``, ``weights["bias_ih_l0"]``.

    >>> [name for name, _ in leaves((1.0, {"w": 2.0}), "args")]
    ['args[0]', 'args[1]["w"]']
    """
    if type(tree) is np.ndarray:  # the most frequent by far
        yield name, tree
    elif tree is None:
        return
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f'{name}["{key}"]')
    elif isinstance(tree, (tuple, list)):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{name}[{index}]")
    else:
        yield name, np.asarray(tree)


def map_leaves(function: Callable[[Array], object], tree: object) -> Any:
    """Return the tree with ``function`` applied to each array; mappings become plain dicts."""
    if type(tree) is np.ndarray:  # the most frequent by far
        return function(tree)
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return _like(tree, [map_leaves(function, value) for value in tree])
    return function(np.asarray(tree))


def map_named(function: Callable[[str, Array], object], tree: object, name: str = "") -> Any:
    """Return the tree with ``function`` applied to the name, as in :func:`leaves`, and the array.

    >>> map_named(lambda name, array: name, [1.0, None, {"w": 2.0}], "args")
    ['args[0]', None, {'w': 'args[2]["w"]'}]
    """
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {k: map_named(function, v, f'{name}["{k}"]') for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        values = [map_named(function, v, f"{name}[{index}]") for index, v in enumerate(tree)]
        return _like(tree, values)
    return function(name, np.asarray(tree))


def _like(tree: Any, values: list[object]) -> Any:
    """Return the values in a tuple, named tuple or list, as the tree is."""
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
