"""What the race is made of: a row is a piece of work, a contender does it in its own way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[Any]"
Arrays: TypeAlias = "dict[str, Array]"
Sizes: TypeAlias = "Mapping[str, int]"

# what a contender imports; npllm's are those of npllm itself
PACKAGES: dict[str, tuple[str, ...]] = {
    "npllm": (),
    "torch": ("torch",),
    "torch.compile": ("torch",),
    "jax": ("jax",),
    "autograd": ("autograd",),
    "mygrad": ("mygrad",),
    "transformers": ("torch", "transformers"),
    "llama.cpp": ("xllamacpp", "gguf"),
    "tiktoken": ("tiktoken",),
    "tokenizers": ("tokenizers", "gguf"),
}
# half the digits of float32: what two right programs that add up in another order stay within
TOLERANCE = float(np.sqrt(np.finfo(np.float32).eps))


class Task(NamedTuple):
    """What a contender is given.

    Attributes:
        sizes: of the row.
        inputs: weights, batches and whatever else the row's arrays are, in ``dtype``.
        cores: how many it may use.
        dtype: of the arithmetic: float32, and float64 for the reference.
        folder: for files that contenders share.
        stack: holds what must be open as long as the work goes on.
    """

    sizes: Sizes
    inputs: Arrays
    cores: int
    dtype: npt.DTypeLike
    folder: Path
    stack: ExitStack


class Work(NamedTuple):
    """What a contender does.

    Attributes:
        answer: returns outputs and gradients by name; asked for once, before anything else.
        repeat: does the work once.
        before: makes it possible to do it again; not timed.
    """

    answer: Callable[[], Arrays]
    repeat: Callable[[], object]
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Row:
    """A piece of work.

    Attributes:
        name: as it is asked for.
        kind: "training", "layers", "text" or "generation".
        sizes: what its arrays are made from.
        small: the sizes that change where only agreement is asked for.
        inputs: makes the arrays from the sizes.
        contenders: who can do it, and how.
        flops: how many floating point operations the mathematics needs, where that says much.
        amount: how many of ``unit`` a repetition is, by the arrays.
        unit: "MB" or "tokens", where a speed is shown; a time where there is none.
        rival: the contender that npllm is measured against.
        quick: whether it is part of a quick race.
        one_core: whether more of them change nothing.
        needs: packages whose files it takes, besides those that the contenders import.
    """

    name: str
    kind: str
    sizes: Sizes
    inputs: Callable[[Sizes], Arrays]
    contenders: Mapping[str, Callable[[Task], Work]]
    small: Sizes | None = None
    flops: Callable[[Sizes], float] | None = None
    amount: Callable[[Arrays], float] = lambda _: 1.0
    unit: str = ""
    rival: str = "torch"
    quick: bool = False
    one_core: bool = False
    needs: tuple[str, ...] = ()


class Difference(NamedTuple):
    """The array that is furthest from the reference, and how far, over its largest element."""

    name: str
    distance: float

    def __str__(self) -> str:
        return f"{self.name} is off by {self.distance:.1e} of its largest element"


def distance(given: Array, expected: Array) -> float:
    """Return how far an array is from the reference, over the reference's largest element.

    Another shape, a number that is none, or another whole number is infinitely far.

    >>> distance(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    0.5
    >>> distance(np.array([1, 2]), np.array([1, 3]))
    inf
    """
    if given.shape != expected.shape:
        return np.inf
    if expected.dtype.kind in "iu" or not expected.any():
        return 0.0 if np.array_equal(given, expected) else np.inf
    apart = float(np.abs(given - expected).max() / np.abs(expected).max())
    return apart if np.isfinite(apart) else np.inf


def worst(given: Mapping[str, Array], expected: Mapping[str, Array]) -> Difference:
    """Return the array that is furthest from the reference's, a missing one before all."""
    names = sorted({*given, *expected})
    found = [
        Difference(name, distance(given[name], expected[name]))
        if name in given and name in expected
        else Difference(name, np.inf)
        for name in names
    ]
    return max(found, key=lambda difference: difference.distance)


def missing(packages: Iterable[str]) -> list[str]:
    """Return the packages that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]
