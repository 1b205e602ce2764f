"""What the tests of the adapters share: numbers, a layer, the names of what passes or fails."""

from __future__ import annotations

from typing import Any

import numpy as np

from npllm.checking import gradcheck
from npllm.checking.adapters import Checkable

RNG = np.random.default_rng(0)
X, W, B = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=4)


class Attributes:
    """y = x W + b, with gradients as attributes, which are made by the first backward."""

    wrong = 1.0

    def __init__(self) -> None:
        self.W, self.bias = W.copy(), B.copy()

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W + self.bias

    def backward(self, dy: Any) -> Any:
        self.dW = self.wrong * (self.x.T @ dy)
        self.dbias = dy.sum(axis=0)
        return dy @ self.W.T


def spoiled(kind: type, by: float = 1.5) -> Any:
    """Return a layer of this kind whose gradient of W is wrong."""
    layer = kind()
    layer.wrong = by
    return layer


def names(pair: Checkable, **options: Any) -> list[str]:
    """Return the names of the arguments of a check, which must pass."""
    report = gradcheck(*pair, **options)
    assert report.passed, str(report)
    return [argument.name for argument in report.arguments]


def failed(pair: Checkable) -> list[str]:
    """Return the names of the arguments that fail, of a check without other findings."""
    report = gradcheck(*pair)
    assert not report.findings, str(report)
    return [argument.name for argument in report.arguments if not argument.passed]
