"""Small tasks with exact answers, by which a translator shows that it learns: made, not fetched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np

PAIRS = 20_000
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
_FORMATS = ("{d} {month} {y}", "{month} {d}, {y}", "{d} {short} {y}", "{short} {d} {y}")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)


def copies(_: Path) -> Iterator[tuple[str, str]]:
    """Yield random words, each its own translation."""
    for word in _words(seed=0):
        yield word, word


def reversals(_: Path) -> Iterator[tuple[str, str]]:
    """Yield random words, and each read backwards."""
    for word in _words(seed=1):
        yield word, word[::-1]


def dates(_: Path) -> Iterator[tuple[str, str]]:
    """Yield dates as people write them, and as ISO 8601 does; of the years 1900 to 2099."""
    rng = np.random.default_rng(2)
    first, days = date(1900, 1, 1), (date(2100, 1, 1) - date(1900, 1, 1)).days
    seen: set[str] = set()
    for code in rng.permutation(days * len(_FORMATS)):
        day, kind = divmod(int(code), len(_FORMATS))
        found = first + timedelta(days=day)
        month = _MONTHS[found.month - 1]
        parts = {"d": found.day, "y": found.year, "month": month, "short": month[:3]}
        text = _FORMATS[kind].format(**parts)
        if text in seen:  # May is short as it is
            continue
        seen.add(text)
        yield text, found.isoformat()
        if len(seen) == PAIRS:
            return


def _words(seed: int) -> Iterator[str]:
    """Yield words of 3 to 12 letters, each once."""
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    while len(seen) < PAIRS:
        word = "".join(rng.choice(_LETTERS, size=rng.integers(3, 13)))
        if word not in seen:
            seen.add(word)
            yield word
