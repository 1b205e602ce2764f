"""The names and the layout of public weights, and how they become a model's parameters.

transformers' names are the models' own. GGUF has others, and another layout: torch's (O, I) where
GPT-2 has (I, O), and in Llama the rows of every head of q and k so permuted that the two of a
rotary pair are neighbours. They are brought back here: ``model.parameters`` is transformers' state
dict, wherever it came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array
from npllm.models import GPT, Llama
from npllm.tensor_file import TensorFile

_NAMED = 5  # tensors in a message, before they are only counted

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
# buffers that files carry along, and what GGUF says of rotary positions beside the metadata
_IGNORED = re.compile(
    r"transformer\.h\.\d+\.attn\.(masked_)?bias|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
    r"|rope_freqs\.weight"
)


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

    >>> unpermuted(np.arange(8), 2).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def read_model(
    file: TensorFile,
    architecture: Architecture,
    dtype: npt.DTypeLike = np.float32,
    *,
    gguf: bool = False,
) -> GPT | Llama:
    """Return a model with a file's weights, which are read one at a time.

    Args:
        file: of the tensors.
        architecture: what they are weights of.
        dtype: float32 or float64.
        gguf: the file has GGUF's names and layout, not transformers'.

    Raises:
        ValueError: tensors are missing or unknown, or have other shapes or types that are not read,
            all of which is found before a model is made; the config makes no model; a head that
            should be the token embedding is not.
    """
    kind, config = architecture
    if config["num_layers"] > len(file.tensors):
        raise ValueError(
            f"{file.path} does not fit: {config['num_layers']} blocks are not made of "
            f"{len(file.tensors)} tensors"
        )
    model_class, shapes = architecture.model_class, parameter_shapes(architecture)
    sources = _sources(file, kind, [*shapes, model_class.HEAD], gguf)
    tokens, head = sources[model_class.TOKENS], sources.pop(model_class.HEAD)
    if model_class.HEAD in shapes:
        sources[model_class.HEAD] = head
    elif tokens not in file.tensors:
        sources[model_class.TOKENS] = head
    elif head in file.tensors and not np.array_equal(file.load(tokens), file.load(head)):
        raise ValueError(f"{file.path} does not fit: {head} is not {tokens}, to which it is tied")
    transposed = {f"{m}.weight" for m in _GPT_MAPS} if gguf and kind == "gpt" else set()
    _check(file, shapes, sources, {head}, transposed)
    try:
        model = model_class(**config, dtype=dtype, seed=_Nothing())
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{file.path} does not describe a model: {error}") from None
    heads = {"q_proj": config["heads"], "k_proj": config.get("kv_heads")} if gguf else {}
    for name, source in sources.items():
        array = file.load(source, dtype)
        if (of := heads.get(name.split(".")[-2])) is not None:
            array = unpermuted(array, of)
        model.parameters[name] = array.T if _within(name) in transposed else array
    return model


def _within(name: str) -> str:
    """Return a parameter's name within its block."""
    match = _BLOCK.fullmatch(name)
    return match[2] if match else name


def _sources(file: TensorFile, kind: str, names: list[str], gguf: bool) -> dict[str, str]:
    """Return the file's name of each parameter."""
    if gguf:
        return {name: gguf_name(name, kind) for name in names}
    # a file of the model without its head has names without the model's
    base = "transformer." if kind == "gpt" else "model."
    bare = not any(name.startswith(base) for name in file.tensors)
    return {name: name.removeprefix(base) if bare else name for name in names}


def _check(
    file: TensorFile,
    shapes: Mapping[str, tuple[int, ...]],
    sources: Mapping[str, str],
    optional: set[str],
    transposed: set[str],
) -> None:
    problems = []
    if missing := [source for source in sources.values() if source not in file.tensors]:
        problems.append(f"it lacks {_listed(missing)}")
    known = {*sources.values(), *optional}
    unknown = [
        name
        for name in file.tensors
        if name not in known
        and not any(_IGNORED.fullmatch(base + name) for base in ("", "transformer.", "model."))
    ]
    if unknown:
        problems.append(f"it holds {_listed(unknown)}, which the model has not")
    wrong = []
    for name, source in sources.items():
        if source not in file.tensors:
            continue
        expected = shapes[name][::-1] if _within(name) in transposed else shapes[name]
        shape, type_name, *_ = file.tensors[source]
        if shape != expected:
            wrong.append(f"{source} has shape {shape} and should have {expected}")
        elif file.types[type_name].read is None:
            wrong.append(f"{source} has type {type_name}, which is not read here")
    if wrong:
        problems.append(_listed(wrong))
    if problems:
        raise ValueError(f"{file.path} does not fit: {'; '.join(problems)}")


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(f"{item:.160}" for item in items[:_NAMED]) + more


class _Nothing(np.random.Generator):
    """Draws zeros: initial weights that would be overwritten take longer than reading a file."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return np.broadcast_to(np.float32(0), size)
