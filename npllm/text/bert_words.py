"""A text into the words that WordPiece cuts up, as BERT's authors do it.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2018), and its code: control
characters go, CJK characters are words of their own, case and accents go, and what is left is cut
at white space and around punctuation.

The characters' classes are those of tokenizers 0.23, which has them from three places: categories
of Unicode 8, decompositions of Unicode 9, small letters of Unicode 17. What Python's own, later or
earlier tables say otherwise is listed below, up to Unicode 18, so that words do not depend on
Python's version. One difference may come: a Python that knows capitals of Unicode 18 makes them
small here, and tokenizers does not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable


def _any_of(ranges: str) -> re.Pattern[str]:
    """Return what finds a character of ranges such as "5C8-5C9 61D"."""
    ends = [[chr(int(end, 16)) for end in span.split("-")] for span in ranges.split()]
    return re.compile(f"([{''.join(f'{span[0]}-{span[-1]}' for span in ends)}])")


# In these ranges Unicode 8 has no punctuation, no mark and no control character; later it has.
_ORDINARY = _any_of(
    "5C8-5C9 61D 7FD 890-8E2 9FD-9FE A76 AFA-AFF B53-B55 C04-C3C C77 C84 D00 D3B-D3C D81 EBA ECE "
    "180F-1886 1ABF-1AF0 1B4E-1B4F 1B7D-1B7F 1DF6-1DFB 2E43-2E63 A82C A8C5 A8FF A9BD 10D24-10F89 "
    "11070-11074 110C2-110CD 111CF 1123E-11241 1133B 113BB-1145E 11660-1166C 116B9 1182F-11FFF "
    "12FF1-1612F 16D6D-16F4F 16FE2-16FE4 1CF00-1D128 1D25B-1D25C 1E000-1E6F5 1E944-1E95F"
)
# characters that later became something else than they were in Unicode 8
_CHANGED = {"\u166d": "Po", "\u1734": "Mn", "\U000111c9": "Po", "\U0001171e": "Mn"}
# In these ranges nothing decomposes or changes places with a neighbour in Unicode 9; later it does.
_INERT = _any_of(
    "5C8-5C9 7FD 897-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1AF0 1DF6-1DFA A82C 105C9-105E4 10D24-10F85 "
    "11070 1133B 11383-113D0 1145E 11839-11A99 11D42-1612F 16D68-16FF1 1D127-1D128 1D250-1D281 "
    "1E08F-1E6F5"
)
# capitals of Unicode 14 to 17, which Python 3.10 to 3.14 lack: first, last, step, to the small one
_LATER_CAPITALS = (
    (0x1C89, 0x1C89, 1, 1),
    (0x2C2F, 0x2C2F, 1, 0x30),
    (0xA7C0, 0xA7C0, 1, 1),
    (0xA7CB, 0xA7CB, 1, 0x264 - 0xA7CB),
    (0xA7CC, 0xA7DA, 2, 1),
    (0xA7DC, 0xA7DC, 1, 0x19B - 0xA7DC),
    (0x10570, 0x1057A, 1, 0x27),
    (0x1057C, 0x1058A, 1, 0x27),
    (0x1058C, 0x10592, 1, 0x27),
    (0x10594, 0x10595, 1, 0x27),
    (0x10D50, 0x10D65, 1, 0x20),
    (0x16EA0, 0x16EB8, 1, 0x1B),
)
_SMALL = {
    chr(code): chr(code + far)
    for first, last, step, far in _LATER_CAPITALS
    for code in range(first, last + 1, step)
}
_CHINESE = _any_of("3400-4DBF 4E00-9FFF F900-FAFF 20000-2A6DF 2A700-2B81F 2B920-2CEAF 2F800-2FA1F")
_PLAIN_SPACES = "\t\n\r"  # which are control characters by category
_SEPARATORS = "\v\f\x85"  # those too, and they are no space to the first step
_SYMBOLS = "$+<=>^`|~"  # of ASCII; to BERT they are punctuation


class BertWords:
    """The split of a text into words.

    Args:
        clean: leave out control characters and U+FFFD.
        chinese: make each CJK character a word.
        strip_accents: leave out marks; where None, if ``lowercase``.
        lowercase: make letters small.

    >>> BertWords().split("Crème brûlée: 5€!")
    ['creme', 'brulee', ':', '5€', '!']
    >>> BertWords(lowercase=False).split("Crème 日本")
    ['Crème', '日', '本']
    """

    def __init__(
        self,
        clean: bool = True,
        chinese: bool = True,
        strip_accents: bool | None = None,
        lowercase: bool = True,
    ) -> None:
        self.clean, self.chinese, self.lowercase = clean, chinese, lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self._cleaned = _Table(self._clean)
        self._cut = _Table(self._cut_at)

    def split(self, text: str) -> list[str]:
        """Return the words of a text."""
        text = text.translate(self._cleaned)
        if self.strip_accents:
            text = _decomposed(text)
        # no other white space is left: split() alone would cut at U+001C to U+001F too
        return [word for word in text.translate(self._cut).split(" ") if word]

    def _clean(self, c: str) -> str:
        """Return what the first step, before accents are set apart, makes of a character."""
        if self.clean:
            if c in _PLAIN_SPACES or _category(c) in ("Zs", "Zl", "Zp"):
                return " "
            if c == "\ufffd" or _category(c) in ("Cc", "Cf", "Co", "Cs"):
                return ""
        return f" {c} " if self.chinese and _CHINESE.match(c) else c

    def _cut_at(self, c: str) -> str:
        """Return what the second step makes of a character; spaces set words apart."""
        if self.strip_accents and _category(c) == "Mn":
            return ""
        if c in _PLAIN_SPACES + _SEPARATORS or _category(c) in ("Zs", "Zl", "Zp"):
            return " "
        if c in _SYMBOLS or _category(c).startswith("P"):
            return f" {c} "
        return (_SMALL.get(c) or c.lower()) if self.lowercase else c


class _Table(dict[int, str]):
    """What a function makes of each character, found once; ``str.translate`` reads it."""

    def __init__(self, make: Callable[[str], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, code: int) -> str:
        made = self[code] = self._make(chr(code))
        return made


def _category(c: str) -> str:
    """Return a character's category in Unicode 8, as far as words depend on it."""
    if c in _CHANGED:
        return _CHANGED[c]
    return "Lo" if _ORDINARY.match(c) else unicodedata.category(c)


def _decomposed(text: str) -> str:
    """Return the text in Unicode 9's form NFD: letters and their accents apart."""
    parts = _INERT.split(text)  # such characters stand between parts, and are as they are
    parts[::2] = (unicodedata.normalize("NFD", part) for part in parts[::2])
    return "".join(parts)
