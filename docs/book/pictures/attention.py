"""Pictures of the chapters on attention."""

from __future__ import annotations

import tracemalloc

import numpy as np
from matplotlib.figure import Figure

from docs.book.pictures import COLOURS, GREY
from npllm.layers import (
    attention_backward,
    attention_forward,
    multi_head_attention_forward,
    softmax_forward,
    tiled_attention_backward,
    tiled_attention_forward,
)
from npllm.layers.attention import Sight
from npllm.models import GPT
from npllm.optim import Adam, clip_global_norm
from npllm.text import CharacterTokenizer, ShuffledWindows, load_text

LINE = "the value of the expression is returned"
HEADS = ((0, 2), (1, 0))  # layer and head


def attention_scale() -> Figure:
    """Draw the largest weight and the softmax's slope over D, with the root and without."""
    rng = np.random.default_rng(0)
    sizes = 2 ** np.arange(13)
    figure = Figure()
    left, right = figure.subplots(1, 2)
    found: dict[str, list[tuple[float, float]]] = {"-": [], "--": []}
    for size in sizes:
        q, k = rng.normal(size=(64, 64, size)), rng.normal(size=(64, 64, size))
        products = q @ k.swapaxes(-1, -2)
        for style, scores in (("-", products / size**0.5), ("--", products)):
            weights, _ = softmax_forward(scores)
            slope = (weights * (1 - weights)).sum(axis=-1)
            found[style].append((weights.max(axis=-1).mean(), slope.mean()))
    for style, label in (("-", r"$q k^T / \sqrt{D}$"), ("--", "$q k^T$")):
        largest, slope = np.transpose(found[style])
        left.semilogx(sizes, largest, style, color=COLOURS[0], base=2, label=label)
        right.semilogx(sizes, slope, style, color=COLOURS[1], base=2)
    left.set_ylabel(r"$\max_j A_{ij}$")
    right.set_ylabel(r"$\sum_j A_{ij} (1 - A_{ij})$")
    for axes in (left, right):
        axes.set_xlabel("$D$")
        axes.set_ylim(-0.03, 1.03)
    left.legend()
    return figure


def attention_map() -> Figure:
    """Draw the weights of the heads of a small model over a line of text."""
    text = load_text()
    tokenizer = CharacterTokenizer.train(text)
    model = GPT(len(tokenizer.vocabulary), context=64, width=48, heads=3, num_layers=2)
    optimizer = Adam(model.parameters, lr=0.003)
    batches = ShuffledWindows(tokenizer.encode(text), batch_size=16, length=64)
    for step in range(600):
        result = model.loss_and_gradients(*batches[step].arguments)
        result.gradients.vector[...] /= result.tokens
        clip_global_norm(result.gradients, 1.0)
        optimizer.step(result.gradients)
    _, cache = model.forward(tokenizer.encode(LINE)[None])
    figure = Figure(figsize=(6.4, 3.4))
    ticks = range(len(LINE)), [{" ": "·"}.get(character, character) for character in LINE]
    for (layer, head), axes in zip(HEADS, figure.subplots(1, 2), strict=True):
        weights = model.views(cache).attention[layer][0, head]
        seen = np.ma.array(weights, mask=~np.tri(len(LINE), dtype=bool))  # nothing else is drawn
        axes.imshow(seen, cmap="Blues", vmin=0, vmax=0.6, interpolation="nearest")
        axes.set_xticks(*ticks)
        axes.set_yticks(*ticks)
        axes.tick_params(labelsize=6, length=0, pad=1)
        axes.set_xlabel("$j$")
        axes.spines[:].set_visible(False)
    figure.axes[0].set_ylabel("$i$")
    return figure


def attention_cache() -> Figure:
    """Draw what keys and values take up over T, and the products with the cache and without."""
    rng = np.random.default_rng(0)
    steps, heads, width = 128, 8, 16
    figure = Figure()
    left, right = figure.subplots(1, 2)
    times = np.arange(1, steps + 1)
    for kv_heads in (8, 4, 2, 1):
        kept, past = [], None
        for _ in times:
            q = rng.normal(size=(1, 1, heads * width))
            k, v = rng.normal(size=(2, 1, 1, kv_heads * width))
            (_, past), _ = multi_head_attention_forward(
                q, k, v, heads, kv_heads=kv_heads, past=past, sight=Sight(causal=True)
            )
            kept.append(past[0].size + past[1].size)
        left.plot(times, kept, label=f"$K = {kv_heads}$")
    of_a_row = 2 * heads * width * times  # scores and values of one query over so many keys
    right.semilogy(times, np.cumsum(of_a_row * (times + 1) / 2), "--", color=COLOURS[1])
    right.semilogy(times, np.cumsum(of_a_row), color=COLOURS[1])
    for axes in (left, right):
        axes.set_xlabel("$T$")
    left.legend()
    return figure


def attention_memory() -> Figure:
    """Draw the measured peak of memory of plain and tiled attention over T."""
    sizes, found = 2 ** np.arange(6, 13), {"plain": [], "tiled": []}
    pairs = {
        "plain": (attention_forward, attention_backward),
        "tiled": (tiled_attention_forward, tiled_attention_backward),
    }
    for size in sizes:
        q, k, v, dy = np.random.default_rng(0).normal(size=(4, size, 64)).astype(np.float32)
        for name, (forward, backward) in pairs.items():
            tracemalloc.start()
            _, cache = forward(q, k, v, causal=True)
            backward(dy, cache)
            found[name].append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()
            del cache
    figure = Figure()
    axes = figure.subplots()
    axes.loglog(sizes, found["plain"], "o-", base=2, label="$T_q T_k$")
    axes.loglog(sizes, found["tiled"], "o-", base=2, label="$n\\, T_k$")
    square = found["plain"][-1] * (sizes / sizes[-1]) ** 2
    axes.loglog(sizes, square, ":", base=2, color=GREY)
    axes.set_xlabel("$T$")
    axes.set_ylabel("MB")
    axes.legend()
    return figure
