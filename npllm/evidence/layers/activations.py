"""Evidence on functions of one number: sigmoid, tanh, ReLU, GELU, SiLU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from npllm import layers
from npllm.checking.pair import Backward, Forward
from npllm.evidence.case import Case, Generator, Variants, of_one_array
from npllm.evidence.mistake import Mistake
from npllm.layers import activations


def _small_and_large(forward: Forward, backward: Backward, rng: Generator) -> Iterator[Case]:
    """Apply a function to small and to large numbers."""
    for label, scale in (("small", 1.0), ("large", 6.0)):
        x = scale * rng.normal(size=(3, 5))
        yield Case(label, forward, backward, (x,))


sigmoid_arguments = of_one_array(layers.sigmoid_forward, layers.sigmoid_backward)
sigmoid_cases = partial(_small_and_large, layers.sigmoid_forward, layers.sigmoid_backward)

tanh_arguments = of_one_array(layers.tanh_forward, layers.tanh_backward)
tanh_cases = partial(_small_and_large, layers.tanh_forward, layers.tanh_backward)

relu_arguments = of_one_array(layers.relu_forward, layers.relu_backward)
relu_cases = partial(_small_and_large, layers.relu_forward, layers.relu_backward)

gelu_arguments = of_one_array(layers.gelu_forward, layers.gelu_backward)
GELU_VARIANTS: Variants = {"": {}, "tanh": {"approximate": "tanh"}}


def gelu_cases(rng: Generator) -> Iterator[Case]:
    """Apply both forms to small and to large numbers."""
    for approximate in ("none", "tanh"):
        forward = partial(layers.gelu_forward, approximate=approximate)
        for case in _small_and_large(forward, layers.gelu_backward, rng):
            label = case.label if approximate == "none" else f"{approximate}, {case.label}"
            yield case._replace(label=label)


silu_arguments = of_one_array(layers.silu_forward, layers.silu_backward)
silu_cases = partial(_small_and_large, layers.silu_forward, layers.silu_backward)

_gelu = activations._gelu_backward


SIGMOID_MISTAKES = [
    Mistake(
        "sigmoid",
        "small",
        "y in place of y (1 - y)",
        "Elementwise: any function of y has the right shape.",
        "A factor 1 - y is missing; where the gate is wide open the gradient should vanish.",
        layers.sigmoid_backward,
        "dy * y * (1 - y)",
        "dy * y",
        cause="factor",
    ),
    Mistake(
        "sigmoid",
        "small",
        "sigmoid applied once more, to its output",
        "Cached is y, but the formula was written for x.",
        "y lies in (0, 1), so sigmoid(y) is near 0.6 everywhere: the gradient hardly varies.",
        layers.sigmoid_backward,
        "y = cache",
        "y = sigmoid(cache)",
    ),
    Mistake(
        "sigmoid",
        "small",
        "the half of tanh's form left in",
        "sigmoid(x) = (1 + tanh(x / 2)) / 2, and one of the halves was counted twice.",
        "Off by exactly 2.",
        layers.sigmoid_backward,
        "dy * y * (1 - y)",
        "dy * y * (1 - y) / 2",
        cause="scale",
    ),
    Mistake(
        "sigmoid",
        "small",
        "the derivative computed in place, over the cached output",
        "It saves an array. y, which the caller holds, is that array.",
        "y is not what it was after the backward; a second backward gives something else.",
        layers.sigmoid_backward,
        "dy * y * (1 - y)",
        "dy * np.multiply(y, 1 - y, out=y)",
        cause="mutated_input",
    ),
    Mistake(
        "sigmoid",
        "small",
        "the cache of the first call kept for all calls",
        "if self.y is None: self.y = y. The first batch is right.",
        "It is the gradient of an earlier call.",
        layers.sigmoid_forward,
        "return y, y",
        'return y, sigmoid_forward.__dict__.setdefault("y", y)',
        cause="stale",
    ),
]


TANH_MISTAKES = [
    Mistake(
        "tanh",
        "small",
        "1 - y in place of 1 - y^2",
        "Elementwise: the shape is right, and at 0 and 1 so is the value.",
        "For negative y the gradient is larger than dy, which a squashing function never allows.",
        layers.tanh_backward,
        "1 - y * y",
        "1 - y",
    ),
    Mistake(
        "tanh",
        "small",
        "tanh applied once more, to its output",
        "Cached is y, but the formula was written for x.",
        "Right to a tenth near 0, where tests like to look.",
        layers.tanh_backward,
        "y = cache",
        "y = np.tanh(cache)",
    ),
    Mistake(
        "tanh",
        "small",
        "x cached where the backward expects y",
        "Both have one shape.",
        "1 - x^2 turns negative beyond 1: the sign of the gradient flips there.",
        layers.tanh_forward,
        "return y, y",
        "return y, x",
    ),
    Mistake(
        "tanh",
        "small",
        "the result cached in one buffer, allocated once",
        "Right as long as each forward is followed by its own backward.",
        "With two forwards before the backward (shared weights, two sequences) it is the other's.",
        layers.tanh_forward,
        "return y, y",
        "kept = tanh_forward.__dict__.setdefault(y.dtype.str, np.empty_like(y))\n"
        "    kept[...] = y\n    return y, kept",
        cause="stale",
    ),
    Mistake(
        "tanh",
        "small",
        "the derivative kept in float32",
        "Half the memory, and the dtype of dx is that of dy all the same.",
        "Right to 1e-8, and no further.",
        layers.tanh_backward,
        "(1 - y * y)",
        "(1 - y * y).astype(np.float32)",
        cause="float32",
    ),
]


RELU_MISTAKES = [
    Mistake(
        "relu",
        "small",
        "the gradient let through everywhere",
        "dy has the shape of dx.",
        "The gradient is the incoming gradient, also where the unit was off.",
        layers.relu_backward,
        "positive, dtype = cache",
        "positive, dtype = np.ones_like(cache.positive), cache.dtype",
        cause="returned_dy",
    ),
    Mistake(
        "relu",
        "small",
        "the sign of the gradient tested instead of that of the input",
        "dy > 0 is a mask of the right shape.",
        "The backward is not linear in dy: with -dy it lets the others through.",
        layers.relu_backward,
        "positive, dtype = cache",
        "positive, dtype = dy > 0, cache.dtype",
        cause="nonlinear",
    ),
    Mistake(
        "relu",
        "small",
        "both signs tested",
        "It is a known way to draw pictures (guided backpropagation), but no derivative.",
        "The backward is not linear in dy.",
        layers.relu_backward,
        "positive, dtype = cache",
        "positive, dtype = cache.positive & (dy > 0), cache.dtype",
        cause="nonlinear",
    ),
    Mistake(
        "relu",
        "small",
        "a leak in the backward that the forward has not",
        "A hundredth of dy is small enough to pass for noise.",
        "Where the unit is off the gradient must be exactly zero.",
        layers.relu_backward,
        "np.where(positive, dy, np.zeros((), dy.dtype))",
        "np.where(positive, dy, 0.01 * dy)",
        cause="not_zero",
    ),
    Mistake(
        "relu",
        "small",
        "dy masked in place",
        "It saves an array, and the numbers are right.",
        "dy is the caller's: a residual branch that shares it is masked too.",
        layers.relu_backward,
        "return np.where(positive, dy, np.zeros((), dy.dtype))",
        "dy *= positive\n    return dy.copy()",
        cause="mutated_dy",
    ),
]


GELU_MISTAKES = [
    Mistake(
        "gelu",
        "small",
        "the term x Phi'(x) dropped",
        "d(x Phi) = Phi dx looks finished.",
        "Right far from 0 on both sides, where Phi' is zero: test near 0.",
        _gelu,
        "phi += slope",
        "pass",
    ),
    Mistake(
        "gelu",
        "small",
        "the density without its 1 / sqrt(2 pi)",
        "A constant changes no shape.",
        "The slope at 1 is 1.45 where 1.08 is due.",
        _gelu,
        "slope *= 1 / math.sqrt(2 * math.pi)",
        "pass",
    ),
    Mistake(
        "gelu",
        "small",
        "the half in the density's exponent lost",
        "exp(-x^2) and exp(-x^2 / 2) are both bells.",
        "Right at 0 only.",
        _gelu,
        "np.exp(-0.5 * x * x)",
        "np.exp(-x * x)",
    ),
    Mistake(
        "gelu",
        "small",
        "the slope of the tanh form used for the exact one",
        "The two forms differ by less than 1e-3: a lax check passes.",
        "Nothing but the digits: an error of about 1e-3 or less at every element.",
        _gelu,
        'if approximate == "none":',
        "if False:",
    ),
    Mistake(
        "gelu",
        "tanh, small",
        "the 3 of the cube's derivative lost",
        "A constant changes no shape.",
        "The further from 0, the more it is off.",
        _gelu,
        "3 * 0.044715",
        "0.044715",
    ),
    Mistake(
        "gelu",
        "tanh, small",
        "the 2 of 2 Phi (1 - Phi) lost",
        "Phi (1 - Phi) is what a sigmoid has; here Phi = (1 + tanh) / 2.",
        "Off by half of the second term.",
        _gelu,
        "slope *= 2 - 2 * phi",
        "slope *= 1 - phi",
    ),
    Mistake(
        "gelu",
        "tanh, small",
        "0.044715 typed as 0.0447",
        "Both look like the constant of the paper.",
        "An error of 1e-5: below what most checkers look at.",
        _gelu,
        "3 * 0.044715",
        "3 * 0.0447",
        cause="epsilon",
    ),
    Mistake(
        "gelu",
        "tanh, small",
        "x forgotten in x Phi'(x)",
        "slope and x * slope have one shape.",
        "The gradient is no longer phi at 0.",
        _gelu,
        "slope *= x\n    phi += slope",
        "phi += slope",
    ),
    Mistake(
        "gelu",
        "tanh, large",
        "sqrt(2) / pi for sqrt(2 / pi)",
        "A misplaced bracket.",
        "The second term is off by the factor sqrt(pi).",
        _gelu,
        "slope = x * (",
        "ROOT = math.sqrt(2) / math.pi\n        slope = x * (",
    ),
]


SILU_MISTAKES = [
    Mistake(
        "silu",
        "small",
        "x forgotten in x s (1 - s)",
        "s (1 - s) is the derivative of the sigmoid, and looks complete.",
        "Right at x = 1 only.",
        layers.silu_backward,
        "s + x * s * (1 - s)",
        "s + s * (1 - s)",
    ),
    Mistake(
        "silu",
        "small",
        "sigmoid's derivative for silu's",
        "A gate's derivative, taken from the layer next door.",
        "Never negative, and silu has a dip.",
        layers.silu_backward,
        "s + x * s * (1 - s)",
        "s * (1 - s)",
    ),
    Mistake(
        "silu",
        "small",
        "the gate taken for a constant",
        "y = x s, so dx = dy s: true if s did not depend on x.",
        "Right at 0 and far to the right.",
        layers.silu_backward,
        "s + x * s * (1 - s)",
        "s",
    ),
    Mistake(
        "silu",
        "small",
        "1 + s for 1 - s",
        "A sign inside a bracket.",
        "The gradient grows with x, where it should come near 1.",
        layers.silu_backward,
        "x * s * (1 - s)",
        "x * s * (1 + s)",
    ),
]
