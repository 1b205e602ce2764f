"""What the cases of the Transformers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npllm import layers
from npllm.evidence.case import Case, Generator
from npllm.layers.arrays import Array
from npllm.models import GPT, Llama


def trained(
    build: Callable[..., Any], configurations: dict[str, dict[str, Any]], rng: Generator
) -> Iterator[Case]:
    """Yield the loss of a model over its parameters, both ways that it is computed."""
    ids, targets = rng.integers(7, size=(3, 5)), rng.integers(7, size=(3, 5))
    targets[1, 2] = -100
    for label, config in configurations.items():
        like = build(**config, dtype=np.float64)
        parameters = {n: rng.normal(size=s) / 2 for n, s in like.parameters.shapes.items()}

        def forward(
            ids: Array, parameters: dict[str, Array], config: Any = config
        ) -> tuple[Array, Any]:
            (dtype,) = {a.dtype for a in parameters.values()}
            model = build(**config, seed=None, dtype=dtype)
            model.parameters.load(parameters)
            logits, cache = model.forward(ids, None, np.random.default_rng(5))
            loss, loss_cache = layers.cross_entropy_forward(logits, targets, reduction="sum")
            return loss, (model, cache, loss_cache, ids)

        def backward(dloss: Array, cache: Any) -> dict[str, Array]:
            model, model_cache, loss_cache, _ = cache
            gradients = model.backward(
                layers.cross_entropy_backward(dloss, loss_cache), model_cache
            )
            return {name: gradients[name] for name in gradients.shapes}

        def at_once(dloss: Array, cache: Any) -> dict[str, Array]:
            model, _, _, ids = cache
            found = model.loss_and_gradients(ids, targets, None, np.random.default_rng(5))
            return {name: dloss * found.gradients[name] for name in found.gradients.shapes}

        yield Case(label, forward, backward, (ids, parameters))
        yield Case(f"{label}, loss and gradients at once", forward, at_once, (ids, parameters))


def block_parameters(
    like: GPT | Llama, normal: Callable[[tuple[int, ...]], Array]
) -> dict[str, Array]:
    """Return random parameters of the first block, by their names within it."""
    prefix, shapes = like.BLOCK.format(0), like.parameters.shapes
    return {n.removeprefix(prefix): normal(s) for n, s in shapes.items() if n.startswith(prefix)}
