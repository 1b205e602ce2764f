"""Pictures of the chapter on sampling and beams."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from docs.book.pictures import COLOURS, GREY, trained
from npllm.generation import beam_search, generate
from npllm.layers import log_softmax_forward
from npllm.layers.arrays import Array
from npllm.models import LSTMLanguageModel
from npllm.sampling import Sampling
from npllm.text import CharacterTokenizer, load_text, split_text

PROMPT, LENGTH, MEAN = 20, 160, 9


def sampling() -> Figure:
    """Draw three temperatures, and the surprise of a real text, a sample and a beam."""
    figure = Figure()
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    rank = np.arange(1, 51)
    for tau in (0.5, 1.0, 2.0):
        q = Sampling(temperature=tau).probabilities(-np.log(rank))
        left.loglog(rank, q, label=rf"$\tau = {tau:g}$")
    left.set_xlabel("$i$")
    left.set_ylabel("$q_i$")
    left.legend()
    train, held_out = split_text(load_text())
    tokenizer = CharacterTokenizer.train(train + held_out)
    model = trained(tokenizer, train, hidden_size=96, lr=0.004, length=50, steps=1000)
    start = held_out.index(". ") + 2
    real = tokenizer.encode(held_out[start : start + PROMPT + LENGTH])
    prompt, rng = real[:PROMPT], np.random.default_rng(1)
    (best, *_) = beam_search(model, prompt, LENGTH, beams=10)
    drawn = list(generate(model, prompt, LENGTH, rng))
    for ids, colour in ((real[PROMPT:], GREY), (drawn, COLOURS[0]), (best.ids, COLOURS[1])):
        nats = _nats(model, np.concatenate([prompt, ids]))
        right.plot(np.convolve(nats, np.ones(MEAN) / MEAN, "valid"), color=colour)
    right.set_xlabel("$t$")
    right.set_ylabel(r"$-\log p(w_t)$")
    return figure


def _nats(model: LSTMLanguageModel, ids: Array) -> Array:
    """Return what each token after the prompt costs."""
    logits, _ = model.forward(ids[None])
    log_p, _ = log_softmax_forward(logits[0].astype(float))
    return -log_p[np.arange(PROMPT - 1, len(ids) - 1), ids[PROMPT:]]
