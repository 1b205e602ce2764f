"""What evidence is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from npllm.checking.pair import Backward, Forward
from npllm.checking.trees import leaves
from npllm.evidence.source import Source
from npllm.layers import cross_entropy_backward, cross_entropy_forward
from npllm.layers.arrays import Array
from npllm.layers.cross_entropy import CrossEntropyCache
from npllm.models import LossAndGradients, Parameters, Trainable

Generator = np.random.Generator
Lead = tuple[int, ...]  # leading axes
State: TypeAlias = "tuple[Array, ...]"  # of a model that carries one


class Case(NamedTuple):
    """One configuration of a layer or model, for :func:`npllm.checking.gradcheck`.

    Sizes are odd and differ from one another, no parameter is trivial, ids repeat, and a layer that
    draws at random draws the same mask each time.

    Attributes:
        label: what distinguishes it.
        forward: ``forward(*args) -> (y, cache)``.
        backward: ``backward(dy, cache)`` -> gradients.
        args: in float64, ids aside.
        sizes: numbers that a wrong factor may be, by name, for the diagnosis.
    """

    label: str
    forward: Forward
    backward: Backward
    args: tuple[object, ...]
    sizes: Mapping[str, float] | None = None


Cases = Callable[[Generator], Iterator[Case]]


class Bound(NamedTuple):
    """A layer with its options bound, and arguments of any size and dtype.

    Attributes:
        forward: ``forward(*args) -> (y, cache)``.
        backward: ``backward(dy, cache)`` -> gradients.
        args: the floating ones.
    """

    forward: Forward
    backward: Backward
    args: tuple[object, ...]

    def run(self, seed: int = 1) -> tuple[object, object, tuple[object, ...]]:
        """Return y, a random cotangent like it, and the gradient of each argument."""
        y, cache = self.forward(*self.args)
        _, first = next(leaves(self.args))
        dy = Source(seed, first.dtype).like(y)
        gradients = self.backward(dy, cache)
        return y, dy, gradients if isinstance(gradients, tuple) else (gradients,)


Build = Callable[..., Bound]  # of a source, leading axes, two sizes n and m, and options by name
Variants = Mapping[str, Mapping[str, object]]  # a label, and options of a Build


def of_one_array(forward: Forward, backward: Backward) -> Build:
    """Return what builds the arguments of a layer that takes one array, (*lead, n, m)."""

    def build(source: Source, lead: Lead, n: int, m: int, **options: object) -> Bound:
        def bound(x: Array) -> tuple[object, object]:
            return forward(x, **options)

        return Bound(bound, backward, (source.normal(*lead, n, m),))

    return build


# ends the label of a case whose forward is another's: that of the label before it
AT_ONCE = ", loss and gradients at once"


class Configuration(NamedTuple):
    """A model's sizes and options, and how its batches look, for the certificate.

    Attributes:
        label: what distinguishes it.
        config: arguments of the model.
        batch_size: B.
        steps: T.
        ignored: the share of targets that do not count; a classifier's all do.
        lengths: whether rows end early, one of them as early as there can be.
        quick: whether it is part of the quick certificate.
    """

    label: str
    config: Mapping[str, Any]
    batch_size: int = 3
    steps: int = 5
    ignored: float = 0.0
    lengths: bool = False
    quick: bool = False


class Batch(NamedTuple):
    """What a model sees at a time.

    Attributes:
        inputs: of the model's forward, the batch first: ids (B, T) of a language model; ids and
            lengths (B,) of a classifier; source (B, S), its lengths, and ids of a translator.
        targets: (B, T), -100 where none counts; (B,) of a classifier.
        seed: of the dropout masks.
    """

    inputs: tuple[Array, ...]
    targets: Array
    seed: int


class Differentiable(Trainable, Protocol):
    """A model that shows its forward and its backward."""

    @property
    def forward(self) -> Callable[..., tuple[Array, object]]:
        """Returns the logits and the backward's cache, given inputs, a state if any, and rng."""

    @property
    def backward(self) -> Callable[..., Parameters]:
        """Returns the gradients of all parameters, given those of the logits and the cache."""


class LossCache(NamedTuple):
    """What the backward of a model's loss needs: the model, and the caches of its two forwards."""

    model: Differentiable
    forward: object
    loss: CrossEntropyCache


def summed_loss(
    model: Differentiable, batch: Batch, state: State | None = None
) -> tuple[Array, LossCache]:
    """Return the loss that a model learns from, by its forward alone.

    Args:
        model: of any dtype.
        batch: its dropout masks are drawn from its seed.
        state: in which a model begins that carries one; None of another.

    Returns:
        The cross-entropy summed over the targets, smoothed as the model has it, and the cache of
        :func:`loss_backward`.
    """
    dtype = model.parameters.vector.dtype
    carried = () if state is None else (tuple(a.astype(dtype) for a in state),)
    rng = np.random.default_rng(batch.seed)
    logits, cache = model.forward(*batch.inputs, *carried, rng=rng)
    smoothing = model.config.get("label_smoothing", 0.0)
    loss, loss_cache = cross_entropy_forward(
        logits, batch.targets, label_smoothing=smoothing, reduction="sum"
    )
    return loss, LossCache(model, cache, loss_cache)


def loss_backward(dloss: Array, cache: LossCache) -> dict[str, Array]:
    """Return the gradients of a model's loss by the names of its parameters."""
    gradients = cache.model.backward(cross_entropy_backward(dloss, cache.loss), cache.forward)
    return {name: gradients[name] for name in gradients.shapes}


def learned(model: Differentiable, batch: Batch, state: State | None = None) -> LossAndGradients:
    """Return what a model learns from a batch: its loss and gradients at once."""
    carried = () if state is None else (state,)
    rng = np.random.default_rng(batch.seed)
    return model.loss_and_gradients(*batch.inputs, batch.targets, *carried, rng=rng)
