"""One update of AdamW, of parameters that do not fit any cache."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.row import Array, Arrays, Row, Sizes, Task, Work
from benchmarks.rows.training import adam
from benchmarks.rows.transformers import DECAY


def inputs(sizes: Sizes) -> Arrays:
    """Return parameters, as large as weights are, and their gradients."""
    rng, n = np.random.default_rng(0), sizes["parameters"]
    return {
        "p": np.float32(0.02) * rng.standard_normal(n, np.float32),
        "g": rng.standard_normal(n, np.float32),
    }


def answer(task: Task, p: object, mean: object, mean_square: object) -> Arrays:
    """Return what contenders are compared by: how far the parameters went, not where they are."""
    change: Array = np.asarray(p) - task.inputs["p"]
    return {"change": change, "mean": np.asarray(mean), "mean square": np.asarray(mean_square)}


def npllm(task: Task) -> Work:
    """Return npllm's."""
    from npllm.optim import AdamW

    p, g = task.inputs["p"].copy(), task.inputs["g"]
    optimizer = AdamW(p)

    def answered() -> Arrays:
        optimizer.step(g)
        return answer(task, p, **optimizer.state)

    return Work(answered, lambda: optimizer.step(g))


def torch(task: Task, fused: bool = False) -> Work:
    """Return torch's, as it comes or fused."""
    import torch

    p = torch.nn.Parameter(torch.from_numpy(task.inputs["p"].copy()))
    p.grad = torch.from_numpy(task.inputs["g"])
    optimizer = torch.optim.AdamW([p], **({"fused": True} if fused else {}))

    def answered() -> Arrays:
        optimizer.step()
        state = optimizer.state[p]
        return answer(task, p.detach(), state["exp_avg"], state["exp_avg_sq"])

    return Work(answered, optimizer.step)


def jax(task: Task) -> Work:
    """Return JAX's: the rule, compiled."""
    import jax
    import jax.numpy as jnp

    def update(p: Any, g: Any, m: Any, v: Any, t: Any) -> Any:
        return adam(jnp, p, g, m, v, t, DECAY)

    compiled = jax.jit(update, donate_argnums=(0, 2, 3))
    g, t = jnp.array(task.inputs["g"]), 0.0
    state = (jnp.array(task.inputs["p"]), jnp.zeros(g.shape), jnp.zeros(g.shape))

    def repeat() -> None:
        nonlocal state, t
        t += 1
        p, m, v = state
        state = jax.block_until_ready(compiled(p, g, m, v, t))

    def answered() -> Arrays:
        repeat()
        return answer(task, *state)

    return Work(answered, repeat)


ROWS = (
    Row(
        "adamw",
        "layers",
        {"parameters": 50_000_000},
        inputs,
        {"npllm": npllm, "torch": torch, "torch.compile": partial(torch, fused=True), "jax": jax},
        {"parameters": 10_001},
    ),
)
