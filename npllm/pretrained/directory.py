"""Directories of transformers: config.json, and safetensors in one file or in several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from npllm.files import Json, read_json, write_json
from npllm.layers.arrays import Array
from npllm.models import GPT, Llama
from npllm.pretrained.names import unpermuted
from npllm.pretrained.transformers_config import read_architecture, write_config
from npllm.pretrained.weights import read_model
from npllm.safetensors_file import SafetensorsFile, save_weights
from npllm.tensor_file import TensorFile, TensorInfo
from npllm.text import BytePairTokenizer, tokenizer_json

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


def read_directory(directory: Path, dtype: npt.DTypeLike = np.float32) -> GPT | Llama:
    """Return the model of a directory.

    Args:
        directory: with config.json and the weights.
        dtype: float32 or float64.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is corrupt, the config describes no model of npllm, or the weights do
            not fit it. The message names the file.
    """
    path = directory / "config.json"
    try:
        architecture = read_architecture(read_object(path))
    except ValueError as error:
        prefix = "" if str(error).startswith(str(path)) else f"{path}: "
        raise ValueError(f"{prefix}{error}") from None
    return read_model(open_weights(directory), architecture, dtype)


def save_pretrained(
    directory: str | os.PathLike[str],
    model: GPT | Llama,
    config: Mapping[str, Json] | None = None,
    tokenizer: BytePairTokenizer | None = None,
) -> None:
    """Write config.json, model.safetensors and tokenizer.json, which transformers loads.

    Args:
        directory: is made where it is missing; its files of these names are replaced.
        model: whose weights are written; a Llama of interleaved pairs in transformers' layout, and
            one with a window as what transformers calls a Mistral.
        config: what config.json should say besides, as ``{"eos_token_id": 2}``.
        tokenizer: for tokenizer.json; none is written where None.

    Raises:
        OSError: the files cannot be written.
        TypeError: the model is neither a GPT nor a Llama.
        ValueError: its dtype is neither float32 nor float64.
    """
    described = {**write_config(model), **(config or {})}
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # a tied head is the embedding, which is written once
    arrays: dict[str, Array] = {name: model.parameters[name] for name in model.parameters.shapes}
    if model.config.get("interleaved"):
        for name in arrays:
            for projection, heads in (("q_proj", "heads"), ("k_proj", "kv_heads")):
                if name.endswith(f"self_attn.{projection}.weight"):
                    arrays[name] = unpermuted(arrays[name], model.config[heads])
    save_weights(directory / _WEIGHTS, arrays)
    (directory / _INDEX).unlink(missing_ok=True)  # of what was there before
    if tokenizer is not None:
        write_json(directory / "tokenizer.json", tokenizer_json(tokenizer))
    write_json(directory / "config.json", described)


def open_weights(directory: Path) -> TensorFile:
    """Return a directory's weights.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is corrupt.
    """
    if (directory / _WEIGHTS).exists():
        return SafetensorsFile(directory / _WEIGHTS)
    if (directory / _INDEX).exists():
        return _Shards(directory / _INDEX)
    pickled = "; its pickled weights are not read" if any(directory.glob("*.bin")) else ""
    raise FileNotFoundError(f"{directory} holds neither {_WEIGHTS} nor {_INDEX}{pickled}")


class _Shards:
    """safetensors files that an index holds together.

    The index is the authority: of each file what it takes from there is read, and nothing else.
    """

    types = SafetensorsFile.types

    def __init__(self, index: Path) -> None:
        self.path = os.fspath(index)
        places = read_object(index).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise ValueError(f"{index} is corrupt: it has no weight_map")
        self.tensors: dict[str, TensorInfo] = {}
        self._files: dict[str, SafetensorsFile] = {}
        shards = dict(places)
        for shard in dict.fromkeys(map(str, shards.values())):
            if Path(shard).name != shard or shard not in shards.values():
                raise ValueError(f"{index} is corrupt: {shard!r:.80} is no name of a file")
            opened = SafetensorsFile(index.parent / shard)
            for name in (name for name, place in shards.items() if place == shard):
                if name not in opened.tensors:
                    raise ValueError(
                        f"{index} is corrupt: {shard!r:.80} does not hold {name!r:.80}"
                    )
                self.tensors[name], self._files[name] = opened.tensors[name], opened

    def load(self, name: str, dtype: npt.DTypeLike = np.float32) -> Array:
        """Return a tensor's numbers."""
        return self._files[name].load(name, dtype)


def read_object(path: Path) -> dict[str, Json]:
    """Return a JSON file's object.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is truncated, no JSON or no object.
    """
    try:
        value = read_json(path)
    except RecursionError:
        raise ValueError(f"{path} is no JSON file of use: it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no JSON object")
    return value
