"""Pictures of the chapter on softmax."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers import softmax_backward, softmax_forward

SCORES = np.array([2.0, 1.0, 0.0, -1.0])


def softmax() -> Figure:
    """Draw softmax over the temperature, and its Jacobian at a temperature of one."""
    temperatures = np.geomspace(0.1, 20, 100)
    probabilities, _ = softmax_forward(SCORES / temperatures[:, None])
    _, cache = softmax_forward(np.tile(SCORES, (4, 1)))
    jacobian = softmax_backward(np.eye(4), cache)  # a row for each y
    figure = Figure(figsize=(6.4, 2.9))
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.5, 1]})
    for score, line in zip(SCORES, probabilities.T, strict=True):
        left.semilogx(temperatures, line, label=f"$x_i = {score:g}$")
    left.set_xlabel("$\\tau$")
    left.set_ylabel("$y_i$", rotation=0, labelpad=10)
    left.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    left.minorticks_off()
    left.legend()
    largest = np.abs(jacobian).max()
    right.pcolormesh(
        jacobian, cmap="PuOr", vmin=-largest, vmax=largest, edgecolors="#808080", linewidth=0.5
    )
    for (row, column), value in np.ndenumerate(jacobian):
        right.text(
            column + 0.5,
            row + 0.5,
            f"{value:.3f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if abs(value) > 0.55 * largest else "#333333",
        )
    right.set_aspect("equal")
    right.invert_yaxis()
    right.set_xlabel("$i$")
    right.set_ylabel("$j$", rotation=0, labelpad=8)
    right.set_xticks(np.arange(4) + 0.5, range(1, 5))
    right.set_yticks(np.arange(4) + 0.5, range(1, 5))
    right.tick_params(length=0)
    for spine in right.spines.values():
        spine.set_visible(False)
    return figure
