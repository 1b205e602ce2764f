"""Pictures of the chapters on the LSTM."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from docs.book.pictures import COLOURS, GREY, trained
from npllm.layers import (
    linear_backward,
    linear_forward,
    lstm_cell_backward,
    lstm_cell_forward,
    tanh_backward,
    tanh_forward,
    unrolled_lstm_backward,
    unrolled_lstm_forward,
)
from npllm.layers.arrays import Array
from npllm.layers.batch_last_lstm import BatchLastCache
from npllm.text import CharacterTokenizer, load_text

STEPS, BATCH, WIDTH, HIDDEN = 60, 8, 16, 32
LINE = "The value of an expression is returned to the caller.\n"


def lstm_gradient_norms() -> Figure:
    """Draw the norm of the gradient by the state against the number of steps back."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, BATCH, WIDTH))
    dh = rng.normal(size=(BATCH, HIDDEN))
    figure = Figure()
    axes = figure.subplots()
    back = np.arange(STEPS + 1)
    axes.semilogy(back, _plain_norms(x, dh), ":", color=GREY, label="RNN")
    for bias in (0, 1, 3):
        axes.semilogy(back, _lstm_norms(x, dh, bias), label=f"$b_f = {bias}$")
    axes.set_xlabel("$k$")
    axes.set_ylabel(r"$\|d(h, c)_{T-k}\| \; / \; \|dh_T\|$")
    axes.set_ylim(1e-12, 10)
    axes.legend(loc="lower left", ncols=2)
    return figure


def _uniform(rng: np.random.Generator, *shape: int) -> Array:
    """Return weights as torch draws them."""
    return rng.uniform(-1, 1, shape) / HIDDEN**0.5


def _plain_norms(x: Array, dh: Array) -> list[float]:
    rng = np.random.default_rng(1)
    w, u = _uniform(rng, HIDDEN, WIDTH), _uniform(rng, HIDDEN, HIDDEN)
    h, caches = np.zeros_like(dh), []
    for x_t in x:
        recurrent, of_u = linear_forward(h, u)
        h, of_tanh = tanh_forward(x_t @ w.T + recurrent)
        caches.append((of_u, of_tanh))
    norms = [1.0]
    first = np.linalg.norm(dh)
    for of_u, of_tanh in reversed(caches):
        dh, _ = linear_backward(tanh_backward(dh, of_tanh), of_u)
        norms.append(float(np.linalg.norm(dh) / first))
    return norms


def _lstm_norms(x: Array, dh: Array, forget_bias: float) -> list[float]:
    rng = np.random.default_rng(1)
    weights = _uniform(rng, 4 * HIDDEN, WIDTH), _uniform(rng, 4 * HIDDEN, HIDDEN)
    bias = np.zeros(4 * HIDDEN)
    bias[HIDDEN : 2 * HIDDEN] = forget_bias
    h, c, caches = np.zeros_like(dh), np.zeros_like(dh), []
    for x_t in x:
        (h, c), cache = lstm_cell_forward(x_t, h, c, *weights, bias, np.zeros_like(bias))
        caches.append(cache)
    dc, first, norms = np.zeros_like(dh), np.linalg.norm(dh), [1.0]
    for cache in reversed(caches):
        _, dh, dc, *_ = lstm_cell_backward((dh, dc), cache)
        norms.append(float(np.hypot(np.linalg.norm(dh), np.linalg.norm(dc)) / first))
    return norms


def lstm_lengths() -> Figure:
    """Draw the gradient by the state of sequences of three lengths, of a loss at their ends."""
    steps, lengths, rng = 40, np.array([40, 25, 10]), np.random.default_rng(0)
    x, zeros = rng.normal(size=(steps, 3, WIDTH)), np.zeros((3, HIDDEN))
    weights = [_uniform(rng, 4 * HIDDEN, n) for n in (WIDTH, HIDDEN)]
    dh = rng.normal(size=(3, HIDDEN))
    dh /= np.linalg.norm(dh, axis=1, keepdims=True)
    h, c, caches = zeros, zeros, []
    for t in range(steps):  # a step at a time, to see the state's gradient at each
        real = np.clip(lengths - t, 0, 1)
        (_, (h, c)), cache = unrolled_lstm_forward(x[t : t + 1], h, c, *weights, lengths=real)
        caches.append(cache)
    dc, norms = zeros, [np.ones(3)]
    for cache in reversed(caches):
        _, dh, dc, *_ = unrolled_lstm_backward((np.zeros((1, 3, HIDDEN)), (dh, dc)), cache)
        norms.append(np.linalg.norm(np.concatenate([dh, dc], axis=1), axis=1))
    figure = Figure()
    axes = figure.subplots()
    for row, length in enumerate(lengths):
        curve = np.array(norms)[::-1, row]
        axes.semilogy(curve, label=f"$n_b = {length}$")
        axes.plot(length, 1, "o", color=COLOURS[row])
    axes.set_xlabel("$t$")
    axes.set_ylabel(r"$\|d(h, c)_t\|$")
    axes.legend(loc="lower right")
    return figure


def lstm_gates() -> Figure:
    """Draw the forget gates of some cells over a line of text, and one of the cells."""
    text = load_text()
    tokenizer = CharacterTokenizer.train(text)
    model = trained(tokenizer, text, hidden_size=48, lr=0.005, length=40, steps=600)
    _, cache = model.forward(tokenizer.encode(LINE)[None])
    (read,) = cache.rnn.directions
    assert isinstance(read, BatchLastCache)
    f, c = read.gates[:, 1, :, 0], read.cells[1:, :, 0]  # (T, H) each
    space = np.array([character == " " for character in LINE])
    cells = np.argsort(f[space].mean(axis=0) - f[~space].mean(axis=0))[:8]
    figure = Figure(figsize=(6.4, 3.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.4, 1))
    above.imshow(f[:, cells].T, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    above.set_yticks([])
    above.set_ylabel("$f$")
    above.tick_params(axis="x", length=0)
    below.plot(c[:, cells[0]], label="$c$")
    below.plot(f[:, cells[0]], ":", label="$f$")
    below.set_ylim(-3.2, 4.4)
    below.legend(loc="upper right", ncols=2)
    below.set_xticks(range(len(LINE)), [{" ": "·", "\n": "↵"}.get(c, c) for c in LINE])
    below.tick_params(axis="x", labelsize=8, length=0)
    return figure
