"""Tokenizers as they are kept with a model, whichever their kind."""

from __future__ import annotations

from typing import Any

from npllm.text.bpe import BytePairTokenizer
from npllm.text.tokenizers import (
    CharacterTokenizer,
    TrainedTokenizer,
    WordTokenizer,
    check_header,
)


def tokenizer_from_dict(saved: Any) -> TrainedTokenizer:
    """Return the tokenizer that ``to_dict`` described.

    Raises:
        ValueError: it is no tokenizer of npllm, or of a later version.
    """
    check_header(saved)
    kind, vocabulary = saved.get("kind"), saved.get("vocabulary")
    if kind == BytePairTokenizer.kind:
        return BytePairTokenizer.from_dict(saved)
    kinds = {kind.kind: kind for kind in (CharacterTokenizer, WordTokenizer)}
    if kind not in kinds or not isinstance(vocabulary, list):
        known = ", ".join([*kinds, BytePairTokenizer.kind])
        raise ValueError(f"the tokenizer must be one of {known}, got {kind!r}")
    if not all(isinstance(token, str) for token in vocabulary):
        raise ValueError("the tokenizer's vocabulary must hold strings")
    return kinds[kind](vocabulary)
