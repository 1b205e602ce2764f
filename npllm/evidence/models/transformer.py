"""What the cases of the Transformers share."""

from __future__ import annotations

from collections.abc import Callable

from npllm.layers.arrays import Array
from npllm.models import GPT, Llama
from npllm.models.transformer import Transformer

# where mistakes are made, and what they replace
HIDDEN = Transformer.hidden_backward
HEAD = "gradients[self.HEAD] += dhead"


def block_parameters(
    like: GPT | Llama, normal: Callable[[tuple[int, ...]], Array]
) -> dict[str, Array]:
    """Return random parameters of the first block, by their names within it."""
    prefix, shapes = like.BLOCK.format(0), like.parameters.shapes
    return {n.removeprefix(prefix): normal(s) for n, s in shapes.items() if n.startswith(prefix)}
