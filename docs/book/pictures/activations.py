"""Pictures of the chapter on activation functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from npllm import layers

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "relu": (layers.relu_forward, layers.relu_backward),
    "sigmoid": (layers.sigmoid_forward, layers.sigmoid_backward),
    "tanh": (layers.tanh_forward, layers.tanh_backward),
    "SiLU": (layers.silu_forward, layers.silu_backward),
    "GELU": (layers.gelu_forward, layers.gelu_backward),
}


def activations() -> Figure:
    """Draw each function and its slope."""
    x = np.linspace(-5, 5, 202)  # 0, where relu has no slope, is not among them
    figure = Figure(figsize=(6.4, 3.2))
    left, right = figure.subplots(1, 2)
    for name, (forward, backward) in PAIRS.items():
        y, cache = forward(x)
        left.plot(x, y, label=f"$\\mathrm{{{name}}}$", linewidth=1.5)
        right.plot(x, backward(np.ones_like(x), cache), linewidth=1.5)
    left.set_ylim(-1.3, 3)
    left.legend(fontsize=8.5)
    left.set_ylabel("$f$", rotation=0, labelpad=6)
    right.set_ylabel("$f'$", rotation=0, labelpad=6)
    for axes in (left, right):
        axes.set_xlabel("$x$")
        axes.axhline(0, color="#808080", linewidth=0.5)
    return figure
