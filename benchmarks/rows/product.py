"""The machine's own ceiling: one large product, by NumPy's BLAS and by torch's."""

from __future__ import annotations

import numpy as np

from benchmarks.row import Arrays, Row, Sizes, Task, Work

SIZE = 2048


def inputs(sizes: Sizes) -> Arrays:
    """Return two matrices."""
    rng, n = np.random.default_rng(0), sizes["size"]
    return {name: rng.standard_normal((n, n), np.float32) for name in ("a", "b")}


def numpy_product(task: Task) -> Work:
    """Return NumPy's product, which is all of npllm's."""
    from npllm.threads import blas_held

    task.stack.enter_context(blas_held(task.cores))
    a, b = task.inputs["a"], task.inputs["b"]
    return Work(lambda: {"y": a @ b}, lambda: a @ b)


def torch_product(task: Task) -> Work:
    """Return torch's product."""
    import torch

    a, b = (torch.from_numpy(task.inputs[name]) for name in ("a", "b"))
    return Work(lambda: {"y": (a @ b).numpy()}, lambda: a @ b)


ROWS = (
    Row(
        "product",
        "machine",
        {"size": SIZE},
        inputs,
        {"npllm": numpy_product, "torch": torch_product},
        {"size": 64},
        lambda sizes: 2.0 * sizes["size"] ** 3,
        quick=True,
    ),
)
