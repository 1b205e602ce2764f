"""The other layers, forward and backward: losses, norms, an activation, an embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.row import Array, Arrays, Row, Sizes
from benchmarks.rows.differentiated import Backward, Forward, Layer, layer_row
from benchmarks.rows.training import ONE, plain_mean
from benchmarks.rows.transformers import EPS, plain_gelu

if TYPE_CHECKING:
    from torch import Tensor


def pair(name: str, *arguments: str, **options: Any) -> Callable[[], tuple[Forward, Backward]]:
    """Return what finds npllm's pair of that name, the forward of arguments by name."""

    def found() -> tuple[Forward, Backward]:
        from npllm import layers

        forward: Callable[..., tuple[Array, Any]] = getattr(layers, f"{name}_forward")

        def of(given: Arrays) -> tuple[Array, Any]:
            return forward(*(given[argument] for argument in arguments), **options)

        return of, getattr(layers, f"{name}_backward")

    return found


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Return normal numbers."""
    drawn: Array = np.float32(scale) * np.random.default_rng(seed).standard_normal(
        shape, np.float32
    )
    return drawn


def cross_entropy_inputs(sizes: Sizes) -> Arrays:
    """Return rows, the head's weight and targets."""
    N, E, V = (sizes[name] for name in "NEV")
    targets = np.random.default_rng(2).integers(V, size=N)
    return {
        "x": normal(N, E),
        "weight": normal(V, E, seed=1, scale=0.05),
        "targets": targets,
        "dy": np.ones((), np.float32),
    }


def torch_cross_entropy(given: Mapping[str, Tensor]) -> Tensor:
    """Return the summed loss."""
    from torch.nn.functional import cross_entropy, linear

    return cross_entropy(linear(given["x"], given["weight"]), given["targets"], reduction="sum")


def plain_summed_cross_entropy(xp: Any, given: Mapping[str, Any]) -> Any:
    """Return the summed loss."""
    logits = xp.matmul(given["x"], given["weight"].T)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    chosen = shifted[np.arange(len(given["targets"])), given["targets"]]
    return xp.sum(xp.log(xp.sum(xp.exp(shifted), axis=-1)) - chosen)


def embedding_inputs(sizes: Sizes) -> Arrays:
    """Return a table, and ids as words come in a text: few of them most of the time."""
    N, E, V = (sizes[name] for name in "NEV")
    often = 1 / np.arange(1, V + 1)  # Zipf's law
    ids = np.random.default_rng(2).choice(V, N, p=often / often.sum())
    return {"weight": normal(V, E), "ids": ids, "dy": normal(N, E, seed=1)}


def torch_embedding(given: Mapping[str, Tensor]) -> Tensor:
    """Return the words' rows."""
    from torch.nn.functional import embedding

    return embedding(given["ids"], given["weight"])


def norm_inputs(sizes: Sizes) -> Arrays:
    """Return rows, gain and bias."""
    N, E = sizes["N"], sizes["E"]
    vectors = {name: normal(E, seed=n) for n, name in enumerate(("weight", "bias"))}
    return {"x": normal(N, E, seed=2), **vectors, "dy": normal(N, E, seed=3)}


def rms_norm_inputs(sizes: Sizes) -> Arrays:
    """Return rows and gain."""
    return {name: array for name, array in norm_inputs(sizes).items() if name != "bias"}


def torch_layer_norm(given: Mapping[str, Tensor]) -> Tensor:
    """Return torch's."""
    from torch.nn.functional import layer_norm

    weight = given["weight"]
    return layer_norm(given["x"], weight.shape, weight, given["bias"], float(EPS))


def plain_layer_norm(xp: Any, given: Mapping[str, Any]) -> Any:
    """Return it as it is defined."""
    x = given["x"] - plain_mean(xp, given["x"])
    scale = ONE / xp.sqrt(plain_mean(xp, x * x) + EPS)
    return x * scale * given["weight"] + given["bias"]


def torch_rms_norm(given: Mapping[str, Tensor]) -> Tensor:
    """Return torch's."""
    from torch.nn.functional import rms_norm

    return rms_norm(given["x"], given["weight"].shape, given["weight"], float(EPS))


def plain_rms_norm(xp: Any, given: Mapping[str, Any]) -> Any:
    """Return it as it is defined."""
    x = given["x"]
    return x * (ONE / xp.sqrt(plain_mean(xp, x * x) + EPS)) * given["weight"]


def gelu_inputs(sizes: Sizes) -> Arrays:
    """Return rows."""
    return {name: normal(sizes["N"], sizes["E"], seed=n) for n, name in enumerate(("x", "dy"))}


def torch_gelu(given: Mapping[str, Tensor]) -> Tensor:
    """Return its tanh form."""
    from torch.nn.functional import gelu

    return gelu(given["x"], approximate="tanh")


CROSS_ENTROPY = Layer(
    ("x", "weight"),
    pair("linear_cross_entropy", "x", "weight", "targets"),
    torch_cross_entropy,
    plain_summed_cross_entropy,
)
EMBEDDING = Layer(
    ("weight",),
    pair("embedding", "ids", "weight"),
    torch_embedding,
    lambda _, given: given["weight"][given["ids"]],
)
LAYER_NORM = Layer(
    ("x", "weight", "bias"),
    pair("layer_norm", "x", "weight", "bias", eps=float(EPS)),
    torch_layer_norm,
    plain_layer_norm,
)
RMS_NORM = Layer(
    ("x", "weight"),
    pair("rms_norm", "x", "weight", eps=float(EPS)),
    torch_rms_norm,
    plain_rms_norm,
)
GELU = Layer(
    ("x",),
    pair("gelu", "x", approximate="tanh"),
    torch_gelu,
    lambda xp, given: plain_gelu(xp, given["x"]),
)


def cross_entropy_flops(sizes: Sizes) -> float:
    """Return those of the products; a backward has twice a forward's."""
    return 3.0 * 2 * sizes["N"] * sizes["E"] * sizes["V"]


FEW = {"N": 64, "E": 32}

ROWS: tuple[Row, ...] = (
    layer_row(
        "cross-entropy",
        CROSS_ENTROPY,
        cross_entropy_inputs,
        {"N": 2048, "E": 256, "V": 50_257},
        {**FEW, "V": 1000},
        ("autograd", "mygrad"),
        flops=cross_entropy_flops,
    ),
    layer_row(
        "embedding", EMBEDDING, embedding_inputs, {"N": 8192, "E": 256, "V": 50_000}, {"V": 500}
    ),
    layer_row("layer-norm", LAYER_NORM, norm_inputs, {"N": 4096, "E": 768}, FEW, quick=True),
    layer_row("rms-norm", RMS_NORM, rms_norm_inputs, {"N": 4096, "E": 768}, FEW),
    layer_row("gelu", GELU, gelu_inputs, {"N": 2048, "E": 3072}, FEW),
)
