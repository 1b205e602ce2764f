"""Evidence on scaled dot-product attention."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from npllm import layers
from npllm.checking.pair import Backward, Forward
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array
from npllm.layers.attention import attention_cache


def attention_arguments(source: Source, lead: Lead, n: int, m: int, **options: Any) -> Bound:
    """Attend from n queries to m keys of width 3."""

    def attend(*args: Array, **options: Any) -> tuple[object, object]:
        return layers.attention_forward(*args, rng=np.random.default_rng(5), **options)

    return attending(attend, layers.attention_backward, source, lead, n, m, **options)


def attending(
    attend: Forward,
    backward: Backward,
    source: Source,
    lead: Lead,
    n: int,
    m: int,
    *,
    bias: bool = False,
    mask: bool = False,
    **options: Any,
) -> Bound:
    """Attend from n queries to m keys of width 3, in one way or the other."""
    shapes = [(*lead, n, 3), (m, 3), (*lead, m, 2)] + [(n, m)] * bias
    seen = source.mask(n, m) if mask else None  # some rows see nothing

    def forward(q: Array, k: Array, v: Array, bias: Array | None = None) -> tuple[object, object]:
        return attend(q, k, v, bias=bias, mask=seen, **options)

    args = tuple(source.normal(*shape) for shape in shapes)
    return Bound(forward, backward, args)


ATTENTION_VARIANTS: Variants = {
    "": {},
    "causal": {"causal": True, "scale": 0.7},
    "all": {"bias": True, "mask": True, "causal": True, "dropout": 0.3, "return_weights": True},
    "window, offset": {"causal": True, "window": 2, "offset": 1},
    "softcap": {"softcap": 0.8},
    "softcap, all": {
        "softcap": 0.8,
        "bias": True,
        "mask": True,
        "causal": True,
        "return_weights": True,
    },
}


def attention_cases(rng: Generator) -> Iterator[Case]:
    """Attend with every option."""
    q, k, v = (rng.normal(size=size) for size in ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)))
    mask = rng.random((4, 6)) < 0.6
    mask[2] = False  # a query that sees nothing
    shared_k, shared_v = k[:, :1], v[0, 0]  # broadcast over heads, and over batch and heads
    configurations: dict[str, tuple[tuple[Array, ...], dict[str, Any]]] = {
        "plain": ((q, k, v), {}),
        "square": (tuple(rng.normal(size=(2, 5, 5)) for _ in range(3)), {}),  # T = D = Dv
        "causal, Tq < Tk": ((q, k, v), {"causal": True}),
        "causal, Tq > Tk": ((q, k[..., :3, :], v[..., :3, :]), {"causal": True}),
        "mask with an empty row": ((q, k, v), {"mask": mask}),
        "mask and causal": ((q, k, v), {"mask": mask, "causal": True}),
        "bias": ((q, k, v, rng.normal(size=(3, 1, 6))), {}),
        "scale": ((q, k, v), {"scale": 0.7}),
        "dropout": ((q, k, v), {"dropout": 0.4}),
        "weights returned": ((q, k, v), {"return_weights": True}),
        "broadcast": ((q, shared_k, shared_v), {}),
        "T = 1": ((q[..., :1, :], k[..., :1, :], v[..., :1, :]), {}),
        "softcap": ((q, k, v), {"softcap": 0.8}),
        "softcap, mask, causal, full bias, weights returned": (
            (q, k, v, rng.normal(size=(2, 3, 4, 6))),
            {"softcap": 1.5, "mask": mask, "causal": True, "return_weights": True},
        ),
        "causal, window, offset": ((q, k, v), {"causal": True, "window": 2, "offset": 1}),
    }
    for label, (args, options) in configurations.items():
        attend: Forward = partial(layers.attention_forward, **options)

        def forward(
            q: Array, k: Array, v: Array, bias: Array | None = None, attend: Forward = attend
        ) -> tuple[object, object]:
            return attend(q, k, v, bias=bias, rng=np.random.default_rng(5))

        yield Case(label, forward, layers.attention_backward, args)


_backward = layers.attention_backward


ATTENTION_MISTAKES = [
    Mistake(
        "attention",
        "plain",
        "the gradient of K computed as (D, T), then reshaped as if it were (T, D)",
        "A reshape fits any array of as many elements; only a transpose moves them rightly.",
        "The right numbers in the wrong places.",
        _backward,
        "dproduct.swapaxes(-1, -2) @ q",
        "(q.swapaxes(-1, -2) @ dproduct).reshape(k.shape)",
        cause="transposed",
        wild=True,
    ),
    Mistake(
        "attention",
        "dropout",
        "the weights before dropout used in the backward",
        "Both have one shape, and at p = 0 they are one array: most tests run at p = 0.",
        "The gradient of V is wrong as soon as p > 0.",
        attention_cache,
        "dropped,\n        dropout_cache",
        "weights,\n        dropout_cache",
        wild=True,
    ),
    Mistake(
        "attention",
        "plain",
        "the backward returns what came in",
        "With Tq = Tk and D = Dv everything has one shape.",
        "The gradient is the incoming gradient.",
        _backward,
        "dq = weighed(dproduct, k)",
        "dq = dy[..., : q.shape[-1]].copy()",
        cause="returned_dy",
        wild=True,
    ),
    Mistake(
        "attention",
        "plain",
        "1 / sqrt(D) lost on the way back",
        "A constant changes no shape, and Adam hardly feels it.",
        "Off by exactly sqrt(D).",
        _backward,
        "dscores * scale",
        "dscores * 1",
        cause="scale",
    ),
    Mistake(
        "attention",
        "plain",
        "1 / sqrt(D) applied twice",
        "As above.",
        "Off by exactly 1 / sqrt(D), in dq alone.",
        _backward,
        "dq = weighed(dproduct, k)",
        "dq = weighed(dproduct, k) * scale",
        cause="scale",
    ),
    Mistake(
        "attention",
        "plain",
        "multiplied by sqrt(D) instead of divided",
        "The inverse of the right constant.",
        "Off by exactly D.",
        _backward,
        "dscores * scale",
        "dscores / scale",
        cause="scale",
    ),
    Mistake(
        "attention",
        "square",
        "softmax's backward forgotten",
        "The gradients of the weights and of the scores have one shape.",
        "A row of the scores' gradient must sum to zero.",
        _backward,
        "dscores = softmax_backward(dweights, softmax_cache)",
        "dscores = dweights * 1",
    ),
    Mistake(
        "attention",
        "square",
        "q and k exchanged in the gradients of the product",
        "In self-attention they have one shape, and dq made of q looks natural.",
        "Each must be made of the other: both are wrong throughout.",
        _backward,
        "dq = weighed(dproduct, k)",
        "q, k = k, q\n    dq = weighed(dproduct, k)",
    ),
    Mistake(
        "attention",
        "square",
        "the scores' gradient not transposed for dk",
        "With Tq = Tk the product exists either way.",
        "Test with Tq and Tk different: then the shapes complain.",
        _backward,
        "dproduct.swapaxes(-1, -2) @ q",
        "dproduct @ q",
    ),
    Mistake(
        "attention",
        "square",
        "the weights not transposed for dv",
        "With Tq = Tk the product exists either way.",
        "Values get the gradients of the keys that they looked at, not of those that saw them.",
        _backward,
        "dropped.swapaxes(-1, -2) @ dy",
        "dropped @ dy",
    ),
    Mistake(
        "attention",
        "square",
        "v not transposed for the gradient of the weights",
        "With Tk = Dv the product exists either way.",
        "Only dq and dk are wrong: dv does not come this way.",
        _backward,
        "dy @ v.swapaxes(-1, -2)",
        "dy @ v",
    ),
    Mistake(
        "attention",
        "causal, Tq < Tk",
        "the whole of dy added up for dv, without the weights",
        "It has a value's shape, and its size is about right.",
        "Keys that no query may see get a gradient.",
        _backward,
        "dropped.swapaxes(-1, -2) @ dy",
        "np.ones_like(dropped).swapaxes(-1, -2) @ dy / dropped.shape[-1]",
    ),
    Mistake(
        "attention",
        "dropout",
        "the dropout of the weights forgotten on the way back",
        "At p = 0 there is nothing to forget.",
        "dq and dk are wrong as soon as p > 0; dv is right.",
        _backward,
        "dweights = dropout_backward(dweights, dropout_cache)",
        "pass",
    ),
    Mistake(
        "attention",
        "bias",
        "the bias scaled like the scores",
        "The bias is added after the scaling; before it, the factor would be right.",
        "Off by exactly 1 / sqrt(D), in the bias alone.",
        _backward,
        "unbroadcast(dscores, bias_shape)",
        "unbroadcast(dscores * scale, bias_shape)",
        cause="scale",
    ),
    Mistake(
        "attention",
        "bias",
        "the bias takes the gradient of the first batch only",
        "A slice has the shape that the sum would have.",
        "Right for a batch of one.",
        _backward,
        "unbroadcast(dscores, bias_shape)",
        "unbroadcast(dscores[:1], bias_shape)",
    ),
    Mistake(
        "attention",
        "weights returned",
        "the gradient of the returned weights forgotten",
        "Most callers only look at the weights.",
        "Right until a loss uses them.",
        _backward,
        "dweights += dweights_returned",
        "pass",
    ),
    Mistake(
        "attention",
        "weights returned",
        "the gradient of the returned weights taken for the scores'",
        "Weights and scores have one shape.",
        "Right until a loss uses them.",
        _backward,
        "dscores = softmax_backward(dweights, softmax_cache)",
        "dscores = softmax_backward(dweights - dweights_returned, softmax_cache)\n"
        "    dscores += dweights_returned",
    ),
    Mistake(
        "attention",
        "broadcast",
        "a key shared by the heads gets the gradient of the first head only",
        "A slice has the shape that the sum would have.",
        "Right for a single head: test grouped queries with more than one.",
        _backward,
        "unbroadcast(dk, k.shape)",
        "dk[:, :1]",
    ),
    Mistake(
        "attention",
        "broadcast",
        "a value shared by the heads gets their mean",
        "mean and sum over the heads have one shape.",
        "Off by exactly the number of heads times the batch.",
        _backward,
        "unbroadcast(dv, v.shape)",
        "dv.mean(axis=(0, 1))",
        cause="scale",
    ),
    Mistake(
        "attention",
        "scale",
        "the default scale used where another was asked for",
        "Right for everyone who keeps the default.",
        "Off by exactly the ratio of the two.",
        _backward,
        "dscores * scale",
        "dscores / math.sqrt(q.shape[-1])",
        cause="scale",
    ),
    Mistake(
        "attention",
        "softcap",
        "the soft cap forgotten on the way back",
        "For scores far below the cap its derivative is 1.",
        "dv is right, dq and dk are not: the cap lies before the softmax.",
        _backward,
        "dscores = dscores * slope",
        "pass",
    ),
    Mistake(
        "attention",
        "softcap",
        "tanh where its derivative is due",
        "Elementwise: the shape is right.",
        "dv is right, dq and dk are not.",
        _backward,
        "1 - tanh * tanh",
        "tanh",
    ),
    Mistake(
        "attention",
        "softcap",
        "1 - tanh for 1 - tanh^2",
        "Elementwise: the shape is right.",
        "For negative scores the gradient is larger than without a cap.",
        _backward,
        "1 - tanh * tanh",
        "1 - tanh",
    ),
    Mistake(
        "attention",
        "softcap, mask, causal, full bias, weights returned",
        "the soft cap's derivative multiplied in place",
        "It saves an array. The bias's gradient is that array, if nothing had to be summed.",
        "Only the bias is wrong, and only if it has the scores' full shape.",
        _backward,
        "dscores = dscores * slope",
        "dscores *= slope",
    ),
]
