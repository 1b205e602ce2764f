"""Texts and their translations: two files of lines, or a table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from npllm.text.labelled import read_labelled, read_utf8


class Paired(NamedTuple):
    """Texts and their translations, one each."""

    sources: list[str]
    targets: list[str]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Paired:
        """Return pairs, one after the other."""
        found = list(pairs)
        return cls([a for a, _ in found], [b for _, b in found])


def read_paired(
    source: str | os.PathLike[str], target: str | os.PathLike[str] | None = None
) -> Paired:
    """Read texts and their translations; pairs of which one is empty are left out.

    Args:
        source: a file of texts, one a line; or, alone, a table whose columns ``source`` and
            ``target`` hold both: see :func:`npllm.text.labelled.read_labelled`.
        target: a file of their translations, as many lines.

    Raises:
        OSError: a file cannot be read.
        ValueError: it is not UTF-8, there are more lines in one than in the other, or no pairs.
    """
    if target is None:
        found = read_labelled(source, "source", "target")
        return Paired(found.texts, found.labels)
    sides = [_lines(Path(path)) for path in (source, target)]
    sizes = [len(side) for side in sides]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{source} has {sizes[0]} lines and {target} {sizes[1]}: they do not belong together, "
            "line by line"
        )
    pairs = [pair for pair in zip(*sides, strict=True) if all(pair)]
    if not pairs:
        raise ValueError(f"{source} and {target} have no pair of lines that are not empty")
    return Paired.of(pairs)


def split_paired(given: Paired, held_out: float, test: float) -> tuple[Paired, Paired, Paired]:
    """Return a first part, one for validation, and the end, to test with.

    Each pair is taken once; a text of an earlier part is left out of a later one, whatever its
    translation is there.

    Args:
        given: the pairs, in an order in which neighbours belong together.
        held_out: the share of the second part.
        test: that of the third.

    >>> pairs = Paired([*"abcdefghbj"], [*"ABCDEFGHBJ"])
    >>> [part.sources for part in split_paired(pairs, 0.2, 0.2)]
    [['a', 'b', 'c', 'd', 'e'], ['f', 'g'], ['h', 'j']]
    """
    pairs = list(dict.fromkeys(zip(*given, strict=True)))
    cuts = [round(len(pairs) * (1 - share)) for share in (held_out + test, test)]
    seen: set[str] = set()
    parts = []
    for start, end in zip([0, *cuts], [*cuts, len(pairs)], strict=True):
        part = Paired.of(pair for pair in pairs[start:end] if pair[0] not in seen)
        seen.update(part.sources)
        parts.append(part)
    return parts[0], parts[1], parts[2]


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_utf8(path).removesuffix("\n").split("\n")]
