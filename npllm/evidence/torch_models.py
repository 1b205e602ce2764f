"""The models once more, in torch's layers: the second oracle of the certificate.

Torch is imported where it is needed. The function named as the model is on the command line is its
twin. It takes a model's config, its parameters, a batch and a
state, and returns torch's :class:`Twin`. It draws dropout masks from NumPy as the model does, in
the same order, and multiplies by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from npllm.evidence.case import Batch
from npllm.layers.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor

Dropout: TypeAlias = "Callable[[Tensor], Tensor]"


class Twin(NamedTuple):
    """What torch makes of a batch.

    Attributes:
        loss: summed over the targets.
        gradients: of it, by the parameters' names.
        state: the final one; of a Transformer nothing.
    """

    loss: float
    gradients: dict[str, Array]
    state: tuple[Array, ...]


def lstm(
    config: Mapping[str, Any], arrays: Mapping[str, Array], batch: Batch, state: tuple[Array, ...]
) -> Twin:
    """Run section 5's model, its layers one after the other."""
    import torch

    p = {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}
    dropout = _dropout(config.get("dropout", 0.0), batch.seed)
    x = dropout(torch.nn.functional.embedding(torch.tensor(batch.ids.T), p["embedding.weight"]))
    finals = []
    for layer in range(config.get("num_layers", 1)):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = {f"{name}_l0": p[f"rnn.{name}_l{layer}"] for name in names}
        rnn = torch.nn.LSTM(x.shape[-1], config["hidden_size"], dtype=torch.float64)
        initial = tuple(torch.tensor(a[layer : layer + 1]) for a in state)
        x, final = torch.func.functional_call(rnn, weights, (x, initial))
        finals.append(final)
        x = dropout(x)
    fc = p["embedding.weight" if config.get("tie_weights") else "fc.weight"]
    logits = torch.nn.functional.linear(x, fc, p["fc.bias"])
    state = tuple(torch.cat(each).detach().numpy() for each in zip(*finals, strict=True))
    return _twin(p, logits.transpose(0, 1), batch, state)


def gpt(config: Mapping[str, Any], arrays: Mapping[str, Array], batch: Batch, _: None) -> Twin:
    """Run GPT-2's equations."""
    import torch

    f = torch.nn.functional
    p = {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}
    dropout, (_, steps) = _dropout(config.get("dropout", 0.0), batch.seed), batch.ids.shape
    x = f.embedding(torch.tensor(batch.ids), p["transformer.wte.weight"])
    x = dropout(x + p["transformer.wpe.weight"][:steps])

    def norm(x: Tensor, name: str) -> Tensor:
        weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
        return f.layer_norm(x, x.shape[-1:], weight, bias, config.get("eps", 1e-5))

    for n in range(config["num_layers"]):
        block = f"transformer.h.{n}"

        def affine(x: Tensor, name: str, block: str = block) -> Tensor:
            return x @ p[f"{block}.{name}.weight"] + p[f"{block}.{name}.bias"]

        q, k, v = affine(norm(x, f"{block}.ln_1"), "attn.c_attn").chunk(3, dim=-1)
        heads = config["heads"]
        y = _attend(q, k, v, heads, heads, dropout, None)
        x = x + dropout(affine(y, "attn.c_proj"))
        m = f.gelu(affine(norm(x, f"{block}.ln_2"), "mlp.c_fc"), approximate="tanh")
        x = x + dropout(affine(m, "mlp.c_proj"))
    logits = norm(x, "transformer.ln_f") @ p["transformer.wte.weight"].T
    return _twin(p, logits, batch, ())


def llama(config: Mapping[str, Any], arrays: Mapping[str, Array], batch: Batch, _: None) -> Twin:
    """Run Llama's equations, the rotation of a pair as a product of complex numbers."""
    import torch

    f = torch.nn.functional
    p = {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}
    dropout, steps = _dropout(config.get("dropout", 0.0), batch.seed), batch.ids.shape[1]
    heads, size = config["heads"], config.get("head_size") or config["width"] // config["heads"]
    kv_heads = config.get("kv_heads") or heads
    frequencies = config.get("rope_base", 10000.0) ** (-torch.arange(0, size, 2).double() / size)
    angles = torch.arange(steps)[:, None] * frequencies
    turn = torch.polar(torch.ones_like(angles), angles)[:, None]  # (T, 1, D / 2)

    def turned(x: Tensor) -> Tensor:
        pairs = x.reshape(*x.shape[:-1], -1, size)  # (B, T, N, D)
        if config.get("interleaved"):
            a, b = pairs[..., 0::2], pairs[..., 1::2]
        else:
            a, b = pairs.chunk(2, dim=-1)
        y = torch.complex(a, b) * turn
        rejoin = torch.stack if config.get("interleaved") else torch.cat
        return rejoin([y.real, y.imag], dim=-1).flatten(2)

    def norm(x: Tensor, name: str) -> Tensor:
        return f.rms_norm(x, x.shape[-1:], p[f"{name}.weight"], config.get("eps", 1e-5))

    x = dropout(f.embedding(torch.tensor(batch.ids), p["model.embed_tokens.weight"]))
    for n in range(config["num_layers"]):
        block = f"model.layers.{n}"
        m = norm(x, f"{block}.input_layernorm")
        q, k, v = (m @ p[f"{block}.self_attn.{name}_proj.weight"].T for name in "qkv")
        y = _attend(turned(q), turned(k), v, heads, kv_heads, dropout, config.get("window"))
        x = x + dropout(y @ p[f"{block}.self_attn.o_proj.weight"].T)
        m = norm(x, f"{block}.post_attention_layernorm")
        gate, up = (m @ p[f"{block}.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + dropout((f.silu(gate) * up) @ p[f"{block}.mlp.down_proj.weight"].T)
    tied = config.get("tie_weights")
    head = p["model.embed_tokens.weight" if tied else "lm_head.weight"]
    return _twin(p, norm(x, "model.norm") @ head.T, batch, ())


def _dropout(rate: float, seed: int) -> Dropout:
    """Return dropout with masks from NumPy, drawn one after the other."""
    import torch

    rng = np.random.default_rng(seed)

    def dropout(x: Tensor) -> Tensor:
        if rate == 0:
            return x
        kept = rng.random(tuple(x.shape), dtype=np.float32) >= rate
        return x * torch.tensor(kept / (1 - rate))

    return dropout


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    kv_heads: int,
    dropout: Dropout,
    window: int | None,
) -> Tensor:
    """Attend causally in heads, (B, T, N D) each, key heads shared."""
    import torch

    batch, steps = q.shape[:2]
    q = q.reshape(batch, steps, kv_heads, heads // kv_heads, -1).permute(0, 2, 3, 1, 4)
    k, v = (a.reshape(batch, steps, kv_heads, 1, -1).permute(0, 2, 3, 1, 4) for a in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    seen = torch.ones(steps, steps, dtype=torch.bool).tril()
    if window is not None:
        seen = seen.triu(1 - window)
    weights = dropout(scores.masked_fill(~seen, float("-inf")).softmax(-1))
    return (weights @ v).permute(0, 3, 1, 2, 4).flatten(2)


def _twin(p: Mapping[str, Tensor], logits: Tensor, batch: Batch, state: tuple[Array, ...]) -> Twin:
    """Return what comes of the logits (B, T, V)."""
    import torch

    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(batch.targets.ravel()), reduction="sum"
    )
    found = torch.autograd.grad(loss, list(p.values()))
    gradients = {name: g.numpy() for name, g in zip(p, found, strict=True)}
    return Twin(float(loss.detach()), gradients, state)
