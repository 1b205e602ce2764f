"""Every layer, in its plain form and with its options on, for the tests of what all layers owe.

Each entry builds a :class:`Layer` from a source of random arrays, the leading axes and two sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np
from oracle import Layer, Source

from npllm import layers

Lead = tuple[int, ...]
Build = Callable[[Source, Lead, int, int], Layer]


def elementwise(forward: Any, backward: Any, **options: Any) -> Build:
    """Return the entry of a layer that takes one array, x of shape (*lead, n, m)."""

    def build(source: Source, lead: Lead, n: int, m: int) -> Layer:
        return Layer(partial(forward, **options), backward, (source.normal(*lead, n, m),))

    return build


def dropout(source: Source, lead: Lead, n: int, m: int) -> Layer:
    """Draw the same mask in each call."""

    def forward(x: Any) -> Any:
        return layers.dropout_forward(x, 0.3, np.random.default_rng(5))

    return Layer(forward, layers.dropout_backward, (source.normal(*lead, n, m),))


def linear(source: Source, lead: Lead, n: int, m: int, *, bias: bool = True) -> Layer:
    """Map n features to m."""
    args = (source.normal(*lead, n), source.normal(m, n), *((source.normal(m),) if bias else ()))
    return Layer(layers.linear_forward, layers.linear_backward, args)


def embedding(source: Source, lead: Lead, n: int, m: int, **options: Any) -> Layer:
    """Look up ids, most of them more than once, among n words of width m."""
    ids = source.ids(n, (*lead, 5))
    forward = partial(layers.embedding_forward, ids, **options)
    return Layer(forward, layers.embedding_backward, (source.normal(n, m),))


def attention(
    source: Source,
    lead: Lead,
    n: int,
    m: int,
    *,
    bias: bool = False,
    mask: bool = False,
    **options: Any,
) -> Layer:
    """Attend from n queries to m keys of width 3."""
    shapes = [(*lead, n, 3), (m, 3), (*lead, m, 2)] + [(n, m)] * bias
    seen = source.mask(n, m) if mask else None  # some rows see nothing

    def forward(q: Any, k: Any, v: Any, bias: Any = None) -> Any:
        rng = np.random.default_rng(5)
        return layers.attention_forward(q, k, v, bias=bias, mask=seen, rng=rng, **options)

    args = tuple(source.normal(*shape) for shape in shapes)
    return Layer(forward, layers.attention_backward, args)


def layer_norm(source: Source, lead: Lead, n: int, m: int, *, plain: bool = False) -> Layer:
    """Normalize rows of width m."""
    args = (source.normal(*lead, n, m), *(() if plain else (source.normal(m), source.normal(m))))
    return Layer(layers.layer_norm_forward, layers.layer_norm_backward, args)


def rms_norm(source: Source, lead: Lead, n: int, m: int, *, plain: bool = False) -> Layer:
    """Normalize rows of width m, without a shift."""
    args = (source.normal(*lead, n, m), *(() if plain else (source.normal(m),)))
    return Layer(layers.rms_norm_forward, layers.rms_norm_backward, args)


def rotary(source: Source, lead: Lead, n: int, m: int, *, interleaved: bool = False) -> Layer:
    """Turn n rows of m pairs, and leave one feature as it is."""
    cos, sin = layers.rotary_table(np.arange(n), 2 * m)

    def forward(x: Any) -> Any:
        return layers.rotary_forward(x, cos, sin, interleaved)

    return Layer(forward, layers.rotary_backward, (source.normal(*lead, n, 2 * m + 1),))


def swiglu(source: Source, lead: Lead, n: int, m: int) -> Layer:
    """Gate one array with another."""
    shape = (*lead, n, m)
    args = (source.normal(*shape), source.normal(*shape))
    return Layer(layers.swiglu_forward, layers.swiglu_backward, args)


def multi_head(
    source: Source, lead: Lead, n: int, m: int, *, past: bool = False, **options: Any
) -> Layer:
    """Attend in 2 m heads of width 4 that share m key heads."""
    batch = prod(lead)
    shapes = [(batch, n, 8 * m), (batch, n, 4 * m), (batch, n, 3 * m)]
    start = 2 if past else 0
    table = (*layers.rotary_table(np.arange(start, start + n), 4), False)
    kept = (source.normal(batch, m, 2, 4), source.normal(batch, m, 2, 3)) if past else None

    def forward(q: Any, k: Any, v: Any) -> Any:
        return layers.multi_head_attention_forward(
            q, k, v, 2 * m, m, rotary=table, past=kept, causal=True, **options
        )

    args = tuple(source.normal(*shape) for shape in shapes)
    return Layer(forward, layers.multi_head_attention_backward, args)


def tiled_attention(
    source: Source,
    lead: Lead,
    n: int,
    m: int,
    *,
    bias: bool = False,
    mask: bool = False,
    **options: Any,
) -> Layer:
    """Attend from n queries to m keys, a few scores at a time."""
    shapes = [(*lead, n, 3), (m, 3), (*lead, m, 2)] + [(n, m)] * bias
    seen = source.mask(n, m) if mask else None

    def forward(q: Any, k: Any, v: Any, bias: Any = None) -> Any:
        return layers.tiled_attention_forward(q, k, v, bias=bias, mask=seen, scores=5, **options)

    args = tuple(source.normal(*shape) for shape in shapes)
    return Layer(forward, layers.tiled_attention_backward, args)


def linear_cross_entropy(source: Source, lead: Lead, n: int, m: int) -> Layer:
    """Classify rows of width n into m classes, two at a time."""
    targets = source.ids(m, (*lead, 3))

    def forward(x: Any, weight: Any, bias: Any) -> Any:
        return layers.linear_cross_entropy_forward(
            x, weight, targets, bias, ignore_index=0, logits=2 * m
        )

    args = (source.normal(*lead, 3, n), source.normal(m, n), source.normal(m))
    return Layer(forward, layers.linear_cross_entropy_backward, args)


def cross_entropy_ids(source: Source, lead: Lead, n: int, m: int, **options: Any) -> Layer:
    """Classify into m classes, with class weights and ignored rows where there are options."""
    targets = source.ids(m, (*lead, n))
    if options:
        options["weight"] = source.uniform(m)
    forward = partial(layers.cross_entropy_forward, targets=targets, **options)
    return Layer(forward, layers.cross_entropy_backward, (source.normal(*lead, n, m),))


def cross_entropy_soft(source: Source, lead: Lead, n: int, m: int, **options: Any) -> Layer:
    """Aim at distributions over m classes."""
    if options:
        options["weight"] = source.uniform(m)
    args = (source.normal(*lead, n, m), source.distribution(*lead, n, m))
    forward = partial(layers.cross_entropy_forward, **options)
    return Layer(forward, layers.cross_entropy_backward, args)


def lstm_cell(
    source: Source, lead: Lead, n: int, m: int, *, bias: bool = True, peepholes: bool = False
) -> Layer:
    """Take one step with an input of width n and m cells; peepholes come with the biases."""
    shapes: list[Lead] = [(*lead, n), (*lead, m), (*lead, m), (4 * m, n), (4 * m, m)]
    shapes += [(4 * m,)] * 2 * bias + [(3 * m,)] * peepholes
    args = tuple(source.normal(*shape) for shape in shapes)
    return Layer(layers.lstm_cell_forward, layers.lstm_cell_backward, args)


def lstm_weights(
    source: Source,
    width: int,
    hidden: int,
    *,
    depth: int = 1,
    bidirectional: bool = False,
    reverse_only: bool = False,
    bias: bool = True,
    proj_size: int = 0,
    peepholes: bool = False,
) -> dict[str, np.ndarray]:
    """Return torch's parameters of an LSTM, and those that torch has no names for."""
    shown, weights = proj_size or hidden, {}
    ends = ["_reverse"] if reverse_only else ["", "_reverse"][: 1 + bidirectional]
    for k in range(depth):
        for suffix in (f"l{k}{end}" for end in ends):
            weights[f"weight_ih_{suffix}"] = source.normal(4 * hidden, width)
            weights[f"weight_hh_{suffix}"] = source.normal(4 * hidden, shown)
            if bias:
                weights[f"bias_ih_{suffix}"] = source.normal(4 * hidden)
                weights[f"bias_hh_{suffix}"] = source.normal(4 * hidden)
            if proj_size:
                weights[f"weight_hr_{suffix}"] = source.normal(proj_size, hidden)
            if peepholes:
                weights[f"weight_ch_{suffix}"] = source.normal(3 * hidden)
        width = shown * len(ends)
    return weights


def lstm(
    source: Source,
    lead: Lead,
    n: int,
    m: int,
    *,
    single: bool = False,
    full: bool = False,
    **kind: bool,
) -> Layer:
    """Run n steps with an input of width 3 and m cells: plainly, or with every option."""
    batch = prod(lead)
    if not full:
        x = source.normal(*((n, 3) if single else (n, batch, 3)))
        weights = lstm_weights(source, 3, m, **kind)
        return Layer(layers.lstm_forward, layers.lstm_backward, (x, weights))
    weights = lstm_weights(source, 3, m, depth=2, bidirectional=True, proj_size=2, **kind)
    lengths = source.ids(n + 1, (batch,))

    def forward(x: Any, weights: Any, state: Any) -> Any:
        options = {"batch_first": True, "dropout": 0.3, "rng": np.random.default_rng(5)}
        return layers.lstm_forward(x, weights, state, lengths=lengths, **options)

    state = (source.normal(4, batch, 2), source.normal(4, batch, m))
    return Layer(forward, layers.lstm_backward, (source.normal(batch, n, 3), weights, state))


CATALOGUE: dict[str, Build] = {
    "sigmoid": elementwise(layers.sigmoid_forward, layers.sigmoid_backward),
    "tanh": elementwise(layers.tanh_forward, layers.tanh_backward),
    "relu": elementwise(layers.relu_forward, layers.relu_backward),
    "gelu": elementwise(layers.gelu_forward, layers.gelu_backward),
    "gelu tanh": elementwise(layers.gelu_forward, layers.gelu_backward, approximate="tanh"),
    "silu": elementwise(layers.silu_forward, layers.silu_backward),
    "softmax": elementwise(layers.softmax_forward, layers.softmax_backward),
    "softmax, axis -2": elementwise(layers.softmax_forward, layers.softmax_backward, axis=-2),
    "log_softmax": elementwise(layers.log_softmax_forward, layers.log_softmax_backward),
    "logsumexp": elementwise(layers.logsumexp_forward, layers.logsumexp_backward),
    "dropout": dropout,
    "dropout off": elementwise(layers.dropout_forward, layers.dropout_backward, training=False),
    "linear": linear,
    "linear, no bias": partial(linear, bias=False),
    "embedding": embedding,
    "embedding, padding": partial(embedding, padding_idx=-1),
    "attention": attention,
    "attention, causal": partial(attention, causal=True, scale=0.7),
    "attention, all": partial(
        attention, bias=True, mask=True, causal=True, dropout=0.3, return_weights=True
    ),
    "attention, window, offset": partial(attention, causal=True, window=2, offset=1),
    "attention, softcap": partial(attention, softcap=0.8),
    "attention, softcap, all": partial(
        attention, softcap=0.8, bias=True, mask=True, causal=True, return_weights=True
    ),
    "cross_entropy": cross_entropy_ids,
    "cross_entropy, all": partial(cross_entropy_ids, ignore_index=0, label_smoothing=0.1),
    "cross_entropy, rows": partial(cross_entropy_ids, ignore_index=0, reduction="none"),
    "cross_entropy, soft": cross_entropy_soft,
    "cross_entropy, soft, all": partial(cross_entropy_soft, label_smoothing=0.1, reduction="none"),
    "layer_norm": layer_norm,
    "layer_norm, plain": partial(layer_norm, plain=True),
    "rms_norm": rms_norm,
    "rms_norm, plain": partial(rms_norm, plain=True),
    "rotary": rotary,
    "rotary, interleaved": partial(rotary, interleaved=True),
    "swiglu": swiglu,
    "multi_head_attention": multi_head,
    "multi_head_attention, past": partial(multi_head, past=True, window=2),
    "multi_head_attention, tiled": partial(multi_head, tiled=True),
    "tiled_attention": tiled_attention,
    "tiled_attention, all": partial(
        tiled_attention, bias=True, mask=True, causal=True, softcap=0.8, offset=1, window=2
    ),
    "linear_cross_entropy": linear_cross_entropy,
    "lstm_cell": lstm_cell,
    "lstm_cell, no bias": partial(lstm_cell, bias=False),
    "lstm_cell, peepholes": partial(lstm_cell, peepholes=True),
    "lstm": lstm,
    "lstm, single": partial(lstm, single=True),
    "lstm, all": partial(lstm, full=True),
    "lstm, reverse only": partial(lstm, reverse_only=True),
    "lstm, peepholes": partial(lstm, peepholes=True),
    "lstm, peepholes, all": partial(lstm, full=True, peepholes=True),
}
