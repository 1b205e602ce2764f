"""What a GGUF file's metadata say of its model."""

from __future__ import annotations

import math

import numpy as np

from npllm.files import Json, is_number
from npllm.layers import rotary_frequencies
from npllm.pretrained.gguf import GGUFFile
from npllm.pretrained.gguf_parts import GGUFParts
from npllm.pretrained.names import Architecture


def gguf_architecture(file: GGUFFile | GGUFParts) -> Architecture:
    """Return the architecture that a file's metadata describe.

    Args:
        file: of a Llama or a GPT-2.

    Raises:
        ValueError: it is another architecture, or one with parts that npllm's models have not; a
            value is missing or of the wrong kind. The message names the key.
    """
    kind = file.metadata.get("general.architecture")
    if kind == "llama":
        return Architecture("llama", _llama(_Keys(file, "llama")))
    if kind == "gpt2":
        return Architecture("gpt", _gpt(_Keys(file, "gpt2")))
    raise file.error(f"holds a model of architecture {kind!r:.80}; llama and gpt2 are read")


class _Keys:
    """A file's metadata of one architecture, checked as they are asked for."""

    def __init__(self, file: GGUFFile | GGUFParts, prefix: str) -> None:
        self.file, self.prefix = file, prefix
        self.asked: set[str] = set()

    def get(self, key: str) -> Json:
        self.asked.add(key)
        return self.file.metadata.get(f"{self.prefix}.{key}")

    def size(self, key: str, default: int | None = None) -> int:
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < 1:
            raise self._wrong(key, "a positive integer", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not is_number(value) or not (0 < value < math.inf):
            raise self._wrong(key, "a positive number", value)
        return float(value)

    def must_be(self, key: str, *allowed: Json) -> None:
        value = self.get(key)
        if value is not None and value not in allowed:
            raise self._wrong(key, f"{allowed[0]} for npllm's model", value)

    def refuse_the_rest(self) -> None:
        """Refuse what the file says of attention or of positions and nobody asked for."""
        for full, value in self.file.metadata.items():
            key = full.removeprefix(f"{self.prefix}.")
            if key != full and key.startswith(("attention.", "rope.")) and key not in self.asked:
                raise self.file.error(f"says {full} is {value!r:.80}, which is not read here")

    def _wrong(self, key: str, expected: str, value: Json) -> ValueError:
        return self.file.error(f"says {self.prefix}.{key} is {value!r:.80}: must be {expected}")


def _sizes(keys: _Keys) -> dict[str, int]:
    tokens = keys.file.tensors.get("token_embd.weight")
    if tokens is None or len(tokens.shape) != 2:
        raise keys.file.error("does not fit: it lacks token_embd.weight, a matrix")
    return {
        "vocab_size": tokens.shape[0],
        "context": keys.size("context_length"),
        "width": keys.size("embedding_length"),
        "num_layers": keys.size("block_count"),
        "heads": keys.size("attention.head_count"),
    }


def _gpt(keys: _Keys) -> dict[str, Json]:
    config = _sizes(keys)
    keys.must_be("feed_forward_length", 4 * config["width"])
    keys.must_be("attention.causal", True)
    eps = keys.number("attention.layer_norm_epsilon", 1e-5)
    keys.must_be("attention.head_count_kv", config["heads"])
    keys.refuse_the_rest()
    return {**config, "eps": eps}


def _llama(keys: _Keys) -> dict[str, Json]:
    config = _sizes(keys)
    keys.must_be("expert_count", 0)
    size = keys.size("attention.key_length", max(config["width"] // config["heads"], 1))
    keys.must_be("attention.value_length", size)
    keys.must_be("rope.dimension_count", size)
    base = keys.number("rope.freq_base", 10000.0)
    window = keys.get("attention.sliding_window")
    keys.must_be("attention.causal", True)
    found: dict[str, Json] = {
        **config,
        "kv_heads": keys.size("attention.head_count_kv", config["heads"]),
        "hidden_size": keys.size("feed_forward_length"),
        "head_size": size,
        "tie_weights": "output.weight" not in keys.file.tensors,
        "window": keys.size("attention.sliding_window") if window else None,
        "rope_base": base,
        "rope_scaling": _scaling(keys, size, base, config["context"]),
        "eps": keys.number("attention.layer_norm_rms_epsilon"),
    }
    keys.refuse_the_rest()
    return found


def _scaling(keys: _Keys, size: int, base: float, context: int) -> dict[str, Json] | None:
    keys.get("rope.scaling.finetuned")  # says how it was made, not what it computes
    if "rope_freqs.weight" in keys.file.tensors:
        return _llama3(keys.file, size, base)
    kind = keys.get("rope.scaling.type")
    old = keys.get("rope.scale_linear")  # what files had before there were types
    if kind is None and old is not None:
        return {"rope_type": "linear", "factor": keys.number("rope.scale_linear")}
    keys.must_be("rope.scaling.type", "none", "linear", "yarn")
    if kind in (None, "none"):
        keys.get("rope.scaling.factor")  # of a scaling that is not there
        keys.get("rope.scaling.original_context_length")
        return None
    factor = keys.number("rope.scaling.factor")
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    keys.must_be("rope.scaling.yarn_ext_factor", 1.0)
    sharpening = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": keys.size(
            "rope.scaling.original_context_length", context
        ),
        "beta_fast": keys.number("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": keys.number("rope.scaling.yarn_beta_slow", 1.0),
        "attention_factor": sharpening * keys.number("rope.scaling.attn_factor", 1.0),
    }


def _llama3(file: GGUFFile | GGUFParts, size: int, base: float) -> dict[str, Json]:
    """Return Llama 3's scaling, of which a file has only what each frequency is divided by.

    The slowest are divided by the whole factor; the other numbers are those of every published
    model, and whether they are this one's shows.
    """
    divisors = file.load("rope_freqs.weight", np.float64)
    scaling: dict[str, Json] = {
        "rope_type": "llama3",
        "factor": float(divisors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    if divisors.shape == (size // 2,) and np.isfinite(divisors).all() and divisors.min() > 0:
        expected = rotary_frequencies(size, base)[0] / rotary_frequencies(size, base, scaling)[0]
        if np.allclose(divisors, expected, rtol=1e-5):
            return scaling
    raise file.error("cannot be read: rope_freqs.weight is not of Llama 3's scaling")
