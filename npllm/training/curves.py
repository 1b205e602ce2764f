"""The curves of a run, as a picture."""

from __future__ import annotations

import math
import os

from npllm.figures import new_figure, save_figure
from npllm.training.metrics import LARGEST_LOSS, read_metrics


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
    figure = new_figure(10, 4)
    loss, perplexity = figure.subplots(1, 2)
    steps = [r["step"] for r in records]
    validated_steps = [r["step"] for r in validated]
    loss.plot(steps, [r["train_loss"] for r in records], label="training", linewidth=1)
    loss.plot(validated_steps, [r["val_loss"] for r in validated], "o-", label="validation")
    loss.set(xlabel="step", ylabel="loss (nats per token)", title="Cross-entropy")
    training = [math.exp(min(r["train_loss"], LARGEST_LOSS)) for r in records]
    measured = [math.exp(min(r["val_loss"], LARGEST_LOSS)) for r in validated]
    perplexity.plot(steps, training, label="training", linewidth=1)
    perplexity.plot(validated_steps, measured, "o-", label="validation")
    perplexity.set(xlabel="step", ylabel="perplexity", title="Perplexity", yscale="log")
    for axes in (loss, perplexity):
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, out)
