"""What the tests of the adapters share: numbers, and the names of what passes or fails."""

from __future__ import annotations

from typing import Any

import numpy as np

from npllm.checking import gradcheck
from npllm.checking.adapters import Checkable

RNG = np.random.default_rng(0)
X, W, B = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=4)


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
