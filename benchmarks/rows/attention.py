"""Causal attention over T, forward and backward; plain or tiled in npllm, as its models choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.row import Array, Arrays, Row, Sizes
from benchmarks.rows.differentiated import Backward, Forward, Layer, layer_row
from benchmarks.rows.transformers import attend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def inputs(sizes: Sizes) -> Arrays:
    """Return queries, keys, values and the cotangent."""
    rng = np.random.default_rng(0)
    shape = tuple(sizes[name] for name in "BNTD")
    return {name: rng.standard_normal(shape, np.float32) for name in ("q", "k", "v", "dy")}


def npllm(tiled: bool) -> tuple[Forward, Backward]:
    """Return the plain pair or the tiled one."""
    from npllm import layers

    name = "tiled_attention" if tiled else "attention"
    forward: Callable[..., Any] = getattr(layers, f"{name}_forward")

    def causal(given: Arrays) -> tuple[Array, Any]:
        found: tuple[Array, Any] = forward(given["q"], given["k"], given["v"], causal=True)
        return found

    return causal, getattr(layers, f"{name}_backward")


def torch(given: Mapping[str, Tensor]) -> Tensor:
    """Return torch's."""
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(given["q"], given["k"], given["v"], is_causal=True)


def plain(xp: Any, given: Mapping[str, Any]) -> Any:
    """Return it with all weights at once."""
    return attend(xp, given["q"], given["k"], given["v"])


def flops(sizes: Sizes) -> float:
    """Return those of the products that a causal mask leaves; a backward has twice a forward's."""
    B, N, T, D = (sizes[name] for name in "BNTD")
    return 3 * 2 * 2 * B * N * T * T * D / 2


def row(T: int, tiled: bool, *without: str) -> Row:
    """Return the row of a number of steps."""
    layer = Layer(("q", "k", "v"), lambda: npllm(tiled), torch, plain)
    sizes = {"B": 4, "N": 8, "T": T, "D": 64}
    small = {"B": 1, "N": 2, "T": 64}
    return layer_row(f"attention-{T}", layer, inputs, sizes, small, without, flops=flops)


ROWS = (
    row(256, False),
    row(1024, True, "torch.compile", "autograd", "mygrad"),
    row(4096, True, "torch.compile", "autograd", "mygrad", "jax"),  # all weights: 2 GB
)
