"""Learning rates as functions of the step: ``optimizer.lr = schedule(step)``."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(lr: float) -> Schedule:
    """Return the schedule that stays at ``lr``.

    >>> constant(0.1)(1000)
    0.1
    """
    return lambda step: lr  # noqa: ARG005


def step_decay(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """Return lr * factor^floor(step / every): torch's StepLR.

    Raises:
        ValueError: ``every`` is below 1.

    >>> [step_decay(1.0, every=10, factor=0.5)(step) for step in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    return lambda step: lr * factor ** (step // every)


def warmup_cosine(lr: float, warmup: int, total: int, final: float = 0.0) -> Schedule:
    """Rise in a line over ``warmup`` steps to ``lr``, then fall along a cosine to ``final``.

    Loshchilov and Hutter, "SGDR" (2017), equation 5, without restarts. Step s < warmup has
    lr (s + 1) / warmup; from ``total`` on it is ``final``.

    Raises:
        ValueError: not 0 <= warmup < total.

    >>> schedule = warmup_cosine(1.0, warmup=2, total=12)
    >>> [round(schedule(step), 3) for step in (0, 1, 2, 7, 12, 99)]
    [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if not 0 <= warmup < total:
        raise ValueError(f"warmup must lie in [0, total = {total}), got {warmup}")

    def schedule(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        progress = min((step - warmup) / (total - warmup), 1.0)
        return final + (lr - final) * (1 + math.cos(math.pi * progress)) / 2

    return schedule
