"""What the layers' tests share: leaves as a list, trees compared, a layer beside torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npllm.evidence import Bound

TOLERANCE = 1e-12
HUGE = 1e4  # the largest numbers that the tests try


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to each leaf of nested tuples, lists and dicts; None stays None."""
    if isinstance(tree, dict):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(tree_map(function, value) for value in tree)
    return None if tree is None else function(tree)


def named_leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its path: ``[1][weight_ih_l0]``."""
    if isinstance(tree, (dict, tuple, list)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from named_leaves(value, f"{name}[{key}]")
    elif tree is not None:
        yield name, tree


def arrays(tree: Any) -> list[np.ndarray]:
    """Return the leaves without their names."""
    return [np.asarray(leaf) for _, leaf in named_leaves(tree)]


def as_tuple(gradients: Any) -> tuple[Any, ...]:
    """Return what a backward returned as a tuple, also where it is a single array."""
    return gradients if isinstance(gradients, tuple) else (gradients,)


def assert_close(got: Any, want: Any, tolerance: float = TOLERANCE, floor: float = 0.0) -> None:
    """Assert equal trees, each array relative to the largest magnitude in it.

    ``floor`` stands in for a smaller largest magnitude: a sum that cancels is only as exact as its
    terms, which in these tests are of order one.
    """
    got, want = dict(named_leaves(got)), dict(named_leaves(want))
    assert got.keys() == want.keys(), f"{list(got)} is not {list(want)}"
    for name, expected in want.items():
        a, b = np.asarray(got[name]), np.asarray(expected)
        assert a.shape == b.shape, f"{name}: shape {a.shape} is not {b.shape}"
        assert a.dtype == b.dtype, f"{name}: {a.dtype} is not {b.dtype}"
        error, largest = np.abs(a - b).max(initial=0), max(np.abs(b).max(initial=0), floor)
        assert error <= tolerance * largest, f"{name}: off by {error:.1e} of {largest:.1e}"


def assert_agrees_with_torch(torch: Any, layer: Bound, reference: Callable[..., Any]) -> None:
    """Assert that y and every gradient are those of ``reference``, for a random cotangent."""
    y, dy, gradients = layer.run()
    args = tree_map(lambda a: torch.tensor(a, requires_grad=True), layer.args)
    expected = reference(*args)
    outputs = [leaf for _, leaf in named_leaves(expected)]
    torch.autograd.backward(outputs, [torch.tensor(leaf) for leaf in arrays(dy)])
    assert_close(y, tree_map(lambda t: t.detach().numpy(), expected))
    assert_close(gradients, tree_map(lambda t: t.grad.numpy(), args))
