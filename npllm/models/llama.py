"""Llama: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models" (2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    dropout_backward,
    dropout_forward,
    linear_backward,
    linear_forward,
    multi_head_attention_backward,
    multi_head_attention_forward,
    rms_norm_backward,
    rms_norm_forward,
    rotary_table,
    swiglu_backward,
    swiglu_forward,
)
from npllm.layers.arrays import Array, Ids, check_floats
from npllm.layers.dropout import DropoutCache
from npllm.layers.linear import LinearCache
from npllm.layers.multi_head_attention import (
    KeysAndValues,
    MultiHeadAttentionCache,
    Rotary,
    multi_head_attention_weights,
)
from npllm.layers.norm import RMSNormCache
from npllm.layers.pieces import Pieces
from npllm.layers.rotary import Scaling
from npllm.layers.swiglu import SwigluCache
from npllm.models.language_model import check_options, check_positive, check_sizes
from npllm.models.transformer import BlockOptions, Transformer


class AttentionHalf(NamedTuple):
    """The caches of a block's first half, in the order in which its layers run."""

    norm: RMSNormCache | Pieces
    q_proj: LinearCache
    k_proj: LinearCache
    v_proj: LinearCache
    attention: MultiHeadAttentionCache
    o_proj: LinearCache
    dropped: DropoutCache


class GatedHalf(NamedTuple):
    """The caches of a block's second half, in the order in which its layers run."""

    norm: RMSNormCache | Pieces
    gate_proj: LinearCache
    up_proj: LinearCache
    swiglu: SwigluCache | Pieces
    down_proj: LinearCache
    dropped: DropoutCache


class LlamaBlockCache(NamedTuple):
    """What the backward needs of the forward."""

    first: AttentionHalf
    second: GatedHalf


def llama_block_forward(
    x: Array,
    p: Mapping[str, Array],
    heads: int,
    kv_heads: int,
    *,
    past: KeysAndValues | None = None,
    options: BlockOptions = BlockOptions(),  # noqa: B008 (it cannot change)
    eps: float = 1e-5,
) -> tuple[tuple[Array, KeysAndValues], LlamaBlockCache]:
    """Add to x what attention makes of it, and to that what a gated map makes of it.

    With norm an RMS norm and its own gain each time::

        x = x + dropout(o_proj(attention(rotary(q_proj(n)), rotary(k_proj(n)), v_proj(n)))),
            n = norm(x)
        x = x + dropout(down_proj(silu(gate_proj(n)) up_proj(n))), n = norm(x)

    Args:
        x: (B, T, E).
        p: the block's parameters, by the names of the public checkpoints.
        heads: N.
        kv_heads: K.
        past: see :func:`npllm.layers.multi_head_attention_forward`.
        options: what all blocks of a call share.
        eps: of the norms.

    Returns:
        (x, (keys, values)) and the cache of :func:`llama_block_backward`.
    """
    check_floats(x=x, **p)
    a, norm_1 = rms_norm_forward(x, p["input_layernorm.weight"], eps=eps)
    q, q_proj = linear_forward(a, p["self_attn.q_proj.weight"])  # (B, T, N D)
    k, k_proj = linear_forward(a, p["self_attn.k_proj.weight"])  # (B, T, K D)
    v, v_proj = linear_forward(a, p["self_attn.v_proj.weight"])  # (B, T, K D)
    (y, kept), attention = multi_head_attention_forward(
        q,
        k,
        v,
        heads,
        kv_heads=kv_heads,
        rotary=options.rotary,
        past=past,
        sight=options.sight,
        dropout=options.dropout,
        rng=options.rng,
        tiled=options.tiled,
    )
    y, o_proj = linear_forward(y, p["self_attn.o_proj.weight"])  # (B, T, E)
    y, dropped = dropout_forward(y, p=options.dropout, rng=options.rng)
    x = x + y
    m, norm_2 = rms_norm_forward(x, p["post_attention_layernorm.weight"], eps=eps)
    gate, gate_proj = linear_forward(m, p["mlp.gate_proj.weight"])  # (B, T, I)
    up, up_proj = linear_forward(m, p["mlp.up_proj.weight"])  # (B, T, I)
    m, swiglu = swiglu_forward(gate, up)
    m, down_proj = linear_forward(m, p["mlp.down_proj.weight"])  # (B, T, E)
    m, mlp_dropped = dropout_forward(m, p=options.dropout, rng=options.rng)
    first = AttentionHalf(norm_1, q_proj, k_proj, v_proj, attention, o_proj, dropped)
    second = GatedHalf(norm_2, gate_proj, up_proj, swiglu, down_proj, mlp_dropped)
    return (x + m, kept), LlamaBlockCache(first, second)


def llama_block_backward(
    dy: tuple[Array, KeysAndValues | None], cache: LlamaBlockCache
) -> tuple[Array, dict[str, Array]]:
    """Return dx, and the gradients of the block's parameters by name.

    Args:
        dy: (dx, (dkeys, dvalues)), shaped as the forward's result; None in place of the pair.
        cache: what :func:`llama_block_forward` returned.
    """
    first, (norm_2, gate_proj, up_proj, swiglu, down_proj, mlp_dropped) = cache
    norm_1, q_proj, k_proj, v_proj, attention, o_proj, dropped = first
    dx, dkept = dy
    g: dict[str, Array] = {}
    # x = x + dropout(down_proj(swiglu(gate_proj(n), up_proj(n)))), n = norm_2(x)
    dm = dropout_backward(dx, mlp_dropped)
    dm, g["mlp.down_proj.weight"] = linear_backward(dm, down_proj)
    dgate, dup = swiglu_backward(dm, swiglu)
    dn, g["mlp.up_proj.weight"] = linear_backward(dup, up_proj)
    dn_gate, g["mlp.gate_proj.weight"] = linear_backward(dgate, gate_proj)
    dm, g["post_attention_layernorm.weight"] = rms_norm_backward(dn + dn_gate, norm_2)
    dx = dx + dm
    # x = x + dropout(o_proj(attention(q_proj(n), k_proj(n), v_proj(n)))), n = norm_1(x)
    da = dropout_backward(dx, dropped)
    da, g["self_attn.o_proj.weight"] = linear_backward(da, o_proj)
    dq, dk, dv = multi_head_attention_backward((da, dkept), attention)
    dn_q, g["self_attn.q_proj.weight"] = linear_backward(dq, q_proj)
    dn_k, g["self_attn.k_proj.weight"] = linear_backward(dk, k_proj)
    dn_v, g["self_attn.v_proj.weight"] = linear_backward(dv, v_proj)
    da, g["input_layernorm.weight"] = rms_norm_backward(dn_q + dn_k + dn_v, norm_1)
    return dx + da, g


def llama_block_weights(cache: LlamaBlockCache) -> Array:
    """Return the attention weights, (B, N, T, P + T), of what :func:`llama_block_forward` kept."""
    return multi_head_attention_weights(cache.first.attention)


class Llama(Transformer):
    """Llama's architecture, with the parameter names of its public checkpoints.

    Rotary positions, RMS norm before each half of a block and after the last block, SwiGLU, query
    heads that share key and value heads, no biases.

    Args:
        vocab_size: V.
        context: how many positions there are.
        width: E.
        num_layers: L, blocks on top of one another.
        heads: N.
        kv_heads: K, which divides N; N where None.
        hidden_size: I, the width between the maps of a block's second half; where None 8 E / 3,
            rounded up to a multiple of 8, which with three maps is GPT's number of parameters.
        head_size: D, even; E / N where None.
        dropout: as in :class:`npllm.models.GPT`; public models have none.
        tie_weights: the head is the token embedding.
        window: how many positions back a query sees, itself included; all where None.
        rope_base: see :func:`npllm.layers.rotary_frequencies`; so is ``rope_scaling``.
        rope_scaling: see there.
        interleaved: how rotary pairs lie in q and k: see :func:`npllm.layers.rotary_forward`. False
            in the checkpoints of transformers; True in GGUF files, whose rows are permuted.
        eps: of the norms.
        seed: of the initial weights, or a Generator to draw them from: normal with standard
            deviation 0.02. None leaves all of them zero, for those that are to be loaded.
        dtype: float32, float64 or, for the complex step, complex128.

    Raises:
        ValueError: a size is not a positive integer, the sizes do not fit, dropout is not in
            [0, 1), or the dtype is another.

    >>> model = Llama(vocab_size=7, context=4, width=8, num_layers=2, heads=4, kv_heads=2)
    >>> logits, memory = model.predict(np.array([[1, 2, 3]]))
    >>> again, _ = model.predict(np.array([[3]]), model.predict(np.array([[1, 2]]))[1])
    >>> logits.shape, bool(np.allclose(again[:, 0], logits[:, 2], atol=1e-6))
    ((1, 3, 7), True)
    """

    CHOICES: ClassVar[tuple[str, ...]] = (
        "context",
        "width",
        "num_layers",
        "heads",
        "kv_heads",
        "dropout",
        "tie_weights",
        "window",
    )
    TOKENS = "model.embed_tokens.weight"
    POSITIONS = None
    BLOCK = "model.layers.{}."
    BLOCK_SIZES = ("heads", "kv_heads", "eps")
    NORM = ("model.norm.weight",)
    HEAD = "lm_head.weight"
    block_forward = staticmethod(llama_block_forward)
    block_backward = staticmethod(llama_block_backward)
    block_weights = staticmethod(llama_block_weights)

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        num_layers: int,
        heads: int,
        kv_heads: int | None = None,
        hidden_size: int | None = None,
        head_size: int | None = None,
        dropout: float = 0.0,
        tie_weights: bool = False,
        window: int | None = None,
        rope_base: float = 10000.0,
        rope_scaling: Scaling | None = None,
        interleaved: bool = False,
        eps: float = 1e-5,
        *,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        kv_heads = heads if kv_heads is None else kv_heads
        hidden_size = -(-8 * width // 24) * 8 if hidden_size is None else hidden_size
        sizes = check_sizes(
            {
                "vocab_size": vocab_size,
                "context": context,
                "width": width,
                "num_layers": num_layers,
                "heads": heads,
                "kv_heads": kv_heads,
                "hidden_size": hidden_size,
                "head_size": width // max(heads, 1) if head_size is None else head_size,
                **({} if window is None else {"window": window}),
            }
        )
        check_options(dropout, dtype)
        check_positive(eps=eps, rope_base=rope_base)
        if head_size is None and width % heads:
            raise ValueError(f"heads must divide width={width}, got {heads}")
        if heads % kv_heads:
            raise ValueError(f"kv_heads must divide heads={heads}, got {kv_heads}")
        size = sizes["head_size"]
        if size % 2:
            raise ValueError(f"head_size must be even to turn, got {size} ({width=}, {heads=})")
        config: dict[str, Any] = {
            **sizes,
            "dropout": float(dropout),
            "tie_weights": bool(tie_weights),
            "window": sizes.get("window"),
            "rope_base": float(rope_base),
            "rope_scaling": None if rope_scaling is None else dict(rope_scaling),
            "interleaved": bool(interleaved),
            "eps": float(eps),
        }
        block: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (width,),
            "self_attn.q_proj.weight": (heads * size, width),
            "self_attn.k_proj.weight": (kv_heads * size, width),
            "self_attn.v_proj.weight": (kv_heads * size, width),
            "self_attn.o_proj.weight": (width, heads * size),
            "post_attention_layernorm.weight": (width,),
            "mlp.gate_proj.weight": (hidden_size, width),
            "mlp.up_proj.weight": (hidden_size, width),
            "mlp.down_proj.weight": (width, hidden_size),
        }
        super().__init__(config, block, tie_weights, dtype)
        self._table(np.zeros(1))  # a scaling that cannot be is refused here
        if seed is not None:
            self._initialize(np.random.default_rng(seed))

    def _initialize(self, rng: np.random.Generator) -> None:
        for array in map(self.parameters.__getitem__, self.parameters.shapes):
            array[...] = 1 if array.ndim == 1 else 0.02 * rng.standard_normal(array.shape)

    def _table(self, positions: npt.ArrayLike) -> tuple[Array, Array]:
        c, dtype = self.config, self.parameters.vector.real.dtype
        return rotary_table(positions, c["head_size"], c["rope_base"], c["rope_scaling"], dtype)

    def rotary(self, positions: Ids) -> Rotary:
        """Return cosines and sines, (T, D / 2) or (B, 1, T, D / 2), and how the pairs lie."""
        shared = positions if positions.ndim == 1 else positions[:, None]  # by all heads
        return Rotary(*self._table(shared), self.config["interleaved"])

    def norm_forward(self, x: Array) -> tuple[Array, RMSNormCache | Pieces]:
        """Apply the last norm."""
        return rms_norm_forward(x, self.parameters[self.NORM[0]], eps=self.config["eps"])

    def norm_backward(self, dy: Array, cache: RMSNormCache | Pieces) -> tuple[Array, ...]:
        """Return dx and dweight."""
        return rms_norm_backward(dy, cache)
