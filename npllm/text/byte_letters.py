"""Byte-level letters: the 256 printable characters that public vocabularies write bytes as.

A byte that is a printable character of Latin-1 other than a space stands for itself; the other 68,
in order, are written as the characters from U+0100 on. A space is "Ġ", a line feed "Ċ".
"""

from __future__ import annotations

_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_LETTER = {byte: 0x100 + number for number, byte in enumerate(_OTHERS)}
_BYTE: dict[int, int] = {letter: byte for byte, letter in _LETTER.items()}
_BYTE |= dict.fromkeys(_OTHERS, 0x200)  # the characters themselves are no letters


def to_letters(data: bytes) -> str:
    """Return bytes as letters.

    >>> to_letters(" naïve".encode())
    'ĠnaÃ¯ve'
    """
    return data.decode("latin-1").translate(_LETTER)


def from_letters(text: str) -> bytes:
    """Return the bytes that letters stand for.

    Raises:
        ValueError: a character is none of the 256.

    >>> from_letters("ĠnaÃ¯ve").decode()
    ' naïve'
    """
    try:
        return text.translate(_BYTE).encode("latin-1")
    except UnicodeEncodeError as error:
        character = text[error.start]
        raise ValueError(f"{text!r} is not in byte-level letters: {character!r} is none") from None
