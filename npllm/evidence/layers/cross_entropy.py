"""Evidence on the cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array


def cross_entropy_arguments(
    source: Source, lead: Lead, n: int, m: int, *, soft: bool = False, **options: Any
) -> Bound:
    """Classify into m classes, or aim at distributions over them; with options by class too."""
    if options:
        options["weight"] = source.uniform(m)
    targets = source.distribution(*lead, n, m) if soft else source.ids(m, (*lead, n))

    def forward(logits: Array, targets: Array = targets) -> tuple[Array, object]:
        return layers.cross_entropy_forward(logits, targets, **options)

    args = (source.normal(*lead, n, m), *((targets,) if soft else ()))
    return Bound(forward, layers.cross_entropy_backward, args)


CROSS_ENTROPY_VARIANTS: Variants = {
    "": {},
    "all": {"ignore_index": 0, "label_smoothing": 0.1},
    "rows": {"ignore_index": 0, "reduction": "none"},
    "soft": {"soft": True},
    "soft, all": {"soft": True, "label_smoothing": 0.1, "reduction": "none"},
}


def cross_entropy_cases(rng: Generator) -> Iterator[Case]:
    """Score ids and distributions with every option."""
    logits, weight = 2 * rng.normal(size=(2, 4, 5)), rng.random(5) + 0.5
    ids = np.array([[3, 0, 3, 1], [4, -100, 2, 3]])
    distribution = rng.dirichlet(np.ones(5), size=(2, 4))
    options: dict[str, dict[str, Any]] = {
        "mean": {},
        "sum": {"reduction": "sum"},
        "none": {"reduction": "none"},
        "class weights": {"weight": weight},
        "label smoothing": {"label_smoothing": 0.2},
        "weights and smoothing": {"weight": weight, "label_smoothing": 0.2},
    }
    for label, kwargs in options.items():
        forward = partial(layers.cross_entropy_forward, **kwargs)
        backward = layers.cross_entropy_backward
        sizes = {"the number of rows that count": 7.0, "the smoothing": 0.2}
        yield Case(f"ids, {label}", forward, backward, (logits, ids), sizes)
        yield Case(f"distribution, {label}", forward, backward, (logits, distribution), sizes)
    forward = partial(layers.cross_entropy_forward, ignore_index=3)
    yield Case("ids, another index ignored", forward, backward, (logits, np.maximum(ids, 0)))


_backward = layers.cross_entropy_backward


CROSS_ENTROPY_MISTAKES = [
    Mistake(
        "cross_entropy",
        "ids, mean",
        "the loss a mean, its derivative a sum",
        "Every textbook writes p - y; the 1 / N is left to the reader.",
        "Off by exactly the number of rows that count; a larger batch then takes larger steps.",
        _backward,
        "dy / divisor",
        "dy * 1",
        cause="scale",
        wild=True,
    ),
    Mistake(
        "cross_entropy",
        "ids, mean",
        "divided by the number of classes too",
        "np.mean over the whole array of logits, not over the rows.",
        "Off by exactly 1 / V.",
        _backward,
        "dy / divisor",
        "dy / divisor / log_p.shape[-1]",
        cause="scale",
    ),
    Mistake(
        "cross_entropy",
        "ids, mean",
        "ignored rows counted in the mean",
        "Without padding the two counts are one.",
        "Off by the share of rows that count.",
        _backward,
        "dy / divisor",
        "dy / log_p[..., 0].size",
        cause="scale",
    ),
    Mistake(
        "cross_entropy",
        "ids, sum",
        "y - p for p - y",
        "A sign changes no shape, and -= for += would hide it.",
        "Every ratio is -1.",
        _backward,
        "dlogits *= dloss",
        "dlogits *= -dloss",
        cause="sign",
    ),
    Mistake(
        "cross_entropy",
        "ids, sum",
        "the targets shifted by one",
        "An id is an id: any of them can be subtracted from.",
        "Right at all but two classes of each row.",
        _backward,
        "np.put_along_axis(dlogits, ids[..., None], at_target",
        "np.put_along_axis(dlogits, (ids[..., None] + 1) % dlogits.shape[-1], at_target",
    ),
    Mistake(
        "cross_entropy",
        "ids, none",
        "the losses' own gradients averaged",
        "If all rows weigh the same, as in every training loop, nothing differs.",
        "Each row is off by its own factor.",
        _backward,
        "np.broadcast_to(dy / divisor, rows)",
        "np.broadcast_to(dy.mean() / divisor, rows)",
        cause="factor",
    ),
    Mistake(
        "cross_entropy",
        "ids, class weights",
        "the weight of the class forgotten with p, and kept at the target",
        "A weight of one, the default, is no factor.",
        "A row's gradient no longer sums to zero; ignored rows, of weight zero, are trained.",
        _backward,
        "dlogits *= row_weight[..., None]",
        "pass",
    ),
    Mistake(
        "cross_entropy",
        "ids, class weights",
        "the weight of the class applied twice",
        "As above.",
        "Each row is off by the weight of its class.",
        _backward,
        "dlogits *= dloss",
        "dlogits *= dloss * (row_weight[..., None] if q is None else 1)",
        cause="factor",
    ),
    Mistake(
        "cross_entropy",
        "ids, mean",
        "ignored rows trained",
        "They hold some class, 0 here, so there is a gradient to take.",
        "A row that the loss does not see has a gradient.",
        _backward,
        "dlogits *= row_weight[..., None]",
        "dlogits *= np.ones_like(row_weight)[..., None]",
        cause="not_zero",
    ),
    Mistake(
        "cross_entropy",
        "distribution, class weights",
        "p - y although the weighted y does not sum to one",
        "p - y is p times the sum of y, minus y; the sum is usually one.",
        "Each row is off by a multiple of p.",
        _backward,
        "dlogits *= q.sum(axis=-1, keepdims=True)",
        "pass",
    ),
    Mistake(
        "cross_entropy",
        "ids, label smoothing",
        "the smoothing forgotten on the way back",
        "One-hot and smoothed targets have one shape.",
        "Off by one number at every class but the target, the same in all rows that count.",
        _backward,
        "dlogits -= q",
        "dlogits -= (q == q.max(axis=-1, keepdims=True)) * q.sum(axis=-1, keepdims=True)",
    ),
    Mistake(
        "cross_entropy",
        "distribution, label smoothing",
        "the smoothing forgotten in the gradient of the targets",
        "Without smoothing the factor is one.",
        "Off by exactly 1 / (1 - s).",
        _backward,
        "(-factor * dloss)",
        "(-1 * dloss)",
        cause="scale",
    ),
    Mistake(
        "cross_entropy",
        "distribution, sum",
        "p in the gradient of the targets where log p belongs",
        "Both have one shape.",
        "It is negative where it must be positive.",
        _backward,
        "log_p * (-factor * dloss)",
        "np.exp(log_p) * (-factor * dloss)",
    ),
    Mistake(
        "cross_entropy",
        "distribution, sum",
        "no gradient for the targets",
        "Targets are data: who would ask?",
        "Distillation asks: the targets are another model's output.",
        _backward,
        "log_p * (-factor * dloss)",
        "np.zeros_like(log_p)",
        cause="zero",
    ),
]
