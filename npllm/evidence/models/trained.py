"""The loss of a model over its parameters: what the cases of all models are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from npllm.evidence.case import (
    AT_ONCE,
    Batch,
    Case,
    Differentiable,
    Generator,
    LossCache,
    State,
    learned,
    loss_backward,
    summed_loss,
)
from npllm.layers.arrays import Array

Inputs = tuple[Array, ...]


def text_batch(rng: Generator) -> Batch:
    """Return ids (3, 5) of seven words, and as many targets, one of which does not count."""
    ids, targets = rng.integers(7, size=(3, 5)), rng.integers(7, size=(3, 5))
    targets[1, 2] = -100
    return Batch((ids,), targets, seed=5)


def labelled_batch(rng: Generator) -> Batch:
    """Return ids (3, 4) of five words, their lengths, and a label of three for each."""
    return Batch((rng.integers(5, size=(3, 4)), np.array([4, 1, 3])), rng.permutation(3), seed=5)


def paired_batch(rng: Generator) -> Batch:
    """Return ids (3, 4) of five words, their lengths, translations into six, and their ends."""
    mark = 6
    first, second, third, fourth, fifth = rng.integers(mark, size=5)
    ids = [[mark, first, second], [mark, third, mark], [mark, fourth, fifth]]
    targets = [[first, second, mark], [third, mark, -100], [fourth, fifth, mark]]
    source = rng.integers(5, size=(3, 4)), np.array([4, 1, 3])
    return Batch((*source, np.array(ids)), np.array(targets), seed=5)


def trained(
    label: str,
    build: Callable[..., Differentiable],
    batch: Batch,
    rng: Generator,
    *,
    state: State | None = None,
    only: Callable[[str], bool] = lambda _: True,
) -> Iterator[Case]:
    """Yield a model's loss over its parameters, both ways that its gradients are computed.

    Args:
        label: of the first case; that of the other says that it is at once.
        build: returns the model, given seed and dtype.
        batch: what it learns from.
        rng: draws the parameters.
        state: in which it begins, where it carries one.
        only: which parameters, by name, are arguments; the others are constants.
    """
    shapes = build(seed=None, dtype=np.float64).parameters.shapes
    drawn = {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}
    constants: Mapping[str, Array] = {n: a for n, a in drawn.items() if not only(n)}

    def forward(inputs: Inputs, parameters: dict[str, Array]) -> tuple[Array, LossCache]:
        (dtype,) = {a.dtype for a in parameters.values()}
        model = build(seed=None, dtype=dtype)
        model.parameters.load({**constants, **parameters})
        return summed_loss(model, batch._replace(inputs=inputs), state)

    def backward(dloss: Array, cache: LossCache) -> dict[str, Array]:
        return {name: d for name, d in loss_backward(dloss, cache).items() if only(name)}

    def at_once(dloss: Array, cache: LossCache) -> dict[str, Array]:
        gradients = learned(cache.model, batch, state).gradients
        return {name: dloss * gradients[name] for name in gradients.shapes if only(name)}

    args = (batch.inputs, {name: a for name, a in drawn.items() if only(name)})
    yield Case(label, forward, backward, args)
    yield Case(label + AT_ONCE, forward, at_once, args)
