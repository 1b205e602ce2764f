"""Evidence on the linear map."""

from __future__ import annotations

from collections.abc import Iterator

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source


def linear_arguments(source: Source, lead: Lead, n: int, m: int, *, bias: bool = True) -> Bound:
    """Map n features to m."""
    args = (source.normal(*lead, n), source.normal(m, n), *((source.normal(m),) if bias else ()))
    return Bound(layers.linear_forward, layers.linear_backward, args)


LINEAR_VARIANTS: Variants = {"": {}, "no bias": {"bias": False}}


def linear_cases(rng: Generator) -> Iterator[Case]:
    """Map rows, with and without a bias."""
    x, weight, bias = rng.normal(size=(2, 3, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    yield Case("bias", layers.linear_forward, layers.linear_backward, (x, weight, bias))
    yield Case("no bias", layers.linear_forward, layers.linear_backward, (x, weight))


_backward = layers.linear_backward


LINEAR_MISTAKES = [
    Mistake(
        "linear",
        "bias",
        "the weight's gradient computed as (I, O), then reshaped to (O, I)",
        "A reshape fits any array of as many elements; only a transpose moves them rightly.",
        "The right numbers in the wrong places.",
        _backward,
        "dy.T @ rows",
        "(rows.T @ dy).reshape(weight.shape)",
        cause="transposed",
    ),
    Mistake(
        "linear",
        "bias",
        "dx computed as (I, M), then reshaped",
        "As above: the sizes agree, the order does not.",
        "The sum over all elements is right, each element is not.",
        _backward,
        "dx = dy @ weight ",
        "dx = (weight.T @ dy.T).copy() ",
        cause="transposed",
    ),
    Mistake(
        "linear",
        "bias",
        "the bias averaged over the rows",
        "mean(axis=0) and sum(axis=0) have one shape.",
        "Off by exactly the number of rows, and by another number for another batch.",
        _backward,
        "column_sum(dy)",
        "dy.mean(axis=0)",
        cause="scale",
    ),
    Mistake(
        "linear",
        "bias",
        "the bias sees the last row only",
        "dy[-1] has the shape of the bias.",
        "Right for a batch of one.",
        _backward,
        "column_sum(dy)",
        "dy[-1].copy()",
    ),
    Mistake(
        "linear",
        "bias",
        "the weight's gradient divided by the batch",
        "The loss is a mean already; dividing here as well only slows learning down.",
        "Off by exactly the number of rows.",
        _backward,
        "dy.T @ rows",
        "dy.T @ rows / len(rows)",
        cause="scale",
    ),
    Mistake(
        "linear",
        "bias",
        "the step's minus sign put into the gradient",
        "p -= lr * g has a minus; with one more here the loss rises, or p += hides it.",
        "Every ratio is -1.",
        _backward,
        "dy.T @ rows",
        "-(dy.T @ rows)",
        cause="sign",
    ),
    Mistake(
        "linear",
        "bias",
        "weight decay inside the layer",
        "It trains, and regularizes; but it is the gradient of another loss.",
        "The weight itself is a part of the error; and the backward is not linear in dy.",
        _backward,
        "dy.T @ rows",
        "dy.T @ rows + 0.01 * weight",
        cause="argument_added",
    ),
    Mistake(
        "linear",
        "bias",
        "dy centred in place before use",
        "as_rows is a view: what is written to it is written to the caller's dy.",
        "dy is not what it was after the call; whoever uses it next gets something else.",
        _backward,
        "dbias = (column_sum(dy)",
        "dy -= dy.mean(axis=0)\n    dbias = (column_sum(dy)",
        cause="mutated_dy",
    ),
    Mistake(
        "linear",
        "no bias",
        "the gradient added to a buffer that nobody clears",
        "The first step is right; every later one adds the gradients of all before.",
        "The second call returns twice the first.",
        _backward,
        "dweight = dy.T @ rows",
        'dweight = linear_backward.__dict__.setdefault("dweight", 0 * weight)\n'
        "    dweight += dy.T @ rows",
        cause="accumulated",
    ),
]
