"""The error of each way to take a derivative over its step, on a real layer, and its picture."""

from __future__ import annotations

import os

import numpy as np

from npllm.checking.methods import (
    central_difference,
    complex_step,
    forward_difference,
    fourth_order,
)
from npllm.checking.pair import Pair, Probe, drawn
from npllm.checking.trees import leaves, map_leaves
from npllm.evidence import CASES
from npllm.figures import new_figure, save_figure

DIRECTIONS = 10  # over which an error is the median


def step_errors(layer: str = "lstm", seed: int = 0) -> tuple[list[float], dict[str, list[float]]]:
    """Return step sizes, and the relative error of each method at each.

    The function is the first case of the layer in :data:`npllm.evidence.CASES` under a random
    cotangent, the derivative that in random directions through all its arguments, and the truth
    npllm's backward.

    Args:
        layer: a key of ``CASES``.
        seed: draws the arguments, the cotangent and the directions.

    >>> import math
    >>> steps, errors = step_errors("tanh")
    >>> round(math.log10(min(errors["central difference"]))) in (-11, -10, -12)
    True
    >>> errors["complex step"][0] < 1e-15  # at a step of 1e-20
    True
    """
    case = next(CASES[layer](np.random.default_rng(seed)))
    pair = Pair(case.forward, case.backward, case.args, np.float64)
    rng = np.random.default_rng((seed, 1))
    y, cache = pair.run(pair.args)
    dy = map_leaves(lambda a: rng.standard_normal(a.shape), y)
    gradients = pair.gradients(dy, cache)
    v = [a for _, a in leaves(dy)]
    real, imaginary = Probe(pair, v, "real"), Probe(pair, v, "complex")
    methods = {
        "forward difference": (forward_difference, real),
        "central difference": (central_difference, real),
        "fourth order": (fourth_order, real),
        "complex step": (complex_step, imaginary),
    }
    steps = [10.0 ** (exponent / 4) for exponent in range(-80, 1)]
    errors: dict[str, list[float]] = {name: [] for name in methods}
    for h in steps:
        for name, (method, probe) in methods.items():
            found = []
            for argument, g in gradients.items():
                assert g is not None
                for direction in range(DIRECTIONS):
                    exact = float(np.sum(g * drawn(direction, g.shape)))
                    value = method(probe.line(argument, direction), h).value
                    found.append(abs(value - exact) / float(np.linalg.norm(g)))
            errors[name].append(float(np.median(found)))
    return steps, errors


def plot_gradcheck(out: str | os.PathLike[str], layer: str = "lstm", seed: int = 0) -> None:
    """Draw the error of each method over its step: the V that every difference has.

    Args:
        out: the PNG to write.
        layer: a key of :data:`npllm.evidence.CASES`.
        seed: see :func:`step_errors`.

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib is missing.
    """
    figure = new_figure(8, 5)
    steps, errors = step_errors(layer, seed)
    axes = figure.subplots()
    for name, values in errors.items():
        # what is exactly right has no place on a logarithmic axis: show it at the last bit
        axes.plot(steps, np.maximum(values, 2.0**-54), label=name, linewidth=1.5)
    axes.set(
        xlabel="step h",
        ylabel="relative error of the derivative",
        title=f"{layer}: a large step bends, a small one rounds; the complex step may be tiny",
        xscale="log",
        yscale="log",
        ylim=(1e-17, 1e1),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, out)
