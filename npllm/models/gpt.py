"""GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    dropout_backward,
    dropout_forward,
    gelu_backward,
    gelu_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
    multi_head_attention_backward,
    multi_head_attention_forward,
)
from npllm.layers.activations import GeluCache
from npllm.layers.arrays import Array, check_floats, split_last
from npllm.layers.dropout import DropoutCache
from npllm.layers.linear import LinearCache
from npllm.layers.multi_head_attention import (
    KeysAndValues,
    MultiHeadAttentionCache,
    multi_head_attention_weights,
)
from npllm.layers.norm import LayerNormCache
from npllm.layers.pieces import Pieces
from npllm.models.language_model import check_options, check_positive, check_sizes
from npllm.models.transformer import BlockOptions, Transformer


class GPTBlockCache(NamedTuple):
    """The caches of the block's layers, in the order in which they run."""

    ln_1: LayerNormCache | Pieces
    c_attn: LinearCache
    attention: MultiHeadAttentionCache
    c_proj: LinearCache
    dropped: DropoutCache
    ln_2: LayerNormCache | Pieces
    c_fc: LinearCache
    gelu: GeluCache | Pieces
    mlp_proj: LinearCache
    mlp_dropped: DropoutCache


def gpt_block_forward(
    x: Array,
    p: Mapping[str, Array],
    heads: int,
    *,
    past: KeysAndValues | None = None,
    options: BlockOptions = BlockOptions(),  # noqa: B008 (it cannot change)
    eps: float = 1e-5,
) -> tuple[tuple[Array, KeysAndValues], GPTBlockCache]:
    """Add to x what attention makes of it, and to that what two linear maps make of it.

    With ln a layer norm and its own parameters each time::

        x = x + dropout(proj(attention(ln(x))))
        x = x + dropout(proj(gelu(fc(ln(x)))))

    Args:
        x: (B, T, E).
        p: the block's parameters, by the names of the public checkpoints; their matrices are
            (I, O), not torch's (O, I).
        heads: N.
        past: see :func:`npllm.layers.multi_head_attention_forward`.
        options: what all blocks of a call share.
        eps: of the layer norms.

    Returns:
        (x, (keys, values)) and the cache of :func:`gpt_block_backward`.
    """
    check_floats(x=x, **p)
    a, ln_1 = layer_norm_forward(x, p["ln_1.weight"], p["ln_1.bias"], eps=eps)
    qkv, c_attn = linear_forward(a, p["attn.c_attn.weight"].T, p["attn.c_attn.bias"])  # (B, T, 3E)
    q, k, v = split_last(qkv, 3)
    (y, kept), attention = multi_head_attention_forward(
        q,
        k,
        v,
        heads,
        past=past,
        sight=options.sight,
        dropout=options.dropout,
        rng=options.rng,
        tiled=options.tiled,
    )
    y, c_proj = linear_forward(y, p["attn.c_proj.weight"].T, p["attn.c_proj.bias"])  # (B, T, E)
    y, dropped = dropout_forward(y, p=options.dropout, rng=options.rng)
    x = x + y
    m, ln_2 = layer_norm_forward(x, p["ln_2.weight"], p["ln_2.bias"], eps=eps)
    m, c_fc = linear_forward(m, p["mlp.c_fc.weight"].T, p["mlp.c_fc.bias"])  # (B, T, 4E)
    m, gelu = gelu_forward(m, approximate="tanh")
    m, mlp_proj = linear_forward(m, p["mlp.c_proj.weight"].T, p["mlp.c_proj.bias"])  # (B, T, E)
    m, mlp_dropped = dropout_forward(m, p=options.dropout, rng=options.rng)
    return (x + m, kept), GPTBlockCache(
        ln_1, c_attn, attention, c_proj, dropped, ln_2, c_fc, gelu, mlp_proj, mlp_dropped
    )


def gpt_block_backward(
    dy: tuple[Array, KeysAndValues | None], cache: GPTBlockCache
) -> tuple[Array, dict[str, Array]]:
    """Return dx, and the gradients of the block's parameters by name.

    Args:
        dy: (dx, (dkeys, dvalues)), shaped as the forward's result; None in place of the pair.
        cache: what :func:`gpt_block_forward` returned.
    """
    ln_1, c_attn, attention, c_proj, dropped, ln_2, c_fc, gelu, mlp_proj, mlp_dropped = cache
    dx, dkept = dy
    g: dict[str, Array] = {}
    # x = x + dropout(proj(gelu(fc(ln_2(x)))))
    dm = dropout_backward(dx, mlp_dropped)
    dm, g["mlp.c_proj.weight"], g["mlp.c_proj.bias"] = linear_backward(dm, mlp_proj)
    dm = gelu_backward(dm, gelu)
    dm, g["mlp.c_fc.weight"], g["mlp.c_fc.bias"] = linear_backward(dm, c_fc)
    dm, g["ln_2.weight"], g["ln_2.bias"] = layer_norm_backward(dm, ln_2)
    dx = dx + dm
    # x = x + dropout(proj(attention(ln_1(x))))
    da = dropout_backward(dx, dropped)
    da, g["attn.c_proj.weight"], g["attn.c_proj.bias"] = linear_backward(da, c_proj)
    dqkv = np.concatenate(multi_head_attention_backward((da, dkept), attention), axis=-1)
    da, g["attn.c_attn.weight"], g["attn.c_attn.bias"] = linear_backward(dqkv, c_attn)
    da, g["ln_1.weight"], g["ln_1.bias"] = layer_norm_backward(da, ln_1)
    # y = linear(x, weight.T)
    return dx + da, {n: d.T if d.ndim == 2 else d for n, d in g.items()}


def gpt_block_weights(cache: GPTBlockCache) -> Array:
    """Return the attention weights, (B, N, T, P + T), of what :func:`gpt_block_forward` kept."""
    return multi_head_attention_weights(cache.attention)


class GPT(Transformer):
    """GPT-2's architecture, with the parameter names of its public checkpoints.

    Learned positions, layer norm before each half of a block and after the last block, GELU in its
    tanh form, biases everywhere but in the head, which is the token embedding.

    Args:
        vocab_size: V.
        context: how many positions there are.
        width: E.
        num_layers: L, blocks on top of one another.
        heads: N, which divides E.
        dropout: probability of zeroing an element of the embedding's output, of an attention's
            weights and of what each half of a block adds; in effect where a Generator is passed.
        eps: of the layer norms.
        seed: of the initial weights, or a Generator to draw them from: normal with standard
            deviation 0.02, divided by sqrt(2 L) in the maps whose outputs are added up; biases 0.
            None leaves all of them zero, for those that are to be loaded.
        dtype: float32, float64 or, for the complex step, complex128.

    Raises:
        ValueError: a size is not a positive integer, the heads do not divide the width, dropout is
            not in [0, 1), or the dtype is another.

    >>> model = GPT(vocab_size=7, context=4, width=6, num_layers=2, heads=3)
    >>> logits, memory = model.predict(np.array([[1, 2, 3]]))
    >>> again, _ = model.predict(np.array([[3]]), model.predict(np.array([[1, 2]]))[1])
    >>> logits.shape, bool(np.allclose(again[:, 0], logits[:, 2], atol=1e-6))
    ((1, 3, 7), True)
    """

    CHOICES: ClassVar[tuple[str, ...]] = ("context", "width", "num_layers", "heads", "dropout")
    TOKENS = "transformer.wte.weight"
    POSITIONS = "transformer.wpe.weight"
    BLOCK = "transformer.h.{}."
    BLOCK_SIZES = ("heads", "eps")
    NORM = ("transformer.ln_f.weight", "transformer.ln_f.bias")
    HEAD = "lm_head.weight"
    block_forward = staticmethod(gpt_block_forward)
    block_backward = staticmethod(gpt_block_backward)
    block_weights = staticmethod(gpt_block_weights)

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        num_layers: int,
        heads: int,
        dropout: float = 0.0,
        eps: float = 1e-5,
        *,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        sizes = {
            "vocab_size": vocab_size,
            "context": context,
            "width": width,
            "num_layers": num_layers,
            "heads": heads,
        }
        config: dict[str, Any] = {
            **check_sizes(sizes),
            "dropout": float(dropout),
            "eps": float(eps),
        }
        check_options(dropout, dtype)
        check_positive(eps=eps)
        if width % heads:
            raise ValueError(f"heads must divide width={width}, got {heads}")
        block: dict[str, tuple[int, ...]] = {}
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            block |= {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}
        for name in ("ln_1", "ln_2"):
            block |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        super().__init__(config, block, True, dtype)
        if seed is not None:
            self._initialize(np.random.default_rng(seed))

    def _initialize(self, rng: np.random.Generator) -> None:
        for name in self.parameters.shapes:
            array = self.parameters[name]
            if array.ndim == 1:
                array[...] = float(name.endswith("weight"))  # a norm's gain; a bias
                continue
            added = name.endswith("c_proj.weight")
            std = 0.02 / math.sqrt(2 * self.config["num_layers"]) if added else 0.02
            array[...] = std * rng.standard_normal(array.shape)

    def norm_forward(self, x: Array) -> tuple[Array, LayerNormCache | Pieces]:
        """Apply the last layer norm."""
        weight, bias = (self.parameters[name] for name in self.NORM)
        return layer_norm_forward(x, weight, bias, eps=self.config["eps"])

    def norm_backward(self, dy: Array, cache: LayerNormCache | Pieces) -> tuple[Array, ...]:
        """Return dx, dweight and dbias."""
        return layer_norm_backward(dy, cache)
