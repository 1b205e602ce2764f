"""A training step of GPT and of Llama: their losses, and AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.row import Row, Sizes, Task, Work
from benchmarks.rows.training import (
    ONE,
    autograd_training,
    jax_training,
    mygrad_training,
    npllm_training,
    plain_cross_entropy,
    plain_mean,
    torch_training,
    training_inputs,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from npllm.models import GPT, Llama

DECAY = 0.01  # torch's default
EPS = np.float32(1e-5)  # of the norms
# the matrices of a block that GPT-2's checkpoints hold as (I, O)
MAPS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def gpt_of(sizes: Sizes, **options: Any) -> GPT:
    """Return npllm's GPT."""
    from npllm.models import GPT

    c = sizes
    return GPT(c["V"], c["context"], c["width"], c["blocks"], c["heads"], **options)


def llama_of(sizes: Sizes, **options: Any) -> Llama:
    """Return npllm's Llama."""
    from npllm.models import Llama

    c = sizes
    return Llama(
        c["V"], c["context"], c["width"], c["blocks"], c["heads"], c["kv_heads"], **options
    )


def npllm(model_of: Callable[..., Any], task: Task) -> Work:
    """Return npllm's training."""
    from npllm.optim import AdamW

    model = model_of(task.sizes, seed=None, dtype=task.dtype)
    return npllm_training(task, model, AdamW(model.parameters))


def torch_gpt(sizes: Sizes, p: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Return GPT's logits."""
    import torch

    f = torch.nn.functional

    def affine(x: Tensor, name: str) -> Tensor:
        flat = torch.addmm(p[f"{name}.bias"], x.flatten(0, 1), p[f"{name}.weight"])
        return flat.unflatten(0, x.shape[:2])

    def norm(x: Tensor, name: str) -> Tensor:
        return f.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], float(EPS))

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (sizes["heads"], -1)).transpose(1, 2)

    x = f.embedding(ids, p["transformer.wte.weight"])
    x = x + p["transformer.wpe.weight"][: ids.shape[1]]
    for n in range(sizes["blocks"]):
        block = f"transformer.h.{n}"
        q, k, v = affine(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn").chunk(3, -1)
        y = f.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True)
        x = x + affine(y.transpose(1, 2).flatten(2), f"{block}.attn.c_proj")
        m = affine(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        x = x + affine(f.gelu(m, approximate="tanh"), f"{block}.mlp.c_proj")
    return f.linear(norm(x, "transformer.ln_f"), p["transformer.wte.weight"])


def torch_llama(sizes: Sizes, p: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Return Llama's logits."""
    import torch

    f, size = torch.nn.functional, sizes["width"] // sizes["heads"]
    cos, sin = (torch.from_numpy(a) for a in rotation(ids.shape[1], size))

    def norm(x: Tensor, name: str) -> Tensor:
        return f.rms_norm(x, x.shape[-1:], p[f"{name}.weight"], float(EPS))

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, size)).transpose(1, 2)

    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    x = f.embedding(ids, p["model.embed_tokens.weight"])
    for n in range(sizes["blocks"]):
        block = f"model.layers.{n}"
        m = norm(x, f"{block}.input_layernorm")
        q, k, v = (heads(f.linear(m, p[f"{block}.self_attn.{c}_proj.weight"])) for c in "qkv")
        y = f.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True, enable_gqa=True)
        y = y.transpose(1, 2).flatten(2)
        x = x + f.linear(y, p[f"{block}.self_attn.o_proj.weight"])
        m = norm(x, f"{block}.post_attention_layernorm")
        gate, up = (f.linear(m, p[f"{block}.mlp.{c}_proj.weight"]) for c in ("gate", "up"))
        x = x + f.linear(f.silu(gate) * up, p[f"{block}.mlp.down_proj.weight"])
    return f.linear(norm(x, "model.norm"), p["lm_head.weight"])


def torch(logits_of: Callable[..., Tensor], task: Task, compiled: bool = False) -> Work:
    """Return torch's training."""
    import torch

    p = {name: torch.nn.Parameter(torch.from_numpy(a)) for name, a in weights_of(task).items()}

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        logits = logits_of(task.sizes, p, x)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    return torch_training(task, p, loss_of, "AdamW", compiled)


def rotation(T: int, size: int) -> tuple[Any, Any]:
    """Return the cosines and sines, (T, D / 2), by which a head's pairs are turned."""
    angles = np.arange(T)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def attend(xp: Any, q: Any, k: Any, v: Any) -> Any:
    """Return causal attention, (B, N, T, D)."""
    T, size = q.shape[-2:]
    hidden = np.triu(np.full((T, T), -1e30, np.float32), 1)
    scores = xp.matmul(q, xp.swapaxes(k, -1, -2)) * np.float32(1 / math.sqrt(size)) + hidden
    weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    return xp.matmul(weights / xp.sum(weights, axis=-1, keepdims=True), v)


def split(xp: Any, x: Any, heads: int) -> Any:
    """Return (B, N, T, D) of (B, T, N D)."""
    B, T, width = x.shape
    return xp.swapaxes(xp.reshape(x, (B, T, heads, width // heads)), 1, 2)


def joined(xp: Any, y: Any) -> Any:
    """Return (B, T, N D) of (B, N, T, D)."""
    B, N, T, size = y.shape
    return xp.reshape(xp.swapaxes(y, 1, 2), (B, T, N * size))


def plain_gelu(xp: Any, x: Any) -> Any:
    """Return GELU in its tanh form."""
    root, cubic, half = (np.float32(c) for c in (math.sqrt(2 / math.pi), 0.044715, 0.5))
    return half * x * (ONE + xp.tanh(root * (x + cubic * x * x * x)))


def plain_gpt(sizes: Sizes, xp: Any, p: Mapping[str, Any], ids: Any, targets: Any) -> Any:
    """Return GPT's loss."""

    def affine(x: Any, name: str) -> Any:
        return xp.matmul(x, p[f"{name}.weight"]) + p[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        x = x - plain_mean(xp, x)
        scale = ONE / xp.sqrt(plain_mean(xp, x * x) + EPS)
        return x * scale * p[f"{name}.weight"] + p[f"{name}.bias"]

    B, T = ids.shape
    width, heads = sizes["width"], sizes["heads"]
    x = p["transformer.wte.weight"][ids] + p["transformer.wpe.weight"][:T]
    for n in range(sizes["blocks"]):
        block = f"transformer.h.{n}"
        qkv = affine(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn")
        q, k, v = (split(xp, qkv[..., i * width : (i + 1) * width], heads) for i in range(3))
        x = x + affine(joined(xp, attend(xp, q, k, v)), f"{block}.attn.c_proj")
        m = plain_gelu(xp, affine(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"))
        x = x + affine(m, f"{block}.mlp.c_proj")
    logits = xp.matmul(norm(x, "transformer.ln_f"), p["transformer.wte.weight"].T)
    return plain_cross_entropy(xp, xp.reshape(logits, (B * T, sizes["V"])), targets.reshape(-1))


def plain_llama(sizes: Sizes, xp: Any, p: Mapping[str, Any], ids: Any, targets: Any) -> Any:
    """Return Llama's loss."""
    T, size = ids.shape[1], sizes["width"] // sizes["heads"]
    cos, sin = rotation(T, size)

    def norm(x: Any, name: str) -> Any:
        scale = ONE / xp.sqrt(plain_mean(xp, x * x) + EPS)
        return x * scale * p[f"{name}.weight"]

    def turned(x: Any) -> Any:
        a, b = x[..., : size // 2], x[..., size // 2 :]
        return xp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = p["model.embed_tokens.weight"][ids]
    for n in range(sizes["blocks"]):
        block = f"model.layers.{n}"
        m = norm(x, f"{block}.input_layernorm")
        q, k, v = (
            split(xp, m @ p[f"{block}.self_attn.{c}_proj.weight"].T, sizes[heads])
            for c, heads in (("q", "heads"), ("k", "kv_heads"), ("v", "kv_heads"))
        )
        shared = sizes["heads"] // sizes["kv_heads"]
        k, v = xp.repeat(turned(k), shared, axis=1), xp.repeat(v, shared, axis=1)
        y = joined(xp, attend(xp, turned(q), k, v))
        x = x + y @ p[f"{block}.self_attn.o_proj.weight"].T
        m = norm(x, f"{block}.post_attention_layernorm")
        gate, up = (m @ p[f"{block}.mlp.{c}_proj.weight"].T for c in ("gate", "up"))
        x = x + (gate / (1 + xp.exp(-gate)) * up) @ p[f"{block}.mlp.down_proj.weight"].T
    logits = norm(x, "model.norm") @ p["lm_head.weight"].T
    return plain_cross_entropy(xp, logits.reshape(-1, sizes["V"]), targets.reshape(-1))


def flops(matrices: Callable[[Sizes], int], sizes: Sizes) -> float:
    """Return those of the products, a causal layer's by half; a backward has twice a forward's."""
    T = sizes["steps"]
    attention = sizes["blocks"] * 2 * 2 * T * sizes["width"] / 2
    return 3.0 * sizes["batch"] * T * (2 * matrices(sizes) + attention)


def gpt_matrices(sizes: Sizes) -> int:
    """Return how many weights a token meets in GPT."""
    return sizes["width"] * (12 * sizes["blocks"] * sizes["width"] + sizes["V"])


def llama_matrices(sizes: Sizes) -> int:
    """Return how many weights a token meets in Llama."""
    E, inner = sizes["width"], -(-8 * sizes["width"] // 24) * 8
    block = 2 * E * E + 2 * E * E * sizes["kv_heads"] // sizes["heads"] + 3 * E * inner
    return sizes["blocks"] * block + E * sizes["V"]


def gpt_row(name: str, small: Mapping[str, int], *others: str, **sizes: int) -> Row:
    """Return a row of GPT."""
    contenders: dict[str, Callable[[Task], Work]] = {
        "npllm": partial(npllm, gpt_of),
        "torch": partial(torch, torch_gpt),
        "torch.compile": partial(torch, torch_gpt, compiled=True),
        "jax": lambda task: jax_training(task, partial(plain_gpt, task.sizes), DECAY),
        "autograd": lambda task: autograd_training(task, partial(plain_gpt, task.sizes), DECAY),
        "mygrad": lambda task: mygrad_training(task, partial(plain_gpt, task.sizes), DECAY),
    }
    contenders = {n: c for n, c in contenders.items() if n in ("npllm", "torch", "jax", *others)}
    return Row(
        name,
        "training",
        sizes,
        lambda sizes: training_inputs(gpt_of(sizes), sizes),
        contenders,
        {**sizes, **small},
        partial(flops, gpt_matrices),
        quick=name == "gpt",
    )


LLAMA = {"V": 32_000, "context": 256, "width": 512, "blocks": 8, "heads": 8, "kv_heads": 4}
LLAMA |= {"batch": 2, "steps": 256}

ROWS = (
    gpt_row(
        "gpt",
        {"batch": 2, "steps": 16},
        *("torch.compile", "autograd", "mygrad"),
        V=65,
        context=64,
        width=128,
        blocks=4,
        heads=4,
        batch=12,
        steps=64,
    ),
    gpt_row(
        "gpt2",
        {"V": 1000, "width": 96, "blocks": 2, "batch": 2, "steps": 16},
        V=50_257,
        context=1024,
        width=768,
        blocks=12,
        heads=12,
        batch=4,
        steps=64,
    ),
    Row(
        "llama",
        "training",
        LLAMA,
        lambda sizes: training_inputs(llama_of(sizes), sizes),
        {
            "npllm": partial(npllm, llama_of),
            "torch": partial(torch, torch_llama),
            "jax": lambda task: jax_training(task, partial(plain_llama, task.sizes), DECAY),
        },
        {**LLAMA, "V": 1000, "width": 64, "blocks": 2, "steps": 16},
        partial(flops, llama_matrices),
    ),
)
