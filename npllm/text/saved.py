"""Tokenizers as they are kept with a model, whichever their kind."""

from __future__ import annotations

from npllm.files import Json
from npllm.text.bpe import BytePairTokenizer
from npllm.text.chinese import JiebaTokenizer
from npllm.text.tokenizers import (
    CharacterTokenizer,
    LabelTokenizer,
    TrainedTokenizer,
    WhitespaceTokenizer,
    WordTokenizer,
    check_header,
)

_KINDS = (
    CharacterTokenizer,
    WordTokenizer,
    JiebaTokenizer,
    WhitespaceTokenizer,
    LabelTokenizer,
)


def tokenizer_from_dict(saved: Json) -> TrainedTokenizer:
    """Return the tokenizer that ``to_dict`` described.

    Raises:
        ValueError: it is no tokenizer of npllm, or of a later version.
    """
    saved = check_header(saved)
    kind, vocabulary = saved.get("kind"), saved.get("vocabulary")
    if kind == BytePairTokenizer.kind:
        return BytePairTokenizer.from_dict(saved)
    kinds = {kind.kind: kind for kind in _KINDS}
    if kind not in kinds or not isinstance(vocabulary, list):
        known = ", ".join([*kinds, BytePairTokenizer.kind])
        raise ValueError(f"the tokenizer must be one of {known}, got {kind!r}")
    tokens = [token for token in vocabulary if isinstance(token, str)]
    if len(tokens) < len(vocabulary):
        raise ValueError("the tokenizer's vocabulary must hold strings")
    return kinds[kind](tokens)
