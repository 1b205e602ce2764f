"""What the layers' tests share: a layer bound to its arguments, its random numbers, and torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

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


class Source:
    """Random arrays; they are read-only, so that a layer that writes to its input fails."""

    def __init__(self, seed: int = 0, dtype: Any = np.float64, scale: float = 1.0) -> None:
        self.rng, self.dtype, self.scale = np.random.default_rng(seed), np.dtype(dtype), scale

    def normal(self, *shape: int) -> np.ndarray:
        """Return standard normal numbers times the scale, complex ones for a complex dtype."""
        x = self.rng.standard_normal(shape)
        if self.dtype.kind == "c":
            x = x + 1j * self.rng.standard_normal(shape)
        return frozen((self.scale * x).astype(self.dtype))

    def like(self, tree: Any) -> Any:
        """Return normal numbers with the structure and the shapes of a tree of arrays."""
        return tree_map(lambda a: self.normal(*a.shape), tree)

    def uniform(self, *shape: int) -> np.ndarray:
        """Return numbers in [0.5, 1.5)."""
        return frozen((self.rng.random(shape) + 0.5).astype(self.dtype))

    def distribution(self, *shape: int) -> np.ndarray:
        """Return positive numbers whose rows sum to one."""
        x = self.rng.random(shape) + 0.1
        return frozen((x / x.sum(axis=-1, keepdims=True)).astype(self.dtype))

    def ids(self, size: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return integers in [0, size)."""
        return frozen(self.rng.integers(0, size, shape))

    def mask(self, *shape: int) -> np.ndarray:
        """Return booleans, about two of three of them True."""
        return frozen(self.rng.random(shape) < 2 / 3)


def frozen(x: Any) -> np.ndarray:
    """Return the array, read-only."""
    x = np.asarray(x)
    x.flags.writeable = False
    return x


class Layer(NamedTuple):
    """A pair of functions with its options bound, and the floating arguments of the forward."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Any], Any]
    args: tuple[Any, ...]

    def run(self, seed: int = 1) -> tuple[Any, Any, tuple[Any, ...]]:
        """Return y, a random cotangent like it, and the gradient of each argument."""
        y, cache = self.forward(*self.args)
        first = arrays(self.args)[0]
        dy = Source(seed, first.dtype).like(y)
        return y, dy, as_tuple(self.backward(dy, cache))


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


def assert_agrees_with_torch(torch: Any, layer: Layer, reference: Callable[..., Any]) -> None:
    """Assert that y and every gradient are those of ``reference``, for a random cotangent."""
    y, dy, gradients = layer.run()
    args = tree_map(lambda a: torch.tensor(a, requires_grad=True), layer.args)
    expected = reference(*args)
    outputs = [leaf for _, leaf in named_leaves(expected)]
    torch.autograd.backward(outputs, [torch.tensor(leaf) for leaf in arrays(dy)])
    assert_close(y, tree_map(lambda t: t.detach().numpy(), expected))
    assert_close(gradients, tree_map(lambda t: t.grad.numpy(), args))
