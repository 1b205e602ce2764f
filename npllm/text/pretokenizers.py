r"""Pre-tokenizers: a text into the pieces that byte pair encoding never joins.

Two splits are known, by name:

* ``gpt2``: ``'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+``.
* ``smollm``: every digit (``\p{N}``) alone, and what lies between the digits split as by ``gpt2``.

``re`` knows no ``\p{L}``, and its ``\s`` takes in U+001C to U+001F, which Unicode does not call
white space. So every character outside ASCII is first replaced by a stand-in of its class, one for
one, and the pattern knows ASCII and the stand-ins alone. Pieces that hold one are then cut from the
text itself.

Letters and numbers are those of Unicode 16, as tiktoken 0.14 and tokenizers 0.23 have them, under
every Python: what an older ``unicodedata`` lacks is listed below. Two differences remain. A Python
later than 3.14 knows letters and numbers of Unicode 17, which they do not. And the digits that
tokenizers sets alone are those of Unicode 17 already: 13 code points, U+11DE0 to U+11DE9 and
U+16FF4 to U+16FF6, are symbols here.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import accumulate

# The stand-ins. The letter is in no contraction, the white space is not the space that a piece may
# begin with, the symbol is not the apostrophe; and none is ASCII, which tells what to cut.
_LETTER, _NUMBER, _SPACE, _SYMBOL = "ª²\xa0¡"

_L, _N, _S = f"A-Za-z{_LETTER}", f"0-9{_NUMBER}", rf"\s{_SPACE}"
_CONTRACTION = r"'(?:[stmd]|re|ve|ll)"

SPLITS = {
    "gpt2": re.compile(
        rf"{_CONTRACTION}| ?[{_L}]+| ?[{_N}]+| ?[^{_S}{_L}{_N}]+|[{_S}]+(?![^{_S}])|[{_S}]+",
        re.ASCII,
    ),
    # a digit ends the piece before it: white space there keeps its last character, as at the end
    "smollm": re.compile(
        rf"{_CONTRACTION}| ?[{_L}]+|[{_N}]| ?[^{_S}{_L}{_N}]+|[{_S}]+(?![^{_S}{_N}])|[{_S}]+",
        re.ASCII,
    ),
}

# assigned in Unicode 14 to 16: unassigned to the unicodedata of Python 3.10 to 3.13
_LATER_LETTERS = (
    "870-887 889-88E 8B5 8C8-8C9 C5D CDD 170D 171F 1B4C 1C89-1C8A 2C2F 2C5F 9FFD-9FFF A7C0-A7C1 "
    "A7CB-A7CD A7D0-A7D1 A7D3 A7D5-A7DC A7F2-A7F4 10570-1057A 1057C-1058A 1058C-10592 10594-10595 "
    "10597-105A1 105A3-105B1 105B3-105B9 105BB-105BC 105C0-105F3 10780-10785 10787-107B0 "
    "107B2-107BA 10D4A-10D65 10D6F-10D85 10EC2-10EC4 10F70-10F81 11071-11072 11075 1123F-11240 "
    "11380-11389 1138B 1138E 11390-113B5 113B7 113D1 113D3 11740-11746 11AB0-11ABF 11BC0-11BE0 "
    "11F02 11F04-11F10 11F12-11F33 12F90-12FF0 1342F 13441-13446 13460-143FA 16100-1611D "
    "16A70-16ABE 16D40-16D6C 18CFF 1AFF0-1AFF3 1AFF5-1AFFB 1AFFD-1AFFE 1B11F-1B122 1B132 1B155 "
    "1DF00-1DF1E 1DF25-1DF2A 1E030-1E06D 1E290-1E2AD 1E4D0-1E4EB 1E5D0-1E5ED 1E5F0 1E7E0-1E7E6 "
    "1E7E8-1E7EB 1E7ED-1E7EE 1E7F0-1E7FE 2A6DE-2A6DF 2B735-2B739 2EBF0-2EE5D 31350-323AF"
)
_LATER_NUMBERS = (
    "10D40-10D49 116D0-116E3 11BF0-11BF9 11F50-11F59 16130-16139 16AC0-16AC9 16D70-16D79 "
    "1CCF0-1CCF9 1D2C0-1D2D3 1E4F0-1E4F9 1E5F1-1E5FA"
)

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def pretokenize(text: str, split: str = "gpt2") -> list[str]:
    """Return the pieces of a text, in order; joined, they are the text.

    Args:
        text: any; a lone surrogate counts as a symbol.
        split: "gpt2" or "smollm".

    Raises:
        ValueError: the split is unknown.

    >>> pretokenize("It's  two dozen: 24")
    ['It', "'s", ' ', ' two', ' dozen', ':', ' 24']
    >>> pretokenize("It's  two dozen: 24", "smollm")
    ['It', "'s", ' ', ' two', ' dozen', ':', ' ', '2', '4']
    """
    check_split(split)
    if text.isascii():
        return SPLITS[split].findall(text)
    pieces = SPLITS[split].findall(_NOT_ASCII.sub(_stand_in, text))
    ends = accumulate(map(len, pieces))
    return [
        piece if piece.isascii() else text[end - len(piece) : end]
        for piece, end in zip(pieces, ends, strict=True)
    ]


def check_split(split: str) -> None:
    """Raise a ValueError where a split is unknown."""
    if split not in SPLITS:
        raise ValueError(f"the pre-tokenizer must be one of {', '.join(SPLITS)}, got {split!r}")


class _StandIns(dict[int, str]):
    """The stand-in of each code point, looked up once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)[0]
        if category == "L" or code in _later(_LATER_LETTERS):
            stand_in = _LETTER
        elif category == "N" or code in _later(_LATER_NUMBERS):
            stand_in = _NUMBER
        elif character.isspace():  # right for all but U+001C to U+001F, which are ASCII
            stand_in = _SPACE
        else:
            stand_in = _SYMBOL
        self[code] = stand_in
        return stand_in


_STAND_INS = _StandIns()


@cache
def _later(ranges: str) -> frozenset[int]:
    """Return the code points of ranges such as "870-887 8B5"."""
    ends = [[int(end, 16) for end in span.split("-")] for span in ranges.split()]
    return frozenset(code for span in ends for code in range(span[0], span[-1] + 1))


def _stand_in(run: re.Match[str]) -> str:
    return run[0].translate(_STAND_INS)
