"""WordPiece: a word in the longest tokens that begin what is left of it.

Wu et al., "Google's Neural Machine Translation System" (2016), section 4.1, and BERT's code: words
(:mod:`npllm.text.bert_words`) are cut from the left, each time by the longest token of the
vocabulary that fits; one that goes on within a word is written ``##ing``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from npllm.text.bert_words import BertWords
from npllm.text.tokenizers import Ids

CACHED_WORDS = 1 << 15
# a text is nicer to read without the space before these
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


class WordPieceTokenizer:
    """Words in pieces, the longest first.

    Args:
        vocabulary: the token of each id.
        words: cuts a text into words; None for BERT's way, without case and accents.
        special: texts of tokens that are recognised in a text only on demand.
        unknown: the token of a word that cannot be made of tokens.
        prefix: of tokens that go on within a word.
        longest_word: in characters; one with more is unknown.
        template: special tokens before a text, and behind it.
        cleanup: whether :meth:`decode` leaves out the space before some marks.

    Raises:
        ValueError: a token is empty or there twice; ``unknown``, ``special`` or ``template`` names
            none.

    >>> tokens = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "!"]
    >>> tokenizer = WordPieceTokenizer(tokens, template=(["[CLS]"], ["[SEP]"]))
    >>> tokenizer.encode("Unaffable! Affable").tolist()
    [3, 4, 5, 6, 0]
    >>> tokenizer.encode_whole("unable").tolist()
    [1, 3, 5, 2]
    >>> tokenizer.decode([3, 4, 5, 6])
    'unaffable!'
    """

    kind: ClassVar[str] = "wordpiece"

    def __init__(
        self,
        vocabulary: Sequence[str],
        words: BertWords | None = None,
        *,
        special: Iterable[str] = (),
        unknown: str = "[UNK]",
        prefix: str = "##",
        longest_word: int = 100,
        template: tuple[Sequence[str], Sequence[str]] = ((), ()),
        cleanup: bool = True,
    ) -> None:
        self.vocabulary = tuple(vocabulary)
        self.words = BertWords() if words is None else words
        self.prefix, self.longest_word, self.cleanup = prefix, longest_word, cleanup
        self._ids: dict[str, int] = {}
        for i, token in enumerate(self.vocabulary):
            if not token:
                raise ValueError(f"token {i} is empty")
            if (first := self._ids.setdefault(token, i)) != i:
                raise ValueError(f"tokens {first} and {i} are both {token!r}")
        self.unknown = self._named(unknown, "unknown")
        self.special = {text: self._named(text, "special") for text in special}
        before, behind = template
        self.before = [self._named(text, "special") for text in before]
        self.behind = [self._named(text, "special") for text in behind]
        longest_first = sorted(self.special, key=len, reverse=True)
        self._special_pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._pieces = _Pieces(self._ids, self.unknown, prefix, longest_word)

    def encode(self, text: str, special: bool = False) -> Ids:
        """Return the ids of a text.

        Args:
            text: any without lone surrogates.
            special: recognise special tokens in the text, where several begin the longest.

        Raises:
            ValueError: the text holds a lone surrogate.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"character {error.start} is the lone surrogate {text[error.start]!r}, which is "
                "no character: remove it"
            ) from None
        parts = self._special_pattern.split(text) if special and self.special else [text]
        ids: list[int] = []
        for number, part in enumerate(parts):
            if number % 2:  # what the pattern matched lies between what it did not
                ids.append(self.special[part])
            else:
                for word in self.words.split(part):
                    ids += self._pieces[word]
        return np.array(ids, np.int64)

    def encode_whole(self, text: str, most: int | None = None) -> Ids:
        """Return the ids of a text, with those that the template puts before and behind it.

        Special tokens in the text are recognised.

        Args:
            text: see :meth:`encode`.
            most: how many ids to return at most: the text is cut at its end, never the template.

        Raises:
            ValueError: the text holds a lone surrogate; ``most`` has no room for the template.
        """
        ids, around = self.encode(text, special=True), len(self.before) + len(self.behind)
        if most is not None:
            if most < around:
                raise ValueError(f"most must be {around} or more, got {most}")
            ids = ids[: most - around]
        return np.array([*self.before, *ids, *self.behind], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of ids, a space between.

        It is what was encoded but for case and accents (as ``words`` leaves them out), white space,
        control characters and unknown words.

        Raises:
            ValueError: an id is not in [0, V).
        """
        text: list[str] = []
        for i in ids:
            if not 0 <= i < len(self.vocabulary):
                raise ValueError(f"ids must lie in [0, {len(self.vocabulary)}), got {i}")
            token = self.vocabulary[i]
            if text:
                goes_on = token.startswith(self.prefix)
                token = token.removeprefix(self.prefix) if goes_on else f" {token}"
            if self.cleanup:
                for written, read in _CLEANED:
                    token = token.replace(written, read)
            text.append(token)
        return "".join(text)

    def _named(self, token: str, kind: str) -> int:
        if token not in self._ids:
            raise ValueError(f"the vocabulary lacks the {kind} token {token!r}")
        return self._ids[token]


class _Pieces(dict[str, list[int]]):
    """The ids of a word; those of many words are remembered."""

    def __init__(self, ids: Mapping[str, int], unknown: int, prefix: str, longest: int) -> None:
        super().__init__()
        self._ids, self._unknown, self._prefix = ids, unknown, prefix
        self._longest_word, self._longest_token = longest, max(map(len, ids))

    def __missing__(self, word: str) -> list[int]:
        if len(self) >= CACHED_WORDS:
            self.clear()
        made = self[word] = self._cut(word)
        return made

    def _cut(self, word: str) -> list[int]:
        if len(word) > self._longest_word:
            return [self._unknown]
        found: list[int] = []
        start, prefix = 0, ""
        while start < len(word):
            for end in range(min(len(word), start + self._longest_token), start, -1):
                if (i := self._ids.get(prefix + word[start:end])) is not None:
                    break
            else:
                return [self._unknown]
            found.append(i)
            start, prefix = end, self._prefix
        return found
