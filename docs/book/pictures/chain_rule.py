"""Pictures of the chapter on the chain rule."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers import linear_backward, linear_forward

ROWS = 64


def chain_rule() -> Figure:
    """Draw how many numbers a linear map's Jacobians have, and its gradients, over its width."""
    widths = 2 ** np.arange(4, 12)
    gradients = []
    for n in widths:
        _, cache = linear_forward(np.zeros((ROWS, n)), np.zeros((n, n)))
        gradients.append([g.size for g in linear_backward(np.zeros((ROWS, n)), cache)])
    dx, dw = np.array(gradients, float).T
    out = ROWS * widths
    figure = Figure()
    axes = figure.subplots()
    for numbers, label, dashed in (
        (out * dw, "$\\partial y / \\partial W$", False),
        (out * dx, "$\\partial y / \\partial x$", False),
        (dw, "$dW$", True),
        (dx, "$dx$", True),
    ):
        axes.loglog(widths, numbers, "--" if dashed else "-")
        colour = axes.lines[-1].get_color()
        place = (widths[-1] * 1.1, numbers[-1])
        axes.annotate(label, place, color=colour, va="center", annotation_clip=False)
    axes.set_xlabel("$n$")
    axes.set_xlim(widths[0], widths[-1])
    axes.set_xticks([16, 64, 256, 1024], ["16", "64", "256", "1024"])
    axes.minorticks_off()
    return figure
