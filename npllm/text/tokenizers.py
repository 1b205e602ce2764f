"""Tokenizers: text to ids and back, without loss.

``decode(encode(text)) == text`` for every text over the vocabulary's characters. There are no
special tokens, so nothing is ever stripped from a text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from npllm.files import Json

Ids = npt.NDArray[np.int64]

_ASCII_WORD = re.compile(r"[^ \t\n\r\v\f\0]+")

FORMAT = "npllm-tokenizer"
VERSION = 1


class Tokenizer(Protocol):
    """What training and generation need of a tokenizer."""

    kind: ClassVar[str]
    vocabulary: tuple[str, ...]

    def encode(self, text: str) -> Ids:
        """Return the ids of a text."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids."""


def encode_whole(tokenizer: Tokenizer, text: str) -> Ids:
    """Return the ids of a text that stands alone, with what its tokenizer puts around it."""
    whole: Callable[[str], Ids] = getattr(tokenizer, "encode_whole", tokenizer.encode)
    return whole(text)


def said_around(tokenizer: Tokenizer) -> str:
    """Return what a tokenizer puts around a text, in words; nothing where that is nothing."""
    said = []
    for where, place in (("before", "before"), ("behind", "behind")):
        if ids := getattr(tokenizer, where, ()):
            said.append(f"{tokenizer.decode(ids)} {place}")
    return f"the tokenizer puts {' and '.join(said)} the text" if said else ""


@runtime_checkable
class TrainedTokenizer(Tokenizer, Protocol):
    """A tokenizer that can be kept with the model that learned from its tokens."""

    def to_dict(self) -> dict[str, Json]:
        """Return what :func:`npllm.text.tokenizer_from_dict` makes the same tokenizer of."""


class _Vocabulary:
    """Tokens numbered from 0."""

    kind: ClassVar[str]

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        distinct = set(self.vocabulary)
        if not distinct or len(distinct) != len(self.vocabulary) or "" in distinct:
            raise ValueError("a vocabulary must hold distinct, non-empty tokens, and at least one")

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids: their tokens, one after the other.

        Raises:
            ValueError: an id is not in [0, V).
        """
        tokens = []
        for i in ids:
            if not 0 <= i < len(self.vocabulary):
                raise ValueError(f"ids must lie in [0, {len(self.vocabulary)}), got {i}")
            tokens.append(self.vocabulary[i])
        return "".join(tokens)

    def to_dict(self) -> dict[str, Json]:
        """Return what makes the same tokenizer again, as JSON can hold it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "vocabulary": list(self.vocabulary),
        }


class CharacterTokenizer(_Vocabulary):
    """Every character a token.

    >>> tokenizer = CharacterTokenizer.train("banana")
    >>> tokenizer.vocabulary, tokenizer.encode("nab").tolist()
    (('a', 'b', 'n'), [2, 0, 1])
    >>> tokenizer.decode([1, 0, 2])
    'ban'
    """

    kind = "character"

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__(vocabulary)
        if any(len(token) != 1 for token in vocabulary):
            raise ValueError("a character vocabulary must hold single characters")
        codes = _codes("".join(vocabulary))
        self._order = np.argsort(codes)
        self._sorted_codes = codes[self._order]
        self.characters = frozenset(self.vocabulary)

    @classmethod
    def train(cls, text: str) -> CharacterTokenizer:
        """Return the tokenizer of all characters in a text, in code order."""
        return cls(sorted(set(text)))

    def encode(self, text: str) -> Ids:
        """Return the id of each character.

        Raises:
            ValueError: a character is not in the vocabulary; the message names it.
        """
        codes = _codes(text)
        nearest = np.searchsorted(self._sorted_codes, codes)
        nearest[nearest == len(self._sorted_codes)] = 0
        if (unknown := self._sorted_codes[nearest] != codes).any():
            raise _unknown_characters(text, unknown)
        return self._order[nearest]


class WordTokenizer(_Vocabulary):
    """Frequent words a token each; a rare word is spelled in characters.

    A word carries the space before it. Since every character of the corpus is a token too, there
    is no unknown word, and bits per character compare with those of any other tokenizer.

    >>> tokenizer = WordTokenizer.train("to be or not to be", size=10)
    >>> [tokenizer.vocabulary[i] for i in tokenizer.encode("to be not")]
    ['t', 'o', ' be', ' ', 'n', 'o', 't']
    """

    kind = "word"
    PIECES = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?!\S)|\s")

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__(vocabulary)
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        self.characters = frozenset(token for token in self.vocabulary if len(token) == 1)

    @staticmethod
    def pieces(text: str) -> Iterable[str]:
        """Return the words of a text, and what stands between, which together are the text."""
        return WordTokenizer.PIECES.findall(text)

    @classmethod
    def train(cls, text: str, size: int = 10_000, alphabet: str | None = None) -> WordTokenizer:
        """Return the tokenizer of the characters and the most frequent words of a text.

        Args:
            text: words are taken from it where they occur twice or more.
            size: the vocabulary's, at most.
            alphabet: characters that must be there, those of ``text`` where None.

        Raises:
            ValueError: the characters alone exceed ``size``.
        """
        characters = sorted(set(text if alphabet is None else alphabet) | set(text))
        if len(characters) > size:
            raise ValueError(
                f"a vocabulary of {size} cannot hold the text's {len(characters)} characters"
            )
        counts = Counter(piece for piece in cls.pieces(text) if len(piece) > 1)
        frequent = sorted((-n, word) for word, n in counts.items() if n > 1)
        return cls([*characters, *(word for _, word in frequent[: size - len(characters)])])

    def encode(self, text: str) -> Ids:
        """Return the ids of the words, or of the characters of words that are no token.

        Raises:
            ValueError: a character is not in the vocabulary; the message names it.
        """
        ids: list[int] = []
        for piece in self.pieces(text):
            tokens = (piece,) if piece in self._ids else piece
            try:
                ids.extend(self._ids[token] for token in tokens)
            except KeyError:
                raise _unknown_characters(text, [c not in self._ids for c in text]) from None
        return np.array(ids, np.int64)


class WhitespaceTokenizer(_Vocabulary):
    r"""A line a sentence, its words set apart by white space, a rare word unknown.

    It is what the tools of n-gram models take a text for: ``</s>`` ends a line, and ``<unk>`` is
    every word that is not in the vocabulary, so that of a text with such words not all comes back.

    >>> tokenizer = WhitespaceTokenizer.train("to be\nor not to be\n", size=4)
    >>> tokenizer.vocabulary
    ('</s>', '<unk>', 'be', 'to')
    >>> tokenizer.decode(tokenizer.encode("to be\nor"))
    'to be \n<unk> '
    """

    kind = "whitespace"
    END, UNKNOWN = "</s>", "<unk>"

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__(vocabulary)
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        if self.END not in self._ids:
            raise ValueError(f"a vocabulary of words in lines must hold {self.END}")

    @classmethod
    def train(cls, text: str, size: int = 10_000) -> WhitespaceTokenizer:
        """Return the tokenizer of the most frequent words of a text.

        Args:
            text: where all words are taken from.
            size: the vocabulary's, at most.

        Raises:
            ValueError: ``size`` has no room for a word beside the two marks.
        """
        if size < 3:
            raise ValueError(f"a vocabulary of lines needs 3 words or more, got {size}")
        counts = Counter(_words(text))
        for mark in (cls.END, cls.UNKNOWN):
            counts.pop(mark, None)
        frequent = sorted((-n, word) for word, n in counts.items())
        return cls([cls.END, cls.UNKNOWN, *(word for _, word in frequent[: size - 2])])

    def encode(self, text: str) -> Ids:
        """Return the ids of the words, and of the end of each line that has one.

        Raises:
            ValueError: a word is not in the vocabulary, and ``<unk>`` neither.
        """
        ids: list[int] = []
        unknown = self._ids.get(self.UNKNOWN)
        for number, line in enumerate(text.split("\n")):
            if number:
                ids.append(self._ids[self.END])
            for word in _words(line):
                found = self._ids.get(word, unknown)
                if found is None:
                    raise ValueError(
                        f"the vocabulary lacks the word {word!r:.80}, and has no <unk>"
                    )
                ids.append(found)
        return np.array(ids, np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of ids, a space behind each, and an end of a line for its mark.

        Raises:
            ValueError: an id is not in [0, V).
        """
        end = self._ids[self.END]
        words = (super(WhitespaceTokenizer, self).decode([i]) if i != end else "\n" for i in ids)
        return "".join(word if word == "\n" else f"{word} " for word in words)


class LabelTokenizer(_Vocabulary):
    """The names of classes: a label is one token.

    >>> LabelTokenizer(["negative", "positive"]).encode("positive").tolist()
    [1]
    """

    kind = "labels"

    def encode(self, text: str) -> Ids:
        """Return the id of a label.

        Raises:
            ValueError: there is no such label.
        """
        if text not in self.vocabulary:
            raise ValueError(
                f"there is no label {text!r:.80}; there are {', '.join(self.vocabulary)}"
            )
        return np.array([self.vocabulary.index(text)])


def check_header(saved: Json) -> dict[str, Json]:
    """Return what was saved of a tokenizer.

    Raises:
        ValueError: it is none, or of another version of npllm.
    """
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ValueError("this is no npllm tokenizer")
    if saved.get("version") != VERSION:
        raise ValueError(
            f"the tokenizer has version {saved.get('version')}, this npllm reads {VERSION}: "
            "use the npllm that wrote it, or a later one"
        )
    return saved


def _words(text: str) -> list[str]:
    """Return what is set apart by white space of ASCII, as the tools have it."""
    return _ASCII_WORD.findall(text)


def _codes(text: str) -> npt.NDArray[np.uint32]:
    """Return the code point of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _unknown_characters(text: str, unknown: Iterable[bool]) -> ValueError:
    lacking = dict.fromkeys(c for c, is_unknown in zip(text, unknown, strict=True) if is_unknown)
    shown = ", ".join(map(repr, list(lacking)[:5])) + (", ..." if len(lacking) > 5 else "")
    return ValueError(f"the vocabulary lacks {shown}: use characters of the text it was trained on")
