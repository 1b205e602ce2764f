"""What a proof is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """One configuration of a layer or model.

    Attributes:
        label: what distinguishes it.
        forward: ``forward(*args) -> (y, cache)``.
        backward: ``backward(dy, cache)`` -> gradients.
        args: in float64, ids aside.
        sizes: numbers that a wrong factor may be, by name, for the diagnosis.
    """

    label: str
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Any], Any]
    args: tuple[Any, ...]
    sizes: Mapping[str, float] | None = None


Generator = np.random.Generator
Cases = Callable[[Generator], Iterator[Case]]
