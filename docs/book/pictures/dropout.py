"""Pictures of the chapter on dropout."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers import dropout_forward

FEATURES, MASKS = 64, 24


def dropout() -> Figure:
    """Draw the mean of what dropout leaves, for many masks, over the probability."""
    rng = np.random.default_rng(0)
    probabilities = np.arange(0, 0.95, 0.1)
    figure = Figure()
    axes = figure.subplots()
    for p in probabilities:
        y, _ = dropout_forward(np.ones((MASKS, FEATURES)), p=float(p), rng=rng)
        aside = np.linspace(-0.02, 0.02, MASKS)
        axes.plot(p + aside, y.mean(axis=-1), ".", color="#3b82c4", markersize=3, alpha=0.7)
    p = np.linspace(0, 0.92, 100)
    deviation = np.sqrt(p / (1 - p) / FEATURES)
    axes.plot(p, np.ones_like(p), color="#808080", label="$1$")
    axes.plot(p, 1 + deviation, color="#d9822b", label="$1 \\pm \\sqrt{p / (1 - p)}\\,/\\,8$")
    axes.plot(p, 1 - deviation, color="#d9822b")
    axes.set_xlabel("$p$")
    axes.set_ylim(0, 2)
    axes.legend(loc="upper left")
    return figure
