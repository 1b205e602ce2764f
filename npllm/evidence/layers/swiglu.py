"""Evidence on SwiGLU."""

from __future__ import annotations

from collections.abc import Iterator

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers import swiglu


def swiglu_arguments(source: Source, lead: Lead, n: int, m: int) -> Bound:
    """Gate one array with another."""
    shape = (*lead, n, m)
    args = (source.normal(*shape), source.normal(*shape))
    return Bound(layers.swiglu_forward, layers.swiglu_backward, args)


def swiglu_cases(rng: Generator) -> Iterator[Case]:
    """Gate small and large numbers."""
    for label, scale in (("small", 1.0), ("large", 6.0)):
        args = (scale * rng.normal(size=(3, 5)), rng.normal(size=(3, 5)))
        yield Case(label, layers.swiglu_forward, layers.swiglu_backward, args)


_backward = swiglu._swiglu_backward


SWIGLU_MISTAKES = [
    Mistake(
        "swiglu",
        "small",
        "the sigmoid taken for the derivative of silu",
        "silu(x) = x s(x), so its slope is s: true if s did not depend on x.",
        "dup is right; dgate is right at 0 and far from it, on either side.",
        _backward,
        "silu_backward(dy * up, silu_cache)",
        "dy * up * silu_cache.s",
    ),
    Mistake(
        "swiglu",
        "small",
        "the gradients of gate and up exchanged",
        "Both have one shape, and papers differ in which comes first.",
        "Each is what belongs to the other.",
        _backward,
        "return silu_backward(dy * up, silu_cache), dy * activation",
        "return dy * activation, silu_backward(dy * up, silu_cache)",
        cause="swapped",
    ),
    Mistake(
        "swiglu",
        "small",
        "up's gradient multiplied by the gate instead of silu of the gate",
        "The product rule, on the wrong product.",
        "Far to the right silu(gate) is gate; to the left dup should vanish and does not.",
        _backward,
        "dy * activation",
        "dy * silu_cache.x",
    ),
    Mistake(
        "swiglu",
        "small",
        "up forgotten in the gate's gradient",
        "Elementwise: the shape is right without it.",
        "A factor up is missing in dgate; dup is right.",
        _backward,
        "silu_backward(dy * up, silu_cache)",
        "silu_backward(dy, silu_cache)",
        cause="factor",
    ),
    Mistake(
        "swiglu",
        "small",
        "silu's backward forgotten",
        "dy * up is already the gradient of something: of silu(gate).",
        "dup is right; dgate is right nowhere but where silu's slope is one.",
        _backward,
        "silu_backward(dy * up, silu_cache)",
        "dy * up",
    ),
    Mistake(
        "swiglu",
        "large",
        "the gate multiplied by up in place, over the activation that is kept",
        "It saves the largest array of the block, and y is right.",
        "dup is off by a factor up: the activation in the cache is y.",
        swiglu._swiglu,
        "return activation * up, Swiglu",
        "activation *= up\n    return activation.copy(), Swiglu",
        cause="factor",
    ),
]
