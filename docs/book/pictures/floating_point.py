"""Pictures of the chapter on floating point."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers import logsumexp_forward, softmax_forward

X = np.array([0.3, -1.0, 2.0])


def floating_point() -> Figure:
    """Draw the error of a derivative over the step, of three methods."""
    exact = softmax_forward(X)[0][0]
    steps = np.geomspace(1e-20, 1, 81)
    reachable = steps[steps >= 1e-16]
    coarse = steps[steps >= 1e-8]

    def f(h: complex, dtype: type[np.generic] = np.float64) -> complex:
        moved = X + h * np.array([1.0, 0.0, 0.0])
        return complex(
            logsumexp_forward(moved if np.iscomplexobj(moved) else moved.astype(dtype))[0]
        )

    def central(h: float, dtype: type[np.generic] = np.float64) -> float:
        return (f(h, dtype) - f(-h, dtype)).real / (2 * h)

    curves = (
        (
            reachable,
            [(f(h) - f(0.0)).real / h for h in reachable],
            "-",
            "$(f(x+h) - f(x))\\,/\\,h$",
        ),
        (reachable, [central(h) for h in reachable], "-", "$(f(x+h) - f(x-h))\\,/\\,2h$"),
        (steps, [f(1j * h).imag / h for h in steps], "-", "$\\mathrm{Im}\\,f(x+ih)\\,/\\,h$"),
        (coarse, [central(h, np.float32) for h in coarse], "--", None),
    )
    figure = Figure(figsize=(6.4, 3.4))
    axes = figure.subplots()
    colours = ("#3b82c4", "#d9822b", "#3f9b5f", "#d9822b")
    for (h, values, style, label), colour in zip(curves, colours, strict=True):
        error = np.maximum(np.abs(np.array(values) - exact), 1e-17)
        axes.loglog(h, error, style, color=colour, label=label, linewidth=1.4)
    axes.set_xlabel("$h$")
    axes.set_ylim(3e-18, 30)
    axes.minorticks_off()
    axes.legend(fontsize=8.5, loc="center left")
    return figure
