"""The certificate: every parameter of every model, proven when it is asked for.

A model takes two steps of training in a row, on different batches, the second from where the first
left its parameters and its state: what a backward keeps from the step before would show. After each
step the gradient of every parameter, element by element, is held against

* the complex step through a fresh model of the same parameters, which runs forwards only;
* torch in float64, where it is installed: the same equations written in its layers; the loss and
  the final state too;
* its own derivative, which must be symmetric, or it is no gradient.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from npllm.checking import Comparison, hessian_symmetry
from npllm.evidence import SUBJECTS, torch_models
from npllm.evidence.batches import draw_batch
from npllm.evidence.case import (
    Batch,
    Configuration,
    Differentiable,
    LossCache,
    State,
    learned,
    loss_backward,
    summed_loss,
)
from npllm.evidence.torch_models import Given
from npllm.layers.arrays import Array
from npllm.models import KINDS

TOLERANCE = 1e-12  # relative to the largest gradient of the parameter
STEPS = 2
STEP = 1e-20  # of the complex step
LEARNING_RATE = 0.1

Loss = Callable[[dict[str, Array]], tuple[Array, LossCache]]  # of the parameters


@dataclass(frozen=True)
class Row:
    """What was found for one parameter.

    Attributes:
        model: its name on the command line.
        configuration: its label.
        parameter: its name.
        elements: how many numbers it holds; each is checked after each of the steps.
        complex_step: the largest error, relative to the parameter's largest gradient.
        complex_ulps: the same in units of the last place of that gradient.
        torch: as ``complex_step``, against torch; None without it.
        torch_ulps: as ``complex_ulps``.
    """

    model: str
    configuration: str
    parameter: str
    elements: int
    complex_step: float
    complex_ulps: float
    torch: float | None
    torch_ulps: float | None

    @property
    def passed(self) -> bool:
        """Whether both errors are numbers within 1e-12."""
        return self.complex_step <= TOLERANCE and (self.torch is None or self.torch <= TOLERANCE)


@dataclass(frozen=True)
class Section:
    """One configuration of one model.

    Attributes:
        rows: one a parameter.
        results: the largest error of the loss and the final state against torch, relative to the
            largest number of each; None without it.
        asymmetry: of the derivative of its gradients.
        symmetric: whether that is rounding.
    """

    model: str
    label: str
    rows: tuple[Row, ...]
    results: float | None
    asymmetry: float
    symmetric: bool

    @property
    def passed(self) -> bool:
        """Whether the rows and the results passed, and the gradient's derivative is symmetric."""
        same = self.results is None or self.results <= TOLERANCE
        return same and self.symmetric and all(row.passed for row in self.rows)


CONFIGURATIONS: dict[str, tuple[Configuration, ...]] = {
    s.home.rpartition(".")[2]: s.find("CONFIGURATIONS")
    for s in SUBJECTS
    if s.find("CONFIGURATIONS")
}


def has_torch() -> bool:
    """Whether torch is installed."""
    return importlib.util.find_spec("torch") is not None


def certify(name: str, *, quick: bool = False, seed: int = 0) -> Iterator[Section]:
    """Prove a model, configuration by configuration.

    Args:
        name: of the model, a key of :data:`npllm.models.KINDS`.
        quick: the small configuration alone.
        seed: draws the parameters and the batches.

    >>> (section,) = certify("lstm", quick=True)
    >>> section.passed, max(row.complex_step for row in section.rows) < 1e-13
    (True, True)
    """
    for number, configuration in enumerate(CONFIGURATIONS[name]):
        if configuration.quick or not quick:
            yield _section(name, configuration, np.random.default_rng((seed, number)))


def _section(name: str, configuration: Configuration, rng: np.random.Generator) -> Section:
    model: Differentiable = KINDS[name](**configuration.config, seed=None, dtype=np.float64)
    model.parameters.vector[...] = rng.normal(size=model.parameters.vector.size) / 2
    state = model.initial_state(configuration.batch_size)
    if state is not None:
        state = tuple(rng.normal(size=a.shape) for a in state)
    errors: dict[str, list[tuple[float, float]]] = {}
    twins: dict[str, list[tuple[float, float]]] = {}
    results: list[float] = []
    asymmetries: list[Comparison] = []
    for _ in range(STEPS):
        batch = draw_batch(KINDS[name], configuration, rng)
        result = learned(model, batch, state)
        arrays = {n: model.parameters[n].copy() for n in model.parameters.shapes}
        loss: Loss = partial(_loss, name, configuration, batch, state)
        for parameter, numeric in _complex_step(loss, arrays):
            gradient = result.gradients[parameter]
            errors.setdefault(parameter, []).append(_error(gradient, numeric))
        if has_torch():
            twin = getattr(torch_models, name)(Given(configuration.config, arrays, batch, state))
            for parameter, expected in twin.gradients.items():
                gradient = result.gradients[parameter]
                twins.setdefault(parameter, []).append(_error(gradient, expected))
            pairs = [(np.array(result.loss), np.array(twin.loss))]
            pairs += zip(result.state or (), twin.state, strict=True)
            results += [_error(ours, theirs)[0] for ours, theirs in pairs]
        asymmetries.append(hessian_symmetry(loss, loss_backward, arrays, dy=np.array(1.0)))
        if not np.isfinite(result.gradients.vector).all():
            break  # it has failed, and there is nowhere to step to
        model.parameters.vector -= LEARNING_RATE / max(result.tokens, 1) * result.gradients.vector
        state = result.state
    rows = []
    for parameter, found in errors.items():
        theirs = twins.get(parameter)
        rows.append(
            Row(
                name,
                configuration.label,
                parameter,
                model.parameters[parameter].size,
                *_worst(found),
                *((None, None) if theirs is None else _worst(theirs)),
            )
        )
    asymmetry = float(np.max([c.error for c in asymmetries]))
    symmetric = all(c.passed for c in asymmetries)
    worst = float(np.max(results)) if results else None  # NaN counts as the largest
    return Section(name, configuration.label, tuple(rows), worst, asymmetry, symmetric)


def _loss(
    name: str,
    configuration: Configuration,
    batch: Batch,
    state: State | None,
    parameters: dict[str, Array],
) -> tuple[Array, LossCache]:
    """Return the loss of a fresh model in the dtype of its parameters, and the backward's cache."""
    (dtype,) = {a.dtype for a in parameters.values()}
    model: Differentiable = KINDS[name](**configuration.config, seed=None, dtype=dtype)
    model.parameters.load(parameters)
    return summed_loss(model, batch, state)


def _complex_step(loss: Loss, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    moved = {n: a.astype(np.complex128) for n, a in arrays.items()}
    for parameter, x in moved.items():
        numeric = np.empty(x.shape)
        for index in np.ndindex(x.shape):
            x[index] += 1j * STEP
            numeric[index] = loss(moved)[0].imag / STEP
            x[index] = x[index].real
        yield parameter, numeric


def _error(analytic: Array, expected: Array) -> tuple[float, float]:
    """Return the largest difference relative to the largest number, and in its last places."""
    largest = max(float(np.abs(analytic).max()), float(np.abs(expected).max()))
    difference = float(np.abs(analytic - expected).max())
    if not np.isfinite(difference):
        return np.nan, np.nan
    if largest == 0:
        return difference, 0.0
    return difference / largest, difference / float(np.spacing(largest))


def _worst(errors: list[tuple[float, float]]) -> tuple[float, float]:
    relative, ulps = np.max(errors, axis=0)  # NaN counts as the largest
    return float(relative), float(ulps)
