"""A layer whose gradient is spoiled at will, and what the checker then says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npllm.checking import GradcheckReport, gradcheck

N, T, D, HEADS, P = 5, 3, 7, 11, 0.3
RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, T, D))
EVERY_OTHER = np.indices(X.shape).sum(axis=0) % 2 == 0

Change = Callable[[Any, Any, Any, Any], Any]


def forward(x: Any, w: Any) -> Any:
    return x * x * w, (x, w)


def spoiled(change: Change) -> Callable[[Any, Any], Any]:
    """Return the backward whose dx has gone through ``change(dx, x, w, dy)``."""

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        return change(2 * x * w * dy, x, w, dy), x * x * dy

    return backward


def check(change: Change, x: Any = X, w: Any = W, **options: Any) -> GradcheckReport:
    return gradcheck(forward, spoiled(change), [x, w], **options)


def causes(report: GradcheckReport, name: str = "x") -> dict[str, str]:
    """Return key and text of each cause of one argument, which must be the only one to fail."""
    assert [a.name for a in report.arguments if not a.passed] == [name], str(report)
    (argument,) = (a for a in report.arguments if a.name == name)
    return {cause.key: cause.text for cause in argument.causes}


def only(report: GradcheckReport, key: str, *fragments: str, name: str = "x") -> None:
    """Assert that this is the only cause, and that its text holds the fragments."""
    found = causes(report, name)
    assert list(found) == [key], str(report)
    for fragment in fragments:
        assert fragment in found[key]
