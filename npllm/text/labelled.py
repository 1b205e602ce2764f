"""Labelled texts: tables of a text and its label, cleaned and split."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

READERS = (".tsv", ".csv", ".jsonl")


class Labelled(NamedTuple):
    """Texts and their labels, one each."""

    texts: list[str]
    labels: list[str]

    def rows(self, places: Sequence[int]) -> Labelled:
        """Return some of them."""
        return Labelled([self.texts[i] for i in places], [self.labels[i] for i in places])


class Cleaned(NamedTuple):
    """What is left of labelled texts, and what was not.

    Attributes:
        kept: each text once.
        repeated: how many were there before, with the same label.
        contradicted: how many stand under several labels: all of these are left out.
    """

    kept: Labelled
    repeated: int
    contradicted: int


def read_utf8(path: Path) -> str:
    """Return the text of a file without its byte order mark, its lines ended by line feeds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8; the message says where.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise ValueError(f"{path} is not UTF-8 ({byte}): convert it to UTF-8 first") from None


def read_labelled(
    path: str | os.PathLike[str], text: str = "text", label: str = "label"
) -> Labelled:
    """Read a table of labelled texts.

    Args:
        path: a .tsv or .csv file whose first line names the columns, or a .jsonl file, an object a
            line.
        text: the column of the texts.
        label: that of their labels.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such table, lacks a column, or a row is not whole; the message says
            where.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path} must end in {', '.join(READERS)}")
    content = read_utf8(path)
    rows = _objects(path, content) if path.suffix.lower() == ".jsonl" else _table(path, content)
    found = Labelled([], [])
    for number, row in rows:
        for column, values in ((text, found.texts), (label, found.labels)):
            values.append(_value(row, column, f"{path}, line {number}"))
    if not found.texts:
        raise ValueError(f"{path} has no texts")
    return found


def _value(row: dict[str, object], column: str, where: str) -> str:
    """Return what a row has in a column."""
    if column not in row:
        raise ValueError(f"{where}: its columns are {', '.join(map(str, row))}; none is {column}")
    value = row[column]
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise ValueError(f"{where}: its {column} must be a text or a number, got {value!r:.80}")
    text = str(value)
    if not text.strip():
        raise ValueError(f"{where}: its {column} is empty")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"{where}: its {column} has half of a character, which is no Unicode")
    return text


def _table(path: Path, content: str) -> Iterator[tuple[int, dict[str, object]]]:
    tabs = path.suffix.lower() == ".tsv"
    csv.field_size_limit(2**31 - 1)  # a text may be long
    lines = io.StringIO(content, newline="")  # only line feeds and carriage returns end lines
    if tabs:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, strict=True)
    try:
        names = next(reader, [])
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{path}, line 1: it names the column {name!r:.80} twice")
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise ValueError(
                    f"{path}, line {reader.line_num}: it has {len(row)} columns, the first line "
                    f"{len(names)}"
                )
            yield reader.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def _objects(path: Path, content: str) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(io.StringIO(content), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: it is no JSON object")
        yield number, row


def cleaned(given: Labelled) -> Cleaned:
    """Return each text once, and none that stands under several labels.

    A text that is there twice may fall into both parts of a split, and be known; one with two
    labels cannot be right. Texts that differ in white space alone are the same.

    >>> found = cleaned(Labelled(["a", "b", "a ", "c", "b"], ["x", "x", "x", "y", "y"]))
    >>> found.kept, found.repeated, found.contradicted
    (Labelled(texts=['a', 'c'], labels=['x', 'y']), 1, 2)
    """
    labels_of: dict[str, set[str]] = {}
    keys = [" ".join(text.split()) for text in given.texts]
    for key, label in zip(keys, given.labels, strict=True):
        labels_of.setdefault(key, set()).add(label)
    first: dict[str, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    kept = [place for key, place in first.items() if len(labels_of[key]) == 1]
    contradicted = sum(len(labels_of[key]) > 1 for key in keys)
    repeated = len(keys) - len(kept) - contradicted
    return Cleaned(given.rows(kept), repeated, contradicted)


def split_labelled(given: Labelled, shares: Sequence[float], seed: int) -> tuple[Labelled, ...]:
    """Return a first part, and one for each share, in random order.

    Every part has as much of each label as the whole, to one text.

    Args:
        given: the texts.
        shares: of the parts behind the first.
        seed: of the order.

    >>> texts = Labelled([*"abcdefghij"], [*"xxxxxxxxyy"])
    >>> [len(part.texts) for part in split_labelled(texts, (0.2, 0.3), seed=0)]
    [5, 2, 3]
    """
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    labels = np.array(given.labels)
    before = 0  # texts of the labels before: what they lack of a share, the next make up for
    for label in dict.fromkeys(given.labels):
        places = rng.permutation(np.flatnonzero(labels == label))
        wanted = np.round(np.array(shares) * (before + len(places)))
        sizes = (wanted - np.round(np.array(shares) * before)).astype(int)
        cuts = [0, *np.minimum(np.cumsum(sizes), len(places))]
        for part, start, end in zip(parts[1:], cuts, cuts[1:], strict=False):
            part += places[start:end].tolist()
        parts[0] += places[cuts[-1] :].tolist()
        before += len(places)
    return tuple(given.rows(rng.permutation(part).tolist()) for part in parts)


def label_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that there are, in order: as numbers where all of them are."""
    distinct = dict.fromkeys(chain(labels))
    if all(re.fullmatch("-?[0-9]+", label) for label in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))
