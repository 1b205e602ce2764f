"""Pictures of the chapter on cross-entropy."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers import cross_entropy_backward, cross_entropy_forward


def cross_entropy() -> Figure:
    """Draw the loss of two classes and its gradient over the lead of the right logit."""
    lead = np.linspace(-6, 6, 241)
    logits = np.stack([lead, np.zeros_like(lead)], axis=-1)
    loss, cache = cross_entropy_forward(logits, np.zeros(lead.size, int), reduction="none")
    gradient = cross_entropy_backward(np.ones_like(loss), cache)[:, 0]
    p = 1 + gradient
    figure = Figure()
    axes = figure.subplots()
    axes.plot(lead, loss, label="$L$")
    axes.plot(lead, gradient, label="$p - 1$")
    axes.plot(lead, p * (1 - p), ":", label="$p\\,(1 - p)$")
    axes.set_xlabel("$a$")
    axes.legend()
    return figure
