"""Tokenizers made from a text, by the names that a run's options have for them."""

from __future__ import annotations

from npllm.text.bpe import BytePairTokenizer
from npllm.text.chinese import JiebaTokenizer
from npllm.text.tokenizers import (
    CharacterTokenizer,
    TrainedTokenizer,
    WhitespaceTokenizer,
    WordTokenizer,
)

# those of a limited vocabulary
SIZED = ("word", "jieba", "bpe", "whitespace")


def make_tokenizer(kind: str, train: str, whole: str, size: int) -> TrainedTokenizer:
    """Return a tokenizer: words of what is learned from, characters of all of the text.

    Args:
        kind: "character", or one of :data:`SIZED`.
        train: what is learned from.
        whole: that, and what is held out.
        size: tokens at most, but of characters.

    Raises:
        ValueError: the characters alone exceed the size, or jieba is missing.
    """
    if kind == "whitespace":
        return WhitespaceTokenizer.train(train, size)
    if kind == "bpe":
        return BytePairTokenizer.train(train, size)
    if kind == "word":
        return WordTokenizer.train(train, size, alphabet=whole)
    if kind == "jieba":
        return JiebaTokenizer.train(train, size, alphabet=whole)
    return CharacterTokenizer.train(whole)


def known(tokenizer: TrainedTokenizer, text: str) -> str:
    """Return a text without the characters that a vocabulary lacks, and no white space for them.

    >>> known(WordTokenizer.train("to be"), "to bee or ! not")
    'to bee o ot'
    """
    lacking = set(unknown(tokenizer, text))
    if not lacking:
        return text
    return " ".join("".join(c for c in text if c not in lacking).split())


def unknown(tokenizer: TrainedTokenizer, text: str) -> tuple[str, ...]:
    """Return the characters of a text that a vocabulary lacks, each once.

    >>> unknown(WordTokenizer.train("to be"), "to bee or not")
    ('r', 'n')
    """
    if not isinstance(tokenizer, (CharacterTokenizer, WordTokenizer)):
        return ()  # bytes lack none, and lines have a mark for them
    return tuple(c for c in dict.fromkeys(text) if c not in tokenizer.characters)
