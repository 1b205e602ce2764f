"""What evidence is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from npllm.checking.trees import leaves
from npllm.evidence.source import Source

Generator = np.random.Generator
Lead = tuple[int, ...]  # leading axes
Forward = Callable[..., tuple[Any, Any]]
Backward = Callable[[Any, Any], Any]


class Case(NamedTuple):
    """One configuration of a layer or model, for :func:`npllm.checking.gradcheck`.

    Sizes are odd and differ from one another, no parameter is trivial, ids repeat, and a layer that
    draws at random draws the same mask each time.

    Attributes:
        label: what distinguishes it.
        forward: ``forward(*args) -> (y, cache)``.
        backward: ``backward(dy, cache)`` -> gradients.
        args: in float64, ids aside.
        sizes: numbers that a wrong factor may be, by name, for the diagnosis.
    """

    label: str
    forward: Forward
    backward: Backward
    args: tuple[Any, ...]
    sizes: Mapping[str, float] | None = None


Cases = Callable[[Generator], Iterator[Case]]


class Bound(NamedTuple):
    """A layer with its options bound, and arguments of any size and dtype.

    Attributes:
        forward: ``forward(*args) -> (y, cache)``.
        backward: ``backward(dy, cache)`` -> gradients.
        args: the floating ones.
    """

    forward: Forward
    backward: Backward
    args: tuple[Any, ...]

    def run(self, seed: int = 1) -> tuple[Any, Any, tuple[Any, ...]]:
        """Return y, a random cotangent like it, and the gradient of each argument."""
        y, cache = self.forward(*self.args)
        _, first = next(leaves(self.args))
        dy = Source(seed, first.dtype).like(y)
        gradients = self.backward(dy, cache)
        return y, dy, gradients if isinstance(gradients, tuple) else (gradients,)


Build = Callable[..., Bound]  # of a source, leading axes, two sizes n and m, and options by name
Variants = Mapping[str, Mapping[str, Any]]  # a label, and options of a Build


def of_one_array(forward: Forward, backward: Backward) -> Build:
    """Return what builds the arguments of a layer that takes one array, (*lead, n, m)."""

    def build(source: Source, lead: Lead, n: int, m: int, **options: Any) -> Bound:
        def bound(x: Any) -> tuple[Any, Any]:
            return forward(x, **options)

        return Bound(bound, backward, (source.normal(*lead, n, m),))

    return build


class Configuration(NamedTuple):
    """A model's sizes and options, and how its batches look, for the certificate.

    Attributes:
        label: what distinguishes it.
        config: arguments of the model.
        batch_size: B.
        steps: T.
        ignored: the share of targets that do not count.
        lengths: whether rows end early, one of them before it begins.
        quick: whether it is part of the quick certificate.
    """

    label: str
    config: dict[str, Any]
    batch_size: int = 3
    steps: int = 5
    ignored: float = 0.0
    lengths: bool = False
    quick: bool = False
