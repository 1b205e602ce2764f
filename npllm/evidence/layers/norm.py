"""Evidence on layer norm and RMS norm."""

from __future__ import annotations

from collections.abc import Iterator

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers import norm


def layer_norm_arguments(
    source: Source, lead: Lead, n: int, m: int, *, plain: bool = False
) -> Bound:
    """Normalize rows of width m."""
    args = (source.normal(*lead, n, m), *(() if plain else (source.normal(m), source.normal(m))))
    return Bound(layers.layer_norm_forward, layers.layer_norm_backward, args)


LAYER_NORM_VARIANTS: Variants = {"": {}, "plain": {"plain": True}}


def layer_norm_cases(rng: Generator) -> Iterator[Case]:
    """Normalize rows, with and without a gain and a bias."""
    x, weight, bias = rng.normal(size=(2, 3, 7)), rng.normal(size=7), rng.normal(size=7)
    pair = layers.layer_norm_forward, layers.layer_norm_backward
    yield Case("gain and bias", *pair, (x, weight, bias))
    yield Case("gain", *pair, (x, weight))
    yield Case("plain", *pair, (x,))
    large = lambda x, w, b: layers.layer_norm_forward(x, w, b, eps=0.5)  # noqa: E731
    yield Case("large epsilon", large, layers.layer_norm_backward, (x, weight, bias))


_layer = norm._layer_norm_backward


LAYER_NORM_MISTAKES = [
    Mistake(
        "layer_norm",
        "gain and bias",
        "the gain multiplied in after the two means instead of before",
        "At a gain of ones, which is where it starts and where tests leave it, it does not matter.",
        "The gain's and the bias's gradients are right, dx is not.",
        _layer,
        "dnormal = dy if weight is None else dy * weight",
        "dnormal, scale = dy, scale if weight is None else scale * weight",
        wild=True,
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "the gain lost on the way back",
        "dy has the shape of dy times the gain; at a gain of ones they are equal.",
        "dx would be the same for every gain.",
        _layer,
        "dnormal = dy if weight is None else dy * weight",
        "dnormal = dy",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "the mean's path dropped",
        "Only x - mean is looked at, as if the mean did not move with x.",
        "A row of dx must sum to zero: added to all of x, a constant changes nothing.",
        _layer,
        "dx = dnormal - row_mean(dnormal)",
        "dx = dnormal.copy()",
        cause="mean_term",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "the variance's path dropped",
        "The standard deviation is taken for a constant; near the mean the term is small.",
        "dx must have nothing along x - mean: stretching a row changes nothing but for eps.",
        _layer,
        "dx -= normal * row_mean(dnormal, normal)",
        "pass",
        cause="mean_term",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "E - 1 for E in the variance's path",
        "It is the other variance, torch.std's default; with 768 features it is off by 0.1%.",
        "The error lies along x - mean, row by row, and shrinks as rows grow.",
        _layer,
        "row_mean(dnormal, normal)",
        "row_mean(dnormal, normal) * normal.shape[-1] / (normal.shape[-1] - 1)",
        cause="mean_term",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "the backward returns what came in",
        "dx has dy's shape, and the residual path beside the norm still trains.",
        "The gradient is the incoming gradient.",
        _layer,
        "dx *= scale",
        "dx = dy.copy()",
        cause="returned_dy",
        wild=True,
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "multiplied by the standard deviation instead of divided",
        "scale is its inverse, and the name does not say so.",
        "Right for rows of variance one; each other row is off by its variance.",
        _layer,
        "dx *= scale",
        "dx /= scale",
        cause="factor",
    ),
    Mistake(
        "layer_norm",
        "plain",
        "the mean taken off in place",
        "It saves an array, and the numbers are right. With a gain dnormal is a product.",
        "Without one it is dy, the caller's: a residual branch that shares it is changed too.",
        _layer,
        "dx = dnormal - row_mean(dnormal)",
        "dx = dnormal\n    dx -= row_mean(dnormal)",
        cause="mutated_dy",
    ),
    Mistake(
        "layer_norm",
        "large epsilon",
        "eps forgotten on the way back",
        "At 1e-5, beside a variance of one, it is the sixth digit.",
        "Each row of dx is off by a factor of its own: test with an eps that shows.",
        _layer,
        "dx *= scale",
        "dx *= 1 / np.sqrt(row_mean(x - mean, x - mean))",
        cause="factor",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "x - mean kept where the normal rows are expected",
        "Both have one shape, and for rows of variance one they are equal.",
        "The gain's gradient is wrong too; the bias's alone is right.",
        _layer,
        "normal *= scale",
        "pass",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "the gain's gradient taken over rows of M numbers instead of E",
        "(M, E) reshaped to (E, M) holds as many numbers; only a transpose moves them rightly.",
        "Features and rows are mixed; right for a single row.",
        _layer,
        "column_sum(dy * normal)",
        "(dy * normal).reshape(normal.shape[-1], -1).sum(axis=1)",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "the gain trained by the first sequence only",
        "Summed over the steps, and [0] has the shape that the sum over the batch would have.",
        "Right for a batch of one.",
        _layer,
        "column_sum(dy * normal)",
        "(dy * normal)[0].sum(axis=0)",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "the gain's gradient averaged over the rows",
        "mean(axis=0) and sum(axis=0) have one shape.",
        "Off by exactly B T.",
        _layer,
        "column_sum(dy * normal)",
        "column_sum(dy * normal) * (dy.shape[-1] / dy.size)",
        cause="scale",
    ),
    Mistake(
        "layer_norm",
        "gain and bias",
        "the bias not trained",
        "The zeros it starts from serve nearly as well.",
        "Zero where it must not be.",
        _layer,
        "column_sum(dy),",
        "np.zeros_like(dy[0, 0]),",
        cause="zero",
    ),
]


def rms_norm_arguments(source: Source, lead: Lead, n: int, m: int, *, plain: bool = False) -> Bound:
    """Normalize rows of width m, without a shift."""
    args = (source.normal(*lead, n, m), *(() if plain else (source.normal(m),)))
    return Bound(layers.rms_norm_forward, layers.rms_norm_backward, args)


RMS_NORM_VARIANTS: Variants = {"": {}, "plain": {"plain": True}}


def rms_norm_cases(rng: Generator) -> Iterator[Case]:
    """Normalize rows, with and without a gain."""
    x, weight = rng.normal(size=(2, 3, 7)), rng.normal(size=7)
    pair = layers.rms_norm_forward, layers.rms_norm_backward
    yield Case("gain", *pair, (x, weight))
    yield Case("plain", *pair, (x,))
    large = lambda x, w: layers.rms_norm_forward(x, w, eps=0.5)  # noqa: E731
    yield Case("large epsilon", large, layers.rms_norm_backward, (x, weight))


_rms = norm._rms_norm_backward


RMS_NORM_MISTAKES = [
    Mistake(
        "rms_norm",
        "gain",
        "the mean square taken for a constant",
        "y = x times a number, so dx = dy times it: true if it did not depend on x.",
        "dx must have nothing along x: stretching a row changes nothing but for eps.",
        _rms,
        "dnormal - normal * row_mean(dnormal, normal)",
        "dnormal * 1",
        cause="mean_term",
    ),
    Mistake(
        "rms_norm",
        "gain",
        "the scale squared",
        "Once in the cached rows, once more at the end, and the third time by mistake.",
        "Each row is off by a factor of its own, the root of its mean square.",
        _rms,
        "dx *= scale",
        "dx *= scale * scale",
        cause="factor",
    ),
    Mistake(
        "rms_norm",
        "gain",
        "layer norm's shift left in",
        "The backward was copied from layer norm, which has one more mean.",
        "Off by a constant a row: the forward takes no mean off, so nothing of it comes back.",
        _rms,
        "dx = dnormal - normal",
        "dx = dnormal - row_mean(dnormal) - normal",
        cause="mean_term",
    ),
    Mistake(
        "rms_norm",
        "gain",
        "a sum for the mean in the coupling",
        "keepdims gives both one shape.",
        "The error lies along x, and grows with the width of the rows.",
        _rms,
        "row_mean(dnormal, normal)",
        "row_mean(dnormal, normal) * normal.shape[-1]",
        cause="mean_term",
    ),
    Mistake(
        "rms_norm",
        "gain",
        "the coupling made of dy without the gain",
        "At a gain of ones the two are equal.",
        "Off by a multiple of x, row by row.",
        _rms,
        "row_mean(dnormal, normal)",
        "row_mean(dy, normal)",
        cause="mean_term",
    ),
    Mistake(
        "rms_norm",
        "gain",
        "x kept where the normal rows are expected",
        "Both have one shape; for rows of mean square one they are equal.",
        "The gain's gradient is wrong too.",
        _rms,
        "normal = x * scale",
        "normal = x * 1",
    ),
    Mistake(
        "rms_norm",
        "large epsilon",
        "eps forgotten on the way back",
        "At 1e-6, beside a mean square of one, it is the seventh digit.",
        "Each row of dx is off by a factor of its own; the gain's gradient is right.",
        _rms,
        "dx *= scale",
        "dx *= 1 / np.sqrt(row_mean(x, x))",
        cause="factor",
    ),
    Mistake(
        "rms_norm",
        "gain",
        "the gain trained by the first row only",
        "A row has the shape that the sum would have.",
        "Right for a single row.",
        _rms,
        "column_sum(dy * normal)",
        "(dy * normal).reshape(-1, dy.shape[-1])[0]",
    ),
]
