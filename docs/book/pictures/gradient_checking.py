"""Pictures of the chapter on checking a gradient."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.evidence.step_errors import step_errors


def step_sizes() -> Figure:
    """Draw the error of each way to take the LSTM's derivatives over its step: the Vs."""
    steps, errors = step_errors("lstm")
    colours = {"complex step": "C3"}
    figure = Figure()
    axes = figure.subplots()
    for number, (name, values) in enumerate(errors.items()):
        # what is exactly right has no place on a logarithmic axis: it is shown at the last bit
        shown = np.maximum(values, 2.0**-54)
        axes.plot(steps, shown, color=colours.get(name, f"C{number}"))
    axes.set(xlabel="$h$", xscale="log", yscale="log", ylim=(1e-17, 10))
    return figure
