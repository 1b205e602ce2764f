"""The names and the layout of public weights, and how they become a model's parameters.

transformers' names are the models' own. GGUF has others, and another layout: torch's (O, I) where
GPT-2 has (I, O), and in Llama the rows of every head of q and k so permuted that the two of a
rotary pair are neighbours. They are brought back here: ``model.parameters`` is transformers' state
dict, wherever it came from.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from npllm.layers.arrays import Array
from npllm.models import GPT, Llama

_GPT_MAPS = {
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_GGUF_BLOCK = {
    "gpt": {**_GPT_MAPS, "ln_1": "attn_norm", "ln_2": "ffn_norm"},
    "llama": {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
}
_GGUF_OUTSIDE = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_BLOCK = re.compile(r"(?:transformer\.h|model\.layers)\.(\d+)\.(.+)")
# the matrices, by their names within a block, that GGUF has the other way round
GGUF_TRANSPOSED = {"gpt": {f"{module}.weight" for module in _GPT_MAPS}, "llama": set()}


class Architecture(NamedTuple):
    """What a file says it holds.

    Attributes:
        kind: "gpt" or "llama".
        config: what that model is made with.
    """

    kind: str
    config: dict[str, Any]

    @property
    def model_class(self) -> type[GPT] | type[Llama]:
        """The class of the model."""
        return GPT if self.kind == "gpt" else Llama


def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter, as the model would have it, without making it.

    >>> sizes = dict(vocab_size=7, context=4, width=6, num_layers=1, heads=3)
    >>> parameter_shapes(Architecture("gpt", sizes))["transformer.h.0.attn.c_attn.weight"]
    (6, 18)
    """
    kind, c = architecture
    E, layers = c["width"], range(c["num_layers"])
    if kind == "gpt":
        block: dict[str, tuple[int, ...]] = {
            **{f"{norm}.{part}": (E,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")},
            "attn.c_attn.weight": (E, 3 * E),
            "attn.c_attn.bias": (3 * E,),
            "attn.c_proj.weight": (E, E),
            "attn.c_proj.bias": (E,),
            "mlp.c_fc.weight": (E, 4 * E),
            "mlp.c_fc.bias": (4 * E,),
            "mlp.c_proj.weight": (4 * E, E),
            "mlp.c_proj.bias": (E,),
        }
        outside = {
            "transformer.wte.weight": (c["vocab_size"], E),
            "transformer.wpe.weight": (c["context"], E),
            "transformer.ln_f.weight": (E,),
            "transformer.ln_f.bias": (E,),
        }
    else:
        inner = c["hidden_size"]
        queries, keys = c["heads"] * c["head_size"], c["kv_heads"] * c["head_size"]
        block = {
            "input_layernorm.weight": (E,),
            "self_attn.q_proj.weight": (queries, E),
            "self_attn.k_proj.weight": (keys, E),
            "self_attn.v_proj.weight": (keys, E),
            "self_attn.o_proj.weight": (E, queries),
            "post_attention_layernorm.weight": (E,),
            "mlp.gate_proj.weight": (inner, E),
            "mlp.up_proj.weight": (inner, E),
            "mlp.down_proj.weight": (E, inner),
        }
        outside = {"model.embed_tokens.weight": (c["vocab_size"], E), "model.norm.weight": (E,)}
        if not c["tie_weights"]:
            outside["lm_head.weight"] = (c["vocab_size"], E)
    prefix = architecture.model_class.BLOCK
    return outside | {prefix.format(n) + name: block[name] for n in layers for name in block}


def gguf_name(name: str, kind: str) -> str:
    """Return GGUF's name for a parameter.

    >>> gguf_name("model.layers.3.self_attn.q_proj.weight", "llama")
    'blk.3.attn_q.weight'
    """
    module, _, part = name.rpartition(".")
    if match := _BLOCK.fullmatch(module):
        return f"blk.{match[1]}.{_GGUF_BLOCK[kind][match[2]]}.{part}"
    return f"{_GGUF_OUTSIDE[module]}.{part}"


def unpermuted(rows: Array, heads: int) -> Array:
    """Return the rows of q or k with the pairs of each head apart, as transformers has them.

    GGUF's rows of a head are (a0, b0, a1, b1, ...), transformers' (a0, a1, ..., b0, b1, ...).

    >>> import numpy as np
    >>> unpermuted(np.arange(8), 2).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def within_block(name: str) -> str:
    """Return a parameter's name within its block; of one outside, the name.

    >>> within_block("transformer.h.3.mlp.c_fc.weight")
    'mlp.c_fc.weight'
    """
    match = _BLOCK.fullmatch(name)
    return match[2] if match else name
