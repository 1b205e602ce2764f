"""config.json of transformers, for GPT-2 and Llama: to what npllm's models are made with, and back.

What a file says beyond what the models have is refused, unless it leaves the logits alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from npllm.files import Json, is_number
from npllm.layers.rotary import SCALINGS
from npllm.models import GPT, Llama
from npllm.pretrained.names import Architecture

_OLD_CONTEXT = "original_max_position_embeddings"


def read_architecture(config: Mapping[str, Json]) -> Architecture:
    """Return the architecture that a config describes.

    GPT's dropout is the file's rate where its three rates agree, else 0; Llama's is 0.

    Args:
        config: of a GPT-2, a Llama or a Mistral, which is a Llama with a window.

    Raises:
        ValueError: it is another architecture, or one with parts that npllm's models have not; a
            value is missing or of the wrong kind. The message names the key.

    >>> read_architecture({"model_type": "gpt2", "n_layer": 6}).config["num_layers"]
    6
    """
    keys = Keys(config)
    keys.must_be("quantization_config", None)
    kind = config.get("model_type")
    if kind == "gpt2":
        return Architecture("gpt", _gpt(keys))
    if kind in ("llama", "mistral"):
        return Architecture("llama", _llama(keys))
    raise ValueError(f"model_type is {kind!r:.80}; gpt2, llama and mistral are read")


def write_config(model: GPT | Llama) -> dict[str, Json]:
    """Return the config with which transformers makes the same model.

    Args:
        model: whose config is written.

    Raises:
        TypeError: it is neither a GPT nor a Llama.
    """
    c = model.config
    # of tokens a model knows nothing; left out, they would be those of one published model
    known: dict[str, Json] = {"bos_token_id": None, "eos_token_id": None}
    known["dtype"] = model.parameters.vector.dtype.name
    if isinstance(model, GPT):
        return {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": c["vocab_size"],
            "n_positions": c["context"],
            "n_embd": c["width"],
            "n_layer": c["num_layers"],
            "n_head": c["heads"],
            "activation_function": "gelu_new",
            "layer_norm_epsilon": c["eps"],
            **dict.fromkeys(_DROPOUTS, c["dropout"]),
            "tie_word_embeddings": True,
            **known,
        }
    if not isinstance(model, Llama):
        raise TypeError(f"transformers has no {type(model).__name__}; a GPT or a Llama is written")
    # transformers' Llama has no window; its Mistral is a Llama with one
    kind, name = ("llama", "Llama") if c["window"] is None else ("mistral", "Mistral")
    return {
        "model_type": kind,
        "architectures": [f"{name}ForCausalLM"],
        "vocab_size": c["vocab_size"],
        "max_position_embeddings": c["context"],
        "hidden_size": c["width"],
        "intermediate_size": c["hidden_size"],
        "num_hidden_layers": c["num_layers"],
        "num_attention_heads": c["heads"],
        "num_key_value_heads": c["kv_heads"],
        "head_dim": c["head_size"],
        "hidden_act": "silu",
        "rms_norm_eps": c["eps"],
        "rope_theta": c["rope_base"],
        "rope_scaling": c["rope_scaling"],
        **({"sliding_window": c["window"]} if kind == "mistral" else {}),
        "tie_word_embeddings": c["tie_weights"],
        **known,
    }


class Keys:
    """A config, checked as it is asked for; a ValueError names the key."""

    def __init__(self, config: Mapping[str, Json]) -> None:
        self.config = config

    def size(self, key: str, default: int | None = None) -> int:
        """Return a positive integer."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < 1:
            raise self._wrong(key, "a positive integer", value)
        return value

    def number(self, key: str, default: float) -> float:
        """Return a positive number."""
        value = self.config.get(key)
        value = default if value is None else value
        if not is_number(value) or not (0 < value < math.inf):
            raise self._wrong(key, "a positive number", value)
        return float(value)

    def rate(self, key: str, default: float) -> float:
        """Return a number in [0, 1]."""
        value = self.config.get(key, default)
        if not is_number(value) or not 0 <= value <= 1:
            raise self._wrong(key, "a number in [0, 1]", value)
        return float(value)

    def must_be(self, key: str, *allowed: Json) -> None:
        """Refuse what npllm's models have not; a key that is absent is as the first allowed."""
        value = self.config.get(key, allowed[0])
        if value not in allowed:
            raise self._wrong(key, f"{allowed[0]!r} for npllm's model", value)

    def _wrong(self, key: str, expected: str, value: Json) -> ValueError:
        return ValueError(f"{key} is {value!r:.80}: must be {expected}")


_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def _gpt(keys: Keys) -> dict[str, Json]:
    width = keys.size("n_embd", 768)
    # gelu_new and gelu_pytorch_tanh are two names of one function
    keys.must_be("activation_function", "gelu_new", "gelu_pytorch_tanh")
    keys.must_be("n_inner", None, 4 * width)
    keys.must_be("scale_attn_weights", True)
    keys.must_be("scale_attn_by_inverse_layer_idx", False)
    keys.must_be("add_cross_attention", False)
    keys.must_be("tie_word_embeddings", True)
    rates = {keys.rate(name, 0.1) for name in _DROPOUTS}
    rate = rates.pop() if len(rates) == 1 else 0.0
    return {
        "vocab_size": keys.size("vocab_size", 50257),
        "context": keys.size("n_positions", 1024),
        "width": width,
        "num_layers": keys.size("n_layer", 12),
        "heads": keys.size("n_head", 12),
        "dropout": rate,
        "eps": keys.number("layer_norm_epsilon", 1e-5),
    }


def _llama(keys: Keys) -> dict[str, Json]:
    width, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    keys.must_be("hidden_act", "silu")
    keys.must_be("attention_bias", False, None)
    keys.must_be("mlp_bias", False, None)
    context = keys.size("max_position_embeddings", 2048)
    base, scaling = _rotary(keys, context)
    mistral = keys.config["model_type"] == "mistral"
    # what a Mistral has where the file is silent; transformers' Llama does not read a window
    window = keys.config.get("sliding_window", 4096) if mistral else None
    return {
        "vocab_size": keys.size("vocab_size"),
        "context": context,
        "width": width,
        "num_layers": keys.size("num_hidden_layers"),
        "heads": heads,
        "kv_heads": keys.size("num_key_value_heads", 8 if mistral else heads),
        "hidden_size": keys.size("intermediate_size"),
        "head_size": keys.size("head_dim", max(width // heads, 1)),
        "tie_weights": keys.config.get("tie_word_embeddings") is True,
        "window": None if window is None else keys.size("sliding_window", 4096),
        "rope_base": base,
        "rope_scaling": scaling,
        "eps": keys.number("rms_norm_eps", 1e-6),
    }


def _rotary(keys: Keys, context: int) -> tuple[float, dict[str, Json] | None]:
    """Return the base and the scaling, from what transformers 5 writes or from what 4 did."""
    given = keys.config.get("rope_parameters") or keys.config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise ValueError(f"rope_scaling is {given!r:.80}: must be an object")
    scaling = {name: value for name, value in given.items() if value is not None}
    theta = keys.config.get("rope_theta")
    base = scaling.pop("rope_theta", 10000.0 if theta is None else theta)
    kind = scaling.pop("rope_type", scaling.pop("type", "default"))
    scaling.pop("type", None)
    share = scaling.pop("partial_rotary_factor", keys.config.get("partial_rotary_factor", 1.0))
    if share != 1:
        raise ValueError(f"partial_rotary_factor is {share!r:.80}: must be 1 for npllm's model")
    if kind in ("llama3", "yarn"):
        scaling.setdefault(_OLD_CONTEXT, context)
    if kind == "yarn" and scaling.get("truncate", True) is not True:
        raise ValueError("truncate of the yarn scaling is false: must be true for npllm's model")
    if kind == "yarn" and {"mscale", "mscale_all_dim"} <= set(scaling):
        raise ValueError("mscale of the yarn scaling is not read here")
    if not isinstance(kind, str):
        raise ValueError(f"rope_type is {kind!r:.80}: must be a string")
    if kind in SCALINGS:
        # anything else has no effect in transformers either
        scaling = {name: x for name, x in scaling.items() if name in SCALINGS[kind]}
    numbers: dict[str, float] = {}
    for name, value in {"rope_theta": base, **scaling}.items():
        if not is_number(value) or not (0 < value < math.inf):
            raise ValueError(f"{name} is {value!r:.80}: must be a positive number")
        numbers[name] = value
    base = float(numbers.pop("rope_theta"))
    if kind == "llama3" and numbers.get("high_freq_factor", 4) <= numbers.get("low_freq_factor", 1):
        raise ValueError("high_freq_factor must be above low_freq_factor")
    return base, None if kind == "default" else {"rope_type": kind, **numbers}
