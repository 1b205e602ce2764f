"""What the cases of the Transformers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from npllm import layers
from npllm.evidence.case import AT_ONCE, Case, Generator, LossCache, loss_backward
from npllm.layers.arrays import Array
from npllm.models import GPT, LanguageModel, Llama
from npllm.models.transformer import Transformer

# where mistakes are made, and what they replace
HIDDEN = Transformer.hidden_backward
HEAD = "gradients[self.HEAD] += dhead"


def trained(
    kind: type[GPT] | type[Llama], configurations: dict[str, dict[str, Any]], rng: Generator
) -> Iterator[Case]:
    """Yield the loss of a model over its parameters, both ways that it is computed."""
    ids, targets = rng.integers(7, size=(3, 5)), rng.integers(7, size=(3, 5))
    targets[1, 2] = -100
    for label, config in configurations.items():
        build = partial(kind, **config)
        like = build(dtype=np.float64)
        parameters = {n: rng.normal(size=s) / 2 for n, s in like.parameters.shapes.items()}

        def forward(
            ids: Array, parameters: dict[str, Array], build: Callable[..., LanguageModel] = build
        ) -> tuple[Array, LossCache]:
            (dtype,) = {a.dtype for a in parameters.values()}
            model = build(seed=None, dtype=dtype)
            model.parameters.load(parameters)
            logits, cache = model.forward(ids, None, rng=np.random.default_rng(5))
            loss, loss_cache = layers.cross_entropy_forward(logits, targets, reduction="sum")
            return loss, LossCache(model, cache, loss_cache)

        def at_once(dloss: Array, cache: LossCache) -> dict[str, Array]:
            found = cache.model.loss_and_gradients(ids, targets, None, rng=np.random.default_rng(5))
            return {name: dloss * found.gradients[name] for name in found.gradients.shapes}

        yield Case(label, forward, loss_backward, (ids, parameters))
        yield Case(label + AT_ONCE, forward, at_once, (ids, parameters))


def block_parameters(
    like: GPT | Llama, normal: Callable[[tuple[int, ...]], Array]
) -> dict[str, Array]:
    """Return random parameters of the first block, by their names within it."""
    prefix, shapes = like.BLOCK.format(0), like.parameters.shapes
    return {n.removeprefix(prefix): normal(s) for n, s in shapes.items() if n.startswith(prefix)}
