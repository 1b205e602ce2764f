"""Pictures of the chapter on embeddings."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers import embedding_backward, embedding_forward, one_hot


def embedding() -> Figure:
    """Draw the gradient of a table as a product: one-hot columns, times rows, give rows."""
    rng = np.random.default_rng(1)
    ids, vocabulary, width = np.array([4, 0, 4, 2, 1, 4, 0, 1]), 6, 3
    dy = rng.normal(size=(len(ids), width))
    _, cache = embedding_forward(ids, np.zeros((vocabulary, width)))
    dweight = embedding_backward(dy, cache)
    figure = Figure(figsize=(6.4, 3.2))
    panels = figure.subplots(
        1, 3, gridspec_kw={"width_ratios": [len(ids), width, width], "wspace": 0.3}
    )
    parts = (
        (one_hot(ids, vocabulary).T, "$x^T$", "$m$", "$v$"),
        (dy, "$dy$", "$e$", "$m$"),
        (dweight, "$dW$", "$e$", "$v$"),
    )
    largest = np.abs(dweight).max()
    for axes, (values, title, across, down) in zip(panels, parts, strict=True):
        shown = largest * values if title == "$x^T$" else values
        axes.pcolormesh(
            shown, cmap="PuOr", vmin=-largest, vmax=largest, edgecolors="#808080", linewidth=0.5
        )
        for (row, column), value in np.ndenumerate(values):
            dark = abs(shown[row, column]) > 0.55 * largest
            text = f"{value:.0f}" if title == "$x^T$" else f"{value:.1f}".replace("-0.0", "0.0")
            axes.text(
                column + 0.5,
                row + 0.5,
                text if value else "0",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "#333333",
            )
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_title(title)
        axes.set_xlabel(across)
        axes.set_ylabel(down, rotation=0, labelpad=8, va="center")
        axes.set_xticks(np.arange(values.shape[1]) + 0.5, range(values.shape[1]), fontsize=8)
        axes.set_yticks(np.arange(values.shape[0]) + 0.5, range(values.shape[0]), fontsize=8)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure
