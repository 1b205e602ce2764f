"""Pictures of the chapter on norms."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers import layer_norm_backward, layer_norm_forward

EPSILON = 0.01


def norm() -> Figure:
    """Draw what a backward takes from a row, and the scale over the size of the row."""
    rng = np.random.default_rng(6)
    width = 8
    x, dn = rng.normal(size=width), 0.8 + 0.8 * rng.normal(size=width)
    normal, cache = layer_norm_forward(x, eps=EPSILON)
    dx = layer_norm_backward(dn, cache)[0]
    scale = 1 / np.sqrt(x.var() + EPSILON)
    figure = Figure(figsize=(6.4, 3.0))
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.35, 1]})
    bars = (
        (dn, "$dn$"),
        (dn - dn.mean(), "$dn - \\mathrm{mean}(dn)$"),
        (dx / scale, "$dx\\,/\\,s$"),
    )
    for number, (values, label) in enumerate(bars):
        left.bar(np.arange(width) + 0.26 * (number - 1), values, 0.26, label=label)
    left.plot(normal, ".", color="#808080", label="$n$")
    left.axhline(0, color="#808080", linewidth=0.8)
    left.set_xlabel("$j$")
    left.set_ylim(-2.8, 3.2)
    left.legend(ncols=2, fontsize=8.5, loc="upper center", columnspacing=1)
    sizes = np.geomspace(1e-3, 10, 100)
    pairs = np.stack([sizes, -sizes], axis=-1)  # mean 0, variance sizes^2
    inside = layer_norm_forward(pairs, eps=EPSILON)[0][:, 0] / sizes
    right.loglog(sizes, inside, label="$1 / \\sqrt{v + \\epsilon}$")
    right.loglog(sizes, 1 / (sizes + EPSILON), label="$1 / (\\sqrt{v} + \\epsilon)$")
    right.loglog(sizes, 1 / sizes, ":", label="$1 / \\sqrt{v}$")
    right.set_xlabel("$\\sigma$")
    right.set_ylabel("$s$", rotation=0, labelpad=8)
    right.minorticks_off()
    right.legend(fontsize=8.5)
    return figure
