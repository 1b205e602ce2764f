"""Evidence on softmax, its logarithm and the logarithm of its denominator."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from npllm import layers
from npllm.checking.pair import Backward, Forward
from npllm.evidence.case import Case, Generator, Variants, of_one_array
from npllm.evidence.mistake import Mistake


def _along_axis(forward: Forward, backward: Backward, rng: Generator) -> Iterator[Case]:
    """Apply a function along the last axis and along the first."""
    for axis in (-1, 0):
        x = 2 * rng.normal(size=(4, 3, 5))
        yield Case(f"axis {axis}", partial(forward, axis=axis), backward, (x,))


softmax_arguments = of_one_array(layers.softmax_forward, layers.softmax_backward)
SOFTMAX_VARIANTS: Variants = {"": {}, "axis -2": {"axis": -2}}
softmax_cases = partial(_along_axis, layers.softmax_forward, layers.softmax_backward)

log_softmax_arguments = of_one_array(layers.log_softmax_forward, layers.log_softmax_backward)
log_softmax_cases = partial(_along_axis, layers.log_softmax_forward, layers.log_softmax_backward)

logsumexp_arguments = of_one_array(layers.logsumexp_forward, layers.logsumexp_backward)
logsumexp_cases = partial(_along_axis, layers.logsumexp_forward, layers.logsumexp_backward)
_softmax = layers.softmax_backward
_log_softmax = layers.log_softmax_backward


SOFTMAX_MISTAKES = [
    Mistake(
        "softmax",
        "axis -1",
        "the diagonal of the Jacobian only",
        "y (1 - y) is the sigmoid's derivative, and right for two classes of which one is fixed.",
        "A gradient along a row must sum to zero: adding to all scores changes nothing.",
        _softmax,
        "dx = dy - row_sum(y, dy, axis)",
        "dx = dy * (1 - y)",
    ),
    Mistake(
        "softmax",
        "axis -1",
        "the coupling term dropped",
        "y dy has the shape of dx.",
        "Off by a multiple of y, one for each row.",
        _softmax,
        "dx = dy - row_sum(y, dy, axis)",
        "dx = dy * 1",
        cause="mean_term",
    ),
    Mistake(
        "softmax",
        "axis -1",
        "a mean where a sum belongs",
        "keepdims gives both one shape.",
        "Off by a multiple of y, one for each row.",
        _softmax,
        "row_sum(y, dy, axis)",
        "row_sum(y, dy, axis) / y.shape[axis]",
        cause="mean_term",
    ),
    Mistake(
        "softmax",
        "axis -1",
        "the coupling sums dy, not y dy",
        "Both sums have one shape, and for a uniform y they are proportional.",
        "Off by a multiple of y, one for each row.",
        _softmax,
        "row_sum(y, dy, axis)",
        "row_sum(dy, axis=axis)",
        cause="mean_term",
    ),
    Mistake(
        "softmax",
        "axis -1",
        "y forgotten in front of the bracket",
        "The bracket has the shape of dx.",
        "A factor y is missing at every element.",
        _softmax,
        "dx *= y",
        "pass",
        cause="factor",
    ),
    Mistake(
        "softmax",
        "axis 0",
        "the sum always over the last axis",
        "keepdims broadcasts over either axis.",
        "Right if the softmax runs along the last axis, as it does in most tests.",
        _softmax,
        "dy, axis)",
        "dy)",
    ),
    Mistake(
        "softmax",
        "axis -1",
        "the scores cached instead of the probabilities",
        "Both have one shape.",
        "The gradient depends on a number added to all scores; the function does not.",
        layers.softmax_forward,
        "SoftmaxCache(y, axis)",
        "SoftmaxCache(x, axis)",
    ),
]


LOG_SOFTMAX_MISTAKES = [
    Mistake(
        "log_softmax",
        "axis -1",
        "the term p sum(dy) dropped",
        "The derivative of x - const is 1, and the logarithm of the sum is no constant.",
        "The gradient is the incoming gradient.",
        _log_softmax,
        "dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)",
        "dy * 1",
        cause="returned_dy",
    ),
    Mistake(
        "log_softmax",
        "axis -1",
        "log p in place of p",
        "y is cached, and p = exp(y) needs one more call.",
        "Off by a multiple of y and of p.",
        _log_softmax,
        "np.exp(y)",
        "y",
    ),
    Mistake(
        "log_softmax",
        "axis -1",
        "a mean where a sum belongs",
        "keepdims gives both one shape.",
        "The gradient along a row does not sum to zero.",
        _log_softmax,
        "dy.sum(",
        "dy.mean(",
    ),
    Mistake(
        "log_softmax",
        "axis -1",
        "plus for minus",
        "A sign changes no shape.",
        "The gradient along a row does not sum to zero.",
        _log_softmax,
        "dy - np.exp",
        "dy + np.exp",
    ),
    Mistake(
        "log_softmax",
        "axis 0",
        "the sum always over the last axis",
        "keepdims broadcasts over either axis.",
        "Right along the last axis only.",
        _log_softmax,
        "axis=axis",
        "axis=-1",
    ),
]


LOGSUMEXP_MISTAKES = [
    Mistake(
        "logsumexp",
        "axis -1",
        "the probabilities not normalized",
        "exp(x - max) has the shape of p.",
        "Each row is off by its own factor, the sum of exp(x - max).",
        layers.logsumexp_forward,
        "p /= total",
        "pass",
        cause="factor",
    ),
    Mistake(
        "logsumexp",
        "axis -1",
        "the gradient handed to every score alike",
        "Broadcasting dy over the row is what a sum would need.",
        "A factor p is missing at every element.",
        layers.logsumexp_backward,
        "p * np",
        "np.ones_like(p) * np",
    ),
    Mistake(
        "logsumexp",
        "axis -1",
        "the gradient given to the largest score only",
        "logsumexp is a soft maximum, and this is the derivative of the hard one.",
        "Zero at all but one score of each row.",
        layers.logsumexp_backward,
        "p * np",
        "(p == p.max(axis=axis, keepdims=True)) * np",
    ),
    Mistake(
        "logsumexp",
        "axis -1",
        "dy summed over the rows",
        "A scalar broadcasts to anything.",
        "Each row is off by its own factor; right for a single row.",
        layers.logsumexp_backward,
        "np.expand_dims(dy, axis)",
        "dy.sum()",
        cause="factor",
    ),
    Mistake(
        "logsumexp",
        "axis -1",
        "1 - p for p",
        "Both lie between 0 and 1.",
        "A row must sum to dy, and sums to V - 1 times it.",
        layers.logsumexp_backward,
        "p * np",
        "(1 - p) * np",
    ),
]
