"""The models once more, in torch's layers: the second oracle of the certificate.

Torch is imported where it is needed. The function named as the model's file is its twin: of what
is :class:`Given` it makes torch's :class:`Twin`. It draws dropout masks from NumPy as the model
does, in the same order, and multiplies by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from npllm.evidence.case import Batch, State
from npllm.layers.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor

Dropout: TypeAlias = "Callable[[Tensor], Tensor]"


class Given(NamedTuple):
    """What a twin is made of.

    Attributes:
        config: the model's.
        arrays: its parameters.
        batch: what it sees.
        state: in which it begins; None of a model that carries none.
    """

    config: Mapping[str, Any]
    arrays: Mapping[str, Array]
    batch: Batch
    state: State | None


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


def lstm(given: Given) -> Twin:
    """Run section 5's model, its layers one after the other."""
    import torch

    (p, dropout), config = _ready(given), given.config
    (ids,), layers = given.batch.inputs, config.get("num_layers", 1)
    x = dropout(torch.nn.functional.embedding(torch.tensor(ids.T), p["embedding.weight"]))
    initial = tuple(torch.tensor(a) for a in given.state or ())
    x, final = _recurrent(x, p, "rnn", layers, dropout, initial)
    fc = p["embedding.weight" if config.get("tie_weights") else "fc.weight"]
    logits = torch.nn.functional.linear(dropout(x), fc, p["fc.bias"])
    after = tuple(a.detach().numpy() for a in final)
    return _twin(p, logits.transpose(0, 1), given, after)


def gpt(given: Given) -> Twin:
    """Run GPT-2's equations."""
    import torch

    f = torch.nn.functional
    (p, dropout), config = _ready(given), given.config
    (ids,) = given.batch.inputs
    steps = ids.shape[1]
    seen = torch.ones(steps, steps, dtype=torch.bool).tril()
    x = f.embedding(torch.tensor(ids), p["transformer.wte.weight"])
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
        y = _attend(q, k, v, heads, heads, dropout, seen)
        x = x + dropout(affine(y, "attn.c_proj"))
        m = f.gelu(affine(norm(x, f"{block}.ln_2"), "mlp.c_fc"), approximate="tanh")
        x = x + dropout(affine(m, "mlp.c_proj"))
    logits = norm(x, "transformer.ln_f") @ p["transformer.wte.weight"].T
    return _twin(p, logits, given)


def llama(given: Given) -> Twin:
    """Run Llama's equations, the rotation of a pair as a product of complex numbers."""
    import torch

    f = torch.nn.functional
    (p, dropout), config = _ready(given), given.config
    (ids,) = given.batch.inputs
    steps = ids.shape[1]
    seen = torch.ones(steps, steps, dtype=torch.bool).tril()
    if config.get("window") is not None:
        seen = seen.triu(1 - config["window"])
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

    x = dropout(f.embedding(torch.tensor(ids), p["model.embed_tokens.weight"]))
    for n in range(config["num_layers"]):
        block = f"model.layers.{n}"
        m = norm(x, f"{block}.input_layernorm")
        q, k, v = (m @ p[f"{block}.self_attn.{name}_proj.weight"].T for name in "qkv")
        y = _attend(turned(q), turned(k), v, heads, kv_heads, dropout, seen)
        x = x + dropout(y @ p[f"{block}.self_attn.o_proj.weight"].T)
        m = norm(x, f"{block}.post_attention_layernorm")
        gate, up = (m @ p[f"{block}.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + dropout((f.silu(gate) * up) @ p[f"{block}.mlp.down_proj.weight"].T)
    tied = config.get("tie_weights")
    head = p["model.embed_tokens.weight" if tied else "lm_head.weight"]
    return _twin(p, norm(x, "model.norm") @ head.T, given)


def bag_classifier(given: Given) -> Twin:
    """Run the mean of the words."""
    import torch

    p, dropout = _ready(given)
    ids, lengths = map(torch.tensor, given.batch.inputs)
    e = dropout(torch.nn.functional.embedding(ids, p["embedding.weight"]))
    return _classified(p, _mean(e, lengths), given)


def lstm_classifier(given: Given) -> Twin:
    """Run the LSTM of packed texts, both ways, and the attention over what it returns."""
    import torch

    f = torch.nn.functional
    p, dropout = _ready(given)
    ids, lengths = map(torch.tensor, given.batch.inputs)
    e = dropout(f.embedding(ids.T, p["embedding.weight"]))
    h, _ = _recurrent(e, p, "rnn", given.config.get("num_layers", 1), dropout, None, lengths)
    h = h.transpose(0, 1)
    u = f.linear(h, p["attention.weight"], p["attention.bias"]).tanh()
    scores = f.linear(u, p["context.weight"]).squeeze(-1)
    weights = scores.masked_fill(~_real(lengths, ids.shape[1]), float("-inf")).softmax(-1)
    return _classified(p, torch.bmm(weights.unsqueeze(1), h).squeeze(1), given)


def encoder_classifier(given: Given) -> Twin:
    """Run an encoder's equations, and the mean of what it returns."""
    import torch

    (p, dropout), config = _ready(given), given.config
    ids, lengths = map(torch.tensor, given.batch.inputs)
    e = dropout(torch.nn.functional.embedding(ids, p["embedding.weight"]))
    x = e + p["position.weight"][: ids.shape[1]]
    real = _real(lengths, ids.shape[1])
    for n in range(config["num_layers"]):
        x = _encoder_layer(x, p, f"layers.{n}", config["heads"], dropout, real)
    return _classified(p, _mean(x, lengths), given)


def transformer_translator(given: Given) -> Twin:
    """Run Vaswani et al.'s equations."""
    import torch

    f = torch.nn.functional
    p, dropout = _ready(given)
    layers, heads = given.config["num_layers"], given.config["heads"]
    source, lengths, ids = map(torch.tensor, given.batch.inputs)
    real = _real(lengths, source.shape[1])
    head = p["target.weight"]
    memory = f.embedding(source, p.get("source.weight", head))
    memory = dropout(memory + p["source_position.weight"][: source.shape[1]])
    for n in range(layers):
        memory = _encoder_layer(memory, p, f"encoder.layers.{n}", heads, dropout, real)
    x = dropout(f.embedding(ids, head) + p["target_position.weight"][: ids.shape[1]])
    before = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    for n in range(layers):
        part = f"decoder.layers.{n}"
        a = _attention(x, x, p, f"{part}.self_attn", heads, dropout, before)
        x = _norm(x + dropout(a), p, f"{part}.norm1")
        a = _attention(x, memory, p, f"{part}.multihead_attn", heads, dropout, _keys(real))
        x = _norm(x + dropout(a), p, f"{part}.norm2")
        x = _norm(x + dropout(_feed_forward(x, p, part)), p, f"{part}.norm3")
    return _twin(p, f.linear(x, head, p["head.bias"]), given)


def lstm_translator(given: Given) -> Twin:
    """Run Luong et al.'s equations: the second LSTM begins where the first ended."""
    import torch

    f, layers = torch.nn.functional, given.config.get("num_layers", 1)
    p, dropout = _ready(given)
    source, lengths, ids = map(torch.tensor, given.batch.inputs)
    e = dropout(f.embedding(source.T, p["source.weight"]))
    read, final = _recurrent(e, p, "encoder", layers, dropout, None, lengths)
    memory = read.transpose(0, 1)
    e = dropout(f.embedding(ids.T, p["target.weight"]))
    written, _ = _recurrent(e, p, "decoder", layers, dropout, final)
    h = written.transpose(0, 1)
    scores = h @ p["score.weight"].T @ memory.transpose(1, 2)
    hidden = ~_real(lengths, source.shape[1]).unsqueeze(1)
    context = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ memory
    o = f.linear(torch.cat([context, h], dim=-1), p["joined.weight"]).tanh()
    o = dropout(o.transpose(0, 1)).transpose(0, 1)  # masks are drawn step by step
    return _twin(p, f.linear(o, p["head.weight"], p["head.bias"]), given)


def _ready(given: Given) -> tuple[dict[str, Tensor], Dropout]:
    """Return the parameters, and the dropout of the batch."""
    import torch

    p = {name: torch.tensor(a, requires_grad=True) for name, a in given.arrays.items()}
    return p, _dropout(given.config.get("dropout", 0.0), given.batch.seed)


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


def _recurrent(
    x: Tensor,
    p: Mapping[str, Tensor],
    part: str,
    layers: int,
    dropout: Dropout,
    initial: tuple[Tensor, ...] | None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run the layers of an LSTM one after the other, dropout between; packed where rows end early.

    Returns what the last of them returns (T, B, H), and all final states.
    """
    import torch

    finals = []
    for layer in range(layers):
        own = {n: a for n, a in p.items() if n.startswith(f"{part}.") and f"_l{layer}" in n}
        names = {n: n.removeprefix(f"{part}.").replace(f"_l{layer}", "_l0") for n in own}
        weights = {names[n]: a for n, a in own.items()}
        both = any(name.endswith("_reverse") for name in weights)
        hidden = weights["weight_hh_l0"].shape[1]
        rnn = torch.nn.LSTM(x.shape[-1], hidden, bidirectional=both, dtype=torch.float64)
        begin = None if initial is None else tuple(a[layer : layer + 1] for a in initial)
        given: Any = dropout(x) if layer else x
        if lengths is not None:
            given = torch.nn.utils.rnn.pack_padded_sequence(given, lengths, enforce_sorted=False)
        y, final = torch.func.functional_call(rnn, weights, (given, begin))
        if lengths is not None:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=len(x))
        x = y
        finals.append(final)
    return x, tuple(torch.cat(each) for each in zip(*finals, strict=True))


def _encoder_layer(
    x: Tensor, p: Mapping[str, Tensor], part: str, heads: int, dropout: Dropout, real: Tensor
) -> Tensor:
    """Run the equations of torch's nn.TransformerEncoderLayer."""
    a = _attention(x, x, p, f"{part}.self_attn", heads, dropout, _keys(real))
    x = _norm(x + dropout(a), p, f"{part}.norm1")
    return _norm(x + dropout(_feed_forward(x, p, part)), p, f"{part}.norm2")


def _attention(
    x: Tensor,
    memory: Tensor,
    p: Mapping[str, Tensor],
    part: str,
    heads: int,
    dropout: Dropout,
    seen: Tensor,
) -> Tensor:
    """Run the equations of torch's nn.MultiheadAttention."""
    import torch

    linear = torch.nn.functional.linear
    maps = zip(
        p[f"{part}.in_proj_weight"].chunk(3), p[f"{part}.in_proj_bias"].chunk(3), strict=True
    )
    q, k, v = (linear(a, *each) for a, each in zip((x, memory, memory), maps, strict=True))
    y = _attend(q, k, v, heads, heads, dropout, seen)
    return linear(y, p[f"{part}.out_proj.weight"], p[f"{part}.out_proj.bias"])


def _feed_forward(x: Tensor, p: Mapping[str, Tensor], part: str) -> Tensor:
    """Apply the two linear maps of a block, a GELU between."""
    import torch

    f = torch.nn.functional
    m = f.gelu(f.linear(x, p[f"{part}.linear1.weight"], p[f"{part}.linear1.bias"]))
    return f.linear(m, p[f"{part}.linear2.weight"], p[f"{part}.linear2.bias"])


def _norm(x: Tensor, p: Mapping[str, Tensor], name: str) -> Tensor:
    import torch

    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _real(lengths: Tensor, steps: int) -> Tensor:
    """Return (B, T), which places are not there to fill a row up."""
    import torch

    return torch.arange(steps) < lengths[:, None]


def _keys(real: Tensor) -> Tensor:
    """Return which keys may be seen, as :func:`_attend` has it."""
    return real[:, None, None, None]


def _mean(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean (B, E) of the real places of x (B, T, E)."""
    hidden = ~_real(lengths, x.shape[1])
    return x.masked_fill(hidden.unsqueeze(-1), 0).sum(1) / lengths[:, None]


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    kv_heads: int,
    dropout: Dropout,
    seen: Tensor,
) -> Tensor:
    """Attend in heads, (B, T, N D) and (B, S, K D), key heads shared.

    What is seen broadcasts to (B, K, G, T, S).
    """
    batch, steps = q.shape[:2]
    q = q.reshape(batch, steps, kv_heads, heads // kv_heads, -1).permute(0, 2, 3, 1, 4)
    k, v = (a.reshape(*a.shape[:2], kv_heads, 1, -1).permute(0, 2, 3, 1, 4) for a in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = dropout(scores.masked_fill(~seen, float("-inf")).softmax(-1))
    return (weights @ v).permute(0, 3, 1, 2, 4).flatten(2)


def _classified(p: Mapping[str, Tensor], pooled: Tensor, given: Given) -> Twin:
    """Return what comes of one vector for each text (B, F)."""
    import torch

    scores = torch.nn.functional.linear(pooled, p["fc.weight"], p["fc.bias"])
    return _twin(p, scores, given)


def _twin(
    p: Mapping[str, Tensor],
    logits: Tensor,
    given: Given,
    state: tuple[Array, ...] = (),
) -> Twin:
    """Return what comes of the logits (..., V)."""
    import torch

    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2),
        torch.tensor(given.batch.targets.ravel()),
        label_smoothing=given.config.get("label_smoothing", 0.0),
        reduction="sum",
    )
    found = torch.autograd.grad(loss, list(p.values()))
    gradients = {name: g.numpy() for name, g in zip(p, found, strict=True)}
    return Twin(float(loss.detach()), gradients, state)
