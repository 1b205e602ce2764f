"""Byte-level byte pair encoding: any text in tokens of bytes, frequent sequences a token each.

A text is cut into pieces (:mod:`npllm.text.pretokenizers`); a piece starts as its UTF-8 bytes, and
neighbours are joined, the pair that was learned first always first, until no pair of neighbours was
learned. P. Gage (1994), A New Algorithm for Data Compression; R. Sennrich, B. Haddow and A. Birch
(2016), Neural Machine Translation of Rare Words with Subword Units; A. Radford et al. (2019),
Language Models are Unsupervised Multitask Learners, for the bytes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, TypeVar, cast

import numpy as np

from npllm.files import Json
from npllm.text.bpe_merging import PieceEncoder, as_bytes
from npllm.text.bpe_training import learn_merges
from npllm.text.byte_letters import from_letters, to_letters
from npllm.text.long_words import Pair
from npllm.text.pretokenizers import check_split, pretokenize
from npllm.text.tokenizers import FORMAT, VERSION, Ids, check_header

Entry = TypeVar("Entry")


class BytePairTokenizer:
    """Tokens of bytes, joined by rank.

    Args:
        token_bytes: of each id its bytes; of a special token its text in UTF-8.
        merges: pairs of ids, first learned first. Their joined bytes must be a token too.
        pretokenizer: "gpt2" or "smollm".
        special: texts of tokens that are recognised in a text only on demand.
        unknown: the id for a byte that is no token; where None it is dropped, as tokenizers does.

    Attributes:
        padding: how many ids a model's tables have behind the tokens, to be of a round size: a
            model may draw one, and it is no text.
        before: ids that are put before a text that stands alone, see :meth:`encode_whole`.
        behind: ids that are put behind it.

    Raises:
        ValueError: a token is empty or there twice; a merge or ``special`` names none; an id is not
            in [0, V).

    >>> tokenizer = BytePairTokenizer.train("low lower lowest", size=260)
    >>> ids = tokenizer.encode("slow")
    >>> ids.tolist(), [tokenizer.vocabulary[i] for i in ids]
    ([82, 257], ['s', 'low'])
    >>> tokenizer.decode(ids)
    'slow'
    """

    kind: ClassVar[str] = "bpe"

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        merges: Sequence[Pair],
        pretokenizer: str = "gpt2",
        special: Iterable[str] = (),
        unknown: int | None = None,
    ) -> None:
        check_split(pretokenizer)
        self.token_bytes = tuple(token_bytes)
        self.vocabulary = tuple(token.decode("utf-8", "replace") for token in self.token_bytes)
        self.merges = tuple(merges)
        self.pretokenizer = pretokenizer
        self.unknown = unknown
        self.padding = 0
        self.before: tuple[int, ...] = ()
        self.behind: tuple[int, ...] = ()
        ids = _numbered(self.token_bytes)
        joined = [self._join(ids, number, pair) for number, pair in enumerate(self.merges)]
        if unknown is not None:
            self._check(unknown)
        of_byte = [ids.get(bytes([byte]), unknown) for byte in range(256)]
        self._encoder = PieceEncoder(self.merges, joined, of_byte)
        self.special = _specials(ids, special)
        longest_first = sorted(self.special, key=len, reverse=True)
        self._special_pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    @classmethod
    def train(
        cls, text: str, size: int, pretokenizer: str = "gpt2", special: Iterable[str] = ()
    ) -> BytePairTokenizer:
        """Return the tokenizer of special tokens, the bytes and the most frequent pairs.

        Ids are numbered in that order, bytes by their byte-level letters, as in tokenizers. Ties go
        to the pair of smaller ids.

        Args:
            text: where pairs are counted. A special token in it counts as any other text.
            size: the vocabulary's, at most: fewer where no pair is left.
            pretokenizer: "gpt2" or "smollm".
            special: texts of the special tokens.

        Raises:
            ValueError: the bytes and special tokens alone exceed ``size``; the pre-tokenizer is
                unknown; the text holds a lone surrogate.
        """
        _check_surrogates(text)
        special = tuple(special)
        alphabet = sorted((bytes([byte]) for byte in range(256)), key=to_letters)
        tokens = [*(token.encode() for token in special), *alphabet]
        if size < len(tokens):
            raise ValueError(
                f"a vocabulary of {size} cannot hold the {len(tokens)} bytes and special tokens: "
                f"let it have {len(tokens)} or more"
            )
        merges = learn_merges(pretokenize(text, pretokenizer), tokens, size)
        return cls(tokens, merges, pretokenizer, special)

    def encode(self, text: str, special: bool = False) -> Ids:
        """Return the ids of a text.

        Args:
            text: any without lone surrogates, which UTF-8 has no bytes for.
            special: recognise special tokens in the text, where several begin the longest.

        Raises:
            ValueError: the text holds a lone surrogate.
        """
        _check_surrogates(text)
        if not (special and self.special):
            return _ids(self._encode(text))
        encoded = bytearray()
        for number, part in enumerate(self._special_pattern.split(text)):
            is_special = number % 2  # what the pattern matched lies between what it did not
            encoded += as_bytes([self.special[part]]) if is_special else self._encode(part)
        return _ids(encoded)

    def encode_whole(self, text: str) -> Ids:
        """Return the ids of a text that stands alone, with those that are put around it.

        Raises:
            ValueError: the text holds a lone surrogate.
        """
        return np.array([*self.before, *self.encode(text), *self.behind], np.int64)

    def encode_bytes(self, data: bytes) -> Ids:
        """Return the ids of bytes: those of their text where they are UTF-8.

        What is not UTF-8 is split as symbols are. ``decode_bytes(encode_bytes(data)) == data``
        where every byte is a token.
        """
        return _ids(self._encode(data.decode("utf-8", "surrogateescape")))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, U+FFFD where their bytes are not UTF-8.

        Raises:
            ValueError: an id is not in [0, V).
        """
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of ids: their tokens, one after the other.

        Raises:
            ValueError: an id is not in [0, V).
        """
        tokens = []
        for i in ids:
            if i < len(self.token_bytes) or i >= len(self.token_bytes) + self.padding:
                self._check(i)
                tokens.append(self.token_bytes[i])
        return b"".join(tokens)

    def to_dict(self) -> dict[str, Json]:
        """Return what :meth:`from_dict` makes the same tokenizer of, as JSON can hold."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "vocabulary": [to_letters(token) for token in self.token_bytes],
            "merges": [list(pair) for pair in self.merges],
            "pretokenizer": self.pretokenizer,
            "special": list(self.special),
            "unknown": self.unknown,
            "before": list(self.before),
            "behind": list(self.behind),
        }

    @classmethod
    def from_dict(cls, saved: Json) -> BytePairTokenizer:
        """Return the tokenizer that :meth:`to_dict` described.

        Raises:
            ValueError: it is no byte pair tokenizer of npllm, or of a later version.
        """
        saved = check_header(saved)
        if saved.get("kind") != cls.kind:
            raise ValueError(f"the tokenizer must be of kind {cls.kind}, got {saved.get('kind')!r}")
        vocabulary = _entries(saved, "vocabulary", str)
        merges = _entries(saved, "merges", list)
        special = _entries(saved, "special", str)
        if not all(len(pair) == 2 and all(type(i) is int for i in pair) for pair in merges):
            raise ValueError("the tokenizer's merges must be pairs of ids")
        if not isinstance(unknown := saved.get("unknown"), int | None):
            raise ValueError(f"the tokenizer's unknown must be an id or null, got {unknown!r}")
        made = cls(
            [from_letters(token) for token in vocabulary],
            [(left, right) for left, right in merges],
            str(saved.get("pretokenizer")),
            special,
            unknown,
        )
        before, behind = (
            saved.get(name, []) for name in ("before", "behind")
        )  # older ones lack it
        made.put_around(before, behind)
        return made

    def put_around(self, before: Json, behind: Json) -> None:
        """Set ``before`` and ``behind``.

        Raises:
            ValueError: they are no lists of ids.
        """
        for name, ids in {"before": before, "behind": behind}.items():
            if not isinstance(ids, list) or not all(type(i) is int for i in ids):
                raise ValueError(f"the tokenizer's {name} must be a list of ids, got {ids!r:.80}")
            own = [i for i in ids if isinstance(i, int)]
            for i in own:
                self._check(i)
            setattr(self, name, tuple(own))

    def _check(self, i: int) -> None:
        if not 0 <= i < len(self.token_bytes):
            raise ValueError(f"ids must lie in [0, {len(self.token_bytes)}), got {i}")

    def _join(self, ids: dict[bytes, int], number: int, pair: Pair) -> int:
        """Return the id of the token that a merge makes."""
        for i in pair:
            self._check(i)
        left, right = (self.token_bytes[i] for i in pair)
        if (joined := ids.get(left + right)) is None:
            raise ValueError(
                f"merge {number} joins {to_letters(left)!r} and {to_letters(right)!r}, but the "
                f"vocabulary lacks {to_letters(left + right)!r}"
            )
        return joined

    def _encode(self, text: str) -> bytearray:
        """Return the ids of a text without special tokens, as bytes: no loop but C's."""
        pieces = pretokenize(text, self.pretokenizer)
        return bytearray().join(map(self._encoder.__getitem__, pieces))


class StreamDecoder:
    """Text of ids that come one at a time, never a part of a character.

    >>> tokenizer = BytePairTokenizer.train("", size=256)
    >>> stream = StreamDecoder(tokenizer)
    >>> [stream.push(i) for i in tokenizer.encode("é!")], stream.close()
    (['', 'é', '!'], '')
    """

    def __init__(self, tokenizer: BytePairTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, i: int) -> str:
        """Return the characters that an id completes."""
        return self._decoder.decode(self._tokenizer.decode_bytes((i,)))

    def close(self) -> str:
        """Return U+FFFD where a character was left incomplete; the next id begins a new text."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def _ids(encoded: bytearray) -> Ids:
    return np.frombuffer(encoded, np.int64)


def _numbered(token_bytes: Sequence[bytes]) -> dict[bytes, int]:
    """Return the id of each token."""
    ids: dict[bytes, int] = {}
    for i, token in enumerate(token_bytes):
        if not token:
            raise ValueError(f"token {i} is empty")
        if (first := ids.setdefault(token, i)) != i:
            raise ValueError(f"tokens {first} and {i} are both {to_letters(token)!r}")
    return ids


def _specials(ids: dict[bytes, int], special: Iterable[str]) -> dict[str, int]:
    found = {}
    for text in special:
        if (i := ids.get(text.encode())) is None:
            raise ValueError(f"the vocabulary lacks the special token {text!r}")
        found[text] = i
    return found


def _check_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is the lone surrogate {text[error.start]!r}, which has "
            "no UTF-8: remove it, or encode_bytes the text's bytes"
        ) from None


def _entries(saved: Mapping[str, Json], name: str, of: type[Entry]) -> list[Entry]:
    """Return what was saved under a name, a list with entries of one type."""
    entries = saved.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, of) for entry in entries):
        raise ValueError(f"the tokenizer's {name} must be a list of {of.__name__}")
    return cast("list[Entry]", entries)
