"""A layer, forward and backward under one cotangent, as each contender differentiates it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from benchmarks.row import Array, Arrays, Row, Sizes, Task, Work

if TYPE_CHECKING:
    from torch import Tensor

Forward: TypeAlias = "Callable[[Arrays], tuple[Array, Any]]"
Backward: TypeAlias = "Callable[[Array, Any], Array | tuple[Array, ...]]"
# of the module of functions to compute with, and the arguments by name
Plain: TypeAlias = "Callable[[Any, Mapping[str, Any]], Any]"


class Layer(NamedTuple):
    """A layer, three times.

    Attributes:
        names: the arguments that have gradients, in npllm's order.
        npllm: returns its pair of functions.
        torch: of tensors by name.
        plain: as one writes it in NumPy.
    """

    names: Sequence[str]
    npllm: Callable[[], tuple[Forward, Backward]]
    torch: Callable[[Mapping[str, Tensor]], Tensor]
    plain: Plain


def named(layer: Layer, y: object, gradients: Sequence[object]) -> Arrays:
    """Return what contenders are compared by."""
    arrays = [np.asarray(gradient) for gradient in gradients]
    parts = {f"d {name}": array for name, array in zip(layer.names, arrays, strict=True)}
    return {"y": np.asarray(y), **parts}


def npllm(layer: Layer, task: Task) -> Work:
    """Return npllm's pair, with the cores, and with the memory of the repetition before."""
    from npllm.heap import keep_freed_memory
    from npllm.threads import blas_held

    keep_freed_memory()  # as in training
    task.stack.enter_context(blas_held(task.cores))
    forward, backward = layer.npllm()
    dy = task.inputs.pop("dy")

    def both() -> tuple[Array, Any]:
        y, cache = forward(task.inputs)
        gradients = backward(dy, cache)
        return y, gradients if isinstance(gradients, tuple) else (gradients,)

    return Work(lambda: named(layer, *both()), both)


def torch(layer: Layer, task: Task, compiled: bool = False) -> Work:
    """Return torch's function and its backward."""
    import torch

    function = torch.compile(layer.torch) if compiled else layer.torch
    given = {name: torch.from_numpy(array) for name, array in task.inputs.items()}
    dy = given.pop("dy")
    for name in layer.names:
        given[name].requires_grad_()

    def both() -> Tensor:
        for name in layer.names:
            given[name].grad = None
        y = function(given)
        y.backward(dy)
        return y.detach()

    return Work(lambda: named(layer, both(), [given[name].grad for name in layer.names]), both)


def jax(layer: Layer, task: Task) -> Work:
    """Return the function and its pullback, compiled together."""
    import jax
    import jax.numpy as jnp

    rest = {name: jnp.array(array) for name, array in task.inputs.items()}
    dy = rest.pop("dy")
    given = {name: rest.pop(name) for name in layer.names}

    @jax.jit
    def both(given: Any, rest: Any, dy: Any) -> Any:
        y, pull = jax.vjp(lambda given: layer.plain(jnp, {**rest, **given}), given)
        return y, pull(dy)[0]

    def repeat() -> Any:
        return jax.block_until_ready(both(given, rest, dy))

    def answered() -> Arrays:
        y, gradients = repeat()
        return named(layer, y, [gradients[name] for name in layer.names])

    return Work(answered, repeat)


def autograd(layer: Layer, task: Task) -> Work:
    """Return the function and its vector-Jacobian product."""
    import autograd.numpy as anp
    from autograd import make_vjp

    rest = dict(task.inputs)
    dy = rest.pop("dy")
    given = {name: rest.pop(name) for name in layer.names}
    vjp_of = make_vjp(lambda given: layer.plain(anp, {**rest, **given}))

    def both() -> Any:
        pull, y = vjp_of(given)
        return y, pull(dy)

    def answered() -> Arrays:
        y, gradients = both()
        return named(layer, y, [gradients[name] for name in layer.names])

    return Work(answered, both)


def mygrad(layer: Layer, task: Task) -> Work:
    """Return the function of tensors and its backward."""
    import mygrad as mg

    rest = dict(task.inputs)
    dy = rest.pop("dy")

    def both() -> Any:
        given = {name: mg.tensor(rest[name], copy=False) for name in layer.names}
        y = layer.plain(mg, {**rest, **given})
        y.backward(dy)
        return y.data, [given[name].grad for name in layer.names]

    return Work(lambda: named(layer, *both()), both)


def layer_row(
    name: str,
    layer: Layer,
    inputs: Callable[[Sizes], Arrays],
    sizes: Sizes,
    small: Sizes,
    without: Sequence[str] = (),
    **options: Any,
) -> Row:
    """Return a layer's row, without the contenders for which it would take too long."""
    contenders = {
        "npllm": partial(npllm, layer),
        "torch": partial(torch, layer),
        "torch.compile": partial(torch, layer, compiled=True),
        "jax": partial(jax, layer),
        "autograd": partial(autograd, layer),
        "mygrad": partial(mygrad, layer),
    }
    kept = {n: contender for n, contender in contenders.items() if n not in without}
    return Row(name, "layers", sizes, inputs, kept, {**sizes, **small}, **options)
