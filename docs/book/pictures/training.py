"""Pictures of the chapter on the five steps."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.models import GPT, LSTMLanguageModel
from npllm.optim import Adam, clip_global_norm
from npllm.text import CharacterTokenizer, load_text, split_text

STEPS, EVERY, BATCH, LENGTH = 600, 25, 16, 64


def loss_curves() -> Figure:
    """Train an LSTM and a GPT of one size on one text, and draw their losses on its end."""
    learned, held_out = split_text(load_text()[:200_000], 0.1)
    tokenizer = CharacterTokenizer.train(learned)
    size = len(tokenizer.vocabulary)
    training, validation = tokenizer.encode(learned), tokenizer.encode(held_out)
    models = [
        (LSTMLanguageModel(size, 32, 128), 4e-3),
        (GPT(size, context=LENGTH, width=64, num_layers=2, heads=4), 2e-3),
    ]
    figure = Figure()
    axes = figure.subplots()
    for model, rate in models:
        name = "GPT" if isinstance(model, GPT) else "LSTM"
        axes.plot(*_losses(model, rate, training, validation), label=name)
    axes.axhline(np.log(size), linestyle=":", color="grey")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def _losses(
    model: LSTMLanguageModel | GPT, rate: float, training: np.ndarray, validation: np.ndarray
) -> tuple[list[int], list[float]]:
    optimizer, rng = Adam(model.parameters, lr=rate), np.random.default_rng(0)
    held_out = _windows(validation, np.arange(0, len(validation) - LENGTH - 1, LENGTH))
    steps, losses = [], []
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            total, _ = model.score(*held_out)
            steps.append(step)
            losses.append(total / held_out[1].size)
        batch = _windows(training, rng.integers(0, len(training) - LENGTH, BATCH))
        result = model.loss_and_gradients(*batch)
        gradients = result.gradients.vector / result.tokens
        clip_global_norm(gradients, 1.0)
        optimizer.step(gradients)
    return steps, losses


def _windows(ids: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = starts[:, None] + np.arange(LENGTH + 1)
    return ids[rows[:, :-1]], ids[rows[:, 1:]]
