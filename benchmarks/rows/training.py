"""One training step, whatever the model: forward, loss, backward, update.

A model's file says what the loss is; here is how each contender differentiates it and steps. The
answer is the loss, every gradient, and the loss after one update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from benchmarks.row import Arrays, Sizes, Task, Work

if TYPE_CHECKING:
    from torch import Tensor

    from npllm.models import LanguageModel
    from npllm.optim import Adam

# of the module of functions to compute with, parameters by name, ids and targets
PlainLoss: TypeAlias = "Callable[[Any, Mapping[str, Any], Any, Any], Any]"

BATCHES = 8  # that a row goes through, again and again
ONE = np.float32(1)  # a constant of Python would make MyGrad go on in float64
ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def training_inputs(model: LanguageModel, sizes: Sizes) -> Arrays:
    """Return a model's weights, and the batches of the first steps."""
    shape = (sizes["batch"], sizes["steps"] + 1)
    drawn = [
        np.random.default_rng(step).integers(sizes["V"], size=shape) for step in range(BATCHES)
    ]
    weights = {name: model.parameters[name] for name in model.parameters.shapes}
    return {**weights, "batches": np.stack(drawn)}


def weights_of(task: Task) -> Arrays:
    """Return the inputs that are weights."""
    return {name: array for name, array in task.inputs.items() if name != "batches"}


def batches_of(task: Task) -> list[tuple[Any, Any]]:
    """Return the inputs and the targets of each batch."""
    return [
        (np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:]))
        for tokens in task.inputs["batches"]
    ]


def answer(loss: object, gradients: Mapping[str, Any], later: object) -> Arrays:
    """Return what contenders are compared by."""
    named = {f"d {name}": np.asarray(gradient) for name, gradient in gradients.items()}
    return {"loss": np.asarray(loss), **named, "loss after a step": np.asarray(later)}


def npllm_training(task: Task, model: LanguageModel, optimizer: Adam) -> Work:
    """Return npllm's training: the batch in shares, one a core where that is worth it."""
    from npllm.text.batches import Batch
    from npllm.training.workers import Workers, worthwhile_workers

    model.parameters.load(weights_of(task))
    numbers = model.activations(task.sizes["batch"], task.sizes["steps"])
    workers = Workers(model, optimizer, worthwhile_workers(numbers, task.cores))
    task.stack.enter_context(workers.working())
    batches = [Batch(x, y, continues=False) for x, y in batches_of(task)]

    def differentiated(batch: Batch) -> float:
        result = workers.differentiate(batch)
        return result.loss / result.tokens

    def step(batch: Batch) -> None:
        workers.update(optimizer.lr, workers.differentiate(batch).norm)

    def answered() -> Arrays:
        loss = differentiated(batches[0])
        named = {name: workers.gradients[name].copy() for name in workers.gradients.shapes}
        step(batches[0])
        return answer(loss, named, differentiated(batches[0]))

    turns = cycle(batches)
    return Work(answered, lambda: step(next(turns)))


def torch_training(
    task: Task,
    parameters: Mapping[str, Tensor],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    optimizer: str,
    compiled: bool = False,
) -> Work:
    """Return torch's training: eager with the optimizer as it comes, or compiled and fused."""
    import torch

    options = {"fused": True} if compiled else {}
    update = getattr(torch.optim, optimizer)(parameters.values(), **options)
    loss_of = torch.compile(loss_of) if compiled else loss_of
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches_of(task)]
    turns = cycle(batches)

    def step(batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = loss_of(*batch)
        update.zero_grad()
        loss.backward()
        update.step()
        return loss.detach()

    def answered() -> Arrays:
        loss = step(batches[0])
        gradients = {n: p.grad.numpy().copy() for n, p in parameters.items() if p.grad is not None}
        return answer(loss, gradients, loss_of(*batches[0]).detach())

    return Work(answered, lambda: step(next(turns)))


def adam(xp: Any, p: Any, g: Any, m: Any, v: Any, t: Any, decay: float) -> tuple[Any, Any, Any]:
    """Return parameter and means after step t of AdamW, or of Adam where nothing decays."""
    c = ADAM
    m = c["beta1"] * m + (1 - c["beta1"]) * g
    v = c["beta2"] * v + (1 - c["beta2"]) * g * g
    unbiased_m, unbiased_v = m / (1 - c["beta1"] ** t), v / (1 - c["beta2"] ** t)
    p = p - c["lr"] * (decay * p + unbiased_m / (xp.sqrt(unbiased_v) + c["eps"]))
    return p, m, v


def jax_training(task: Task, loss_of: PlainLoss, decay: float = 0.0) -> Work:
    """Return JAX's training: loss, gradients and update compiled as one function."""
    import jax
    import jax.numpy as jnp

    def step(state: Any, t: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        loss, gradients = jax.value_and_grad(lambda p: loss_of(jnp, p, x, y))(
            {name: p for name, (p, _, _) in state.items()}
        )
        state = {n: adam(jnp, p, gradients[n], m, v, t, decay) for n, (p, m, v) in state.items()}
        return state, loss, gradients

    whole = jax.jit(lambda *given: step(*given)[:2], donate_argnums=0)
    zero = {
        n: (jnp.array(a), jnp.zeros(a.shape), jnp.zeros(a.shape))
        for n, a in weights_of(task).items()
    }
    batches = [(jnp.array(x), jnp.array(y)) for x, y in batches_of(task)]
    turns = cycle(batches)
    state, steps = zero, 0

    def repeat() -> None:
        nonlocal state, steps
        steps += 1
        state, loss = whole(state, float(steps), *next(turns))
        jax.block_until_ready((state, loss))

    def answered() -> Arrays:
        after, loss, gradients = jax.jit(step)(state, 1.0, *batches[0])
        return answer(loss, gradients, jax.jit(step)(after, 2.0, *batches[0])[1])

    return Work(answered, repeat)


def numpy_training(
    task: Task, differentiated: Callable[[Arrays, Any, Any], tuple[Any, Arrays]], decay: float
) -> Work:
    """Return the training of what differentiates NumPy's functions."""
    batches, p = batches_of(task), weights_of(task)
    turns = cycle(batches)
    means = {name: (np.zeros_like(a), np.zeros_like(a)) for name, a in p.items()}
    steps = 0

    def step(x: Any, y: Any) -> tuple[Any, Arrays]:
        nonlocal steps
        steps += 1
        loss, gradients = differentiated(p, x, y)
        for name, gradient in gradients.items():
            p[name], mean, square = adam(np, p[name], gradient, *means[name], steps, decay)
            means[name] = (mean, square)
        return loss, gradients

    def answered() -> Arrays:
        loss, gradients = step(*batches[0])
        return answer(loss, gradients, differentiated(p, *batches[0])[0])

    return Work(answered, lambda: step(*next(turns)))


def autograd_training(task: Task, loss_of: PlainLoss, decay: float = 0.0) -> Work:
    """Return the training of HIPS autograd."""
    import autograd.numpy as anp
    from autograd import value_and_grad

    return numpy_training(task, value_and_grad(lambda p, x, y: loss_of(anp, p, x, y)), decay)


def mygrad_training(task: Task, loss_of: PlainLoss, decay: float = 0.0) -> Work:
    """Return the training of MyGrad."""
    import mygrad as mg

    def differentiated(p: Arrays, x: Any, y: Any) -> tuple[Any, Arrays]:
        tensors = {name: mg.tensor(a, copy=False) for name, a in p.items()}
        loss = loss_of(mg, tensors, x, y)
        loss.backward()
        return loss.item(), {name: tensor.grad for name, tensor in tensors.items()}

    return numpy_training(task, differentiated, decay)


def plain_mean(xp: Any, x: Any) -> Any:
    """Return the mean over the last axis, which stays."""
    return xp.sum(x, axis=-1, keepdims=True) * np.float32(1 / x.shape[-1])


def plain_cross_entropy(xp: Any, logits: Any, targets: Any) -> Any:
    """Return the mean cross-entropy of logits (M, V) and targets (M,)."""
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    chosen = shifted[np.arange(len(targets)), targets]
    losses = xp.log(xp.sum(xp.exp(shifted), axis=-1)) - chosen
    return xp.sum(losses) * np.float32(1 / len(targets))
