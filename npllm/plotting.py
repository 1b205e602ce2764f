"""Pictures as PNG, of a run and of a gradient check; they need the extra ``plot``."""

from __future__ import annotations

import math
import os
from typing import Any

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
from npllm.training.run import LARGEST_LOSS, read_metrics

DIRECTIONS = 10  # over which an error in the picture of a gradient check is the median


def plot_run(directory: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Draw loss and perplexity over the steps of a run.

    Args:
        directory: the run's.
        out: the PNG to write.

    Raises:
        OSError: there are no metrics, or the file cannot be written.
        ValueError: matplotlib is missing, or nothing has been measured yet.
    """
    records = read_metrics(directory)
    if not records:
        raise ValueError(f"{directory} has no metrics yet: train it first")
    validated = [r for r in records if r["val_loss"] is not None]
    figure = _figure(10, 4)
    loss, perplexity = figure.subplots(1, 2)
    steps = [r["step"] for r in records]
    validated_steps = [r["step"] for r in validated]
    loss.plot(steps, [r["train_loss"] for r in records], label="training", linewidth=1)
    loss.plot(validated_steps, [r["val_loss"] for r in validated], "o-", label="validation")
    loss.set(xlabel="step", ylabel="loss (nats per token)", title="Cross-entropy")
    training = [math.exp(min(r["train_loss"], LARGEST_LOSS)) for r in records]
    perplexity.plot(steps, training, label="training", linewidth=1)
    perplexity.plot(
        validated_steps, [r["val_perplexity"] for r in validated], "o-", label="validation"
    )
    perplexity.set(xlabel="step", ylabel="perplexity", title="Perplexity", yscale="log")
    for axes in (loss, perplexity):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out, dpi=150, format="png")


def step_errors(layer: str = "lstm", seed: int = 0) -> tuple[list[float], dict[str, list[float]]]:
    """Return step sizes, and the relative error of each method at each.

    The function is the first case of the layer in :data:`npllm.evidence.CASES` under a random
    cotangent, the derivative that in random directions through all its arguments, and the truth
    npllm's backward.

    Args:
        layer: a key of ``CASES``.
        seed: draws the arguments, the cotangent and the directions.

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
    figure = _figure(8, 5)
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
    figure.savefig(out, dpi=150, format="png")


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("plots need matplotlib: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")
