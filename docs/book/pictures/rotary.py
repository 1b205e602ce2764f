"""Pictures of the chapter on positions."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers import alibi_bias, rotary_forward, rotary_frequencies, rotary_table

PAIRS, CONTEXT = 32, 2048


def rotary() -> Figure:
    """Draw what positions do to a score over the distance, and the ladder of frequencies."""
    distances = np.arange(0, 65)
    ones = np.ones((len(distances), 2 * PAIRS))
    turned, _ = rotary_forward(ones, *rotary_table(distances, 2 * PAIRS))
    figure = Figure(figsize=(6.4, 3.0))
    left, right = figure.subplots(1, 2)
    label = "$\\frac{2}{R} \\sum_i \\cos((t - u)\\,\\theta_i)$"
    left.plot(distances, turned @ ones[0] / (2 * PAIRS), label=label)
    bias = alibi_bias(8, 1, len(distances), offset=len(distances) - 1)[:, 0, ::-1]
    for head in (1, 4):
        slope = f"$e^{{-|t - u| / {2 ** (head + 1)}}}$"
        left.plot(distances, np.exp(bias[head]), label=slope)
    left.set_xlabel("$t - u$")
    left.set_ylim(-0.05, 1.25)
    left.legend(fontsize=8.5)
    common = {"factor": 4.0, "original_max_position_embeddings": CONTEXT}
    kinds: dict[str, dict[str, object]] = {
        "default": {},
        "linear": {"factor": 4.0},
        "llama3": {**common, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "yarn": common,
    }
    for (kind, options), style in zip(kinds.items(), ("-", "--", "-", "-"), strict=True):
        scaling = {"rope_type": kind, **options}
        frequencies, _ = rotary_frequencies(2 * PAIRS, scaling=scaling)
        right.semilogy(frequencies, style, label=f"$\\mathtt{{{kind}}}$")
    right.set_xlabel("$i$")
    right.set_ylabel("$\\theta_i$", rotation=0, labelpad=8)
    right.minorticks_off()
    right.legend(fontsize=8.5)
    return figure
