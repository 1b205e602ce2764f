r"""ARPA files: n-gram models as SRILM, KenLM and others write and read them.

A text file: how many n-grams there are of each order, and then for each order a line for each of
them, log10 p, its words, and log10 of the weight of what is handed on, where it is not 1. Words are
set apart by white space; ``<s>`` begins a sentence, ``</s>`` ends it, ``<unk>`` is any other word.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from npllm.files import replacing
from npllm.layers.arrays import Array
from npllm.ngram.counts import UNSEEN, Integers, find
from npllm.ngram.model import NgramLanguageModel
from npllm.ngram.smoothing import Table
from npllm.text import Tokenizer, WhitespaceTokenizer

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"

_NEVER = -99.0  # log10 of what is as good as zero
_LINES = 1 << 16  # written at a time
_SPACE = re.compile(r"[\s\0\\]")
_LETTERS = {" ": "s", "\n": "n", "\t": "t", "\r": "r", "\\": "\\"}
LOG_10 = math.log(10)


def spelled(tokenizer: Tokenizer) -> list[str]:
    r"""Return a tokenizer's tokens as words without white space, all different.

    >>> from npllm.text import CharacterTokenizer
    >>> spelled(CharacterTokenizer("a \n"))
    ['a', '\\s', '\\n']
    """
    tokens = list(tokenizer.vocabulary)
    if isinstance(tokenizer, WhitespaceTokenizer):
        return tokens
    marks = (BEGIN, END, UNKNOWN)
    return [f"\\{t}" if t in marks else _SPACE.sub(_letter, t) for t in tokens]


def _letter(found: re.Match[str]) -> str:
    return "\\" + _LETTERS.get(found[0], f"u{{{ord(found[0]):x}}}")


def write_arpa(
    path: str | os.PathLike[str], model: NgramLanguageModel, vocabulary: Sequence[str]
) -> None:
    """Write a model as an ARPA file.

    Args:
        path: of the file; what was there is replaced, once all is written.
        model: of any smoothing but add-k.
        vocabulary: (V,) what each word is called, without white space.

    Raises:
        OSError: the file cannot be written.
        ValueError: the smoothing is add-k, which the format cannot say; or a word has white space.
    """
    if not model.hands_on:
        raise ValueError(
            "an ARPA file cannot say add-k, by which all that was not seen after a history is "
            "equally likely: use witten-bell or kneser-ney"
        )
    for word in vocabulary:
        if word.encode().split() != [word.encode()]:
            raise ValueError(f"an ARPA file cannot hold the word {word!r}: it has white space")
    names = np.array([*vocabulary, BEGIN], object)
    # readers ask for them
    lacking = [f"{_NEVER}\t{word}" for word in (END, UNKNOWN) if word not in vocabulary]
    with replacing(path) as file:
        sizes = [len(table.codes) for table in model.tables]
        sizes[0] += len(lacking)
        counts = [f"ngram {order}={size}" for order, size in enumerate(sizes, 1)]
        file.write("\n".join(["\\data\\", *counts, ""]).encode())
        texts = np.array([""], object)  # of the n-grams one word shorter
        for order, table in enumerate(model.tables, 1):
            prefixes, last = np.divmod(table.codes, len(names))
            texts = texts[prefixes] + (" " if order > 1 else "") + names[last]
            file.write(f"\n\\{order}-grams:\n".encode())
            for start in range(0, len(texts), _LINES):
                rows = slice(start, start + _LINES)
                lines = list(_lines(table, texts, rows))
                file.write("\n".join([*lines, ""]).encode())
            if order == 1:
                file.write("".join(f"{line}\n" for line in lacking).encode())
        file.write(b"\n\\end\\\n")


def _lines(table: Table, texts: Array, rows: slice) -> Iterator[str]:
    """Yield the lines of some n-grams, without a weight where it is 1, as the last order's is."""
    log_p, log_b = (np.maximum(logs[rows] / LOG_10, _NEVER).tolist() for logs in table[1:])
    for p, text, b in zip(log_p, texts[rows], log_b, strict=True):
        yield f"{p!r}\t{text}" if b == 0 else f"{p!r}\t{text}\t{b!r}"


class _Section(NamedTuple):
    """The n-grams of one order as they stand in a file: words (G, n), log p and log b (G,)."""

    words: Integers
    log_p: Array
    log_b: Array


def read_arpa(path: str | os.PathLike[str]) -> tuple[NgramLanguageModel, tuple[str, ...]]:
    """Return the model of an ARPA file and what its words are called.

    An n-gram whose prefix the file does not have is kept; the prefix is as likely as the file says
    it is by what it hands on.

    Args:
        path: of the file, compressed where it ends in .gz.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is no ARPA file, truncated or corrupt; the message says at which line.
    """
    name = os.fspath(path)
    with gzip.open(path) if name.endswith(".gz") else open(path, "rb") as file:
        reader = _Reader(iter(file), name)
        try:
            sections, vocabulary = reader.read()
        except EOFError:
            raise ValueError(f"{name} is truncated: its compressed data end too early") from None
        except zlib.error:
            raise ValueError(f"{name} is corrupt: its compressed data are damaged") from None
    try:
        tables = _tables(sections, len(vocabulary) + 1)
    except LookupError:
        _complete(sections)
        tables = _tables(sections, len(vocabulary) + 1)
    for order, table in enumerate(tables, 1):
        if (table.codes[1:] == table.codes[:-1]).any():
            raise ValueError(f"{name} is corrupt: it has one of the {order}-grams twice")
    end = vocabulary.index(END) if END in vocabulary else None
    return NgramLanguageModel(tables, end=end), vocabulary


class _Reader:
    """Reads the lines of a file, and tells where one is wrong."""

    def __init__(self, file: Iterator[bytes], name: str) -> None:
        self.file, self.name, self.number = file, name, 0

    def error(self, problem: str, number: int | None = None) -> ValueError:
        """Return the error of a line, the one read last where none is named."""
        return ValueError(f"{self.name}, line {number or self.number or 1}: {problem}")

    def line(self) -> bytes:
        """Return the next line that is not empty."""
        for line in self.file:
            self.number += 1
            if line := line.strip():
                return line
        raise self.error("the file ends here, without \\end\\: it is truncated")

    def read(self) -> tuple[list[_Section], tuple[str, ...]]:
        """Return the sections of all orders, and the words but for the beginning's mark."""
        sizes = self._sizes()
        ids: dict[bytes, int] = {}
        sections = []
        for order, size in enumerate(sizes, 1):
            if order > 1 and self.line() != b"\\%d-grams:" % order:
                raise self.error(f"must be \\{order}-grams:, after as many as \\data\\ says")
            sections.append(self._section(order, size, ids))
        if self.line() != b"\\end\\":
            raise self.error("must be \\end\\, after as many n-grams as \\data\\ says")
        try:
            words = [word.decode() for word in ids]
        except UnicodeDecodeError:
            raise ValueError(f"{self.name} is not UTF-8: convert it to UTF-8 first") from None
        if len(words) > len(sections[0].words):  # the file has no mark of a beginning
            known, log_p, log_b = sections[0]
            known = np.append(known, [[len(known)]], axis=0)
            sections[0] = _Section(known, np.append(log_p, -np.inf), np.append(log_b, 0.0))
        return sections, tuple(words[:-1])

    def _sizes(self) -> list[int]:
        """Return how many n-grams there are of each order, as the header says."""
        while self.line() != b"\\data\\":  # what stands before is anybody's
            pass
        sizes: list[int] = []
        while (line := self.line()) != b"\\1-grams:":
            found = re.fullmatch(rb"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})", line)
            if not found or int(found[1]) != len(sizes) + 1:
                raise self.error(f"must be ngram {len(sizes) + 1}=NUMBER, or \\1-grams:")
            sizes.append(int(found[2]))
        if not sizes:
            raise self.error("\\data\\ must say how many n-grams there are: ngram 1=NUMBER")
        return sizes

    def _section(self, order: int, size: int, ids: dict[bytes, int]) -> _Section:
        """Return the n-grams of an order; those of the first give the words their ids."""
        start = self.number + 1
        rows = [line.split() for line in islice(self.file, size)]
        self.number += len(rows)
        if order == 1:
            words = [word for row in rows for word in row[1:2] if word != BEGIN.encode()]
            words.append(BEGIN.encode())
            ids.update({word: i for i, word in enumerate(words)})
            twice = [word for i, word in enumerate(words) if ids[word] != i]
            if twice:
                word = twice[0].decode(errors="replace")
                raise ValueError(f"{self.name} is corrupt: it has the 1-gram {word!r:.80} twice")
        try:
            section = _columns(order, rows, ids)
        except (KeyError, ValueError):
            found = ((n, _problem(order, row, ids)) for n, row in enumerate(rows, start))
            raise next(self.error(problem, n) for n, problem in found if problem) from None
        wrong = ~(section.log_p <= 0) | ~np.isfinite(section.log_b)
        if wrong.any():
            problem = "the first number must be 0 or less, the last finite"
            raise self.error(problem, start + int(wrong.argmax()))
        # nothing is ever followed by the beginning's mark
        kept = (section.words[:, -1] != len(ids) - 1) | (order == 1)
        return _Section(
            section.words[kept], section.log_p[kept] * LOG_10, section.log_b[kept] * LOG_10
        )


def _problem(order: int, row: list[bytes], ids: Mapping[bytes, int]) -> str:
    """Return what is wrong with a row, nothing where it is right."""
    try:
        _columns(order, [row], ids)
    except ValueError:
        words = "1 word" if order == 1 else f"{order} words"
        return f"must be a number, {words} and perhaps another number"
    except KeyError as error:
        (word,) = error.args
        return f"{word.decode(errors='replace')!r:.80} is not among the 1-grams"
    return ""


def _columns(order: int, rows: list[list[bytes]], ids: Mapping[bytes, int]) -> _Section:
    """Return the n-grams of rows: a number, words, and another number, 0 where there is none.

    Raises:
        KeyError: a word has no id.
        ValueError: a row has another number of fields, or what is no number.
    """
    fields = order + 2
    whole = [row if len(row) == fields else [*row, b"0"] for row in rows]
    if any(len(row) != fields for row in whole):
        raise ValueError
    flat = list(chain.from_iterable(whole))
    words = [
        np.fromiter(map(ids.__getitem__, flat[n::fields]), np.int64, len(rows))
        for n in range(1, order + 1)
    ]
    numbers = (
        np.fromiter(map(float, flat[n::fields]), np.float64, len(rows)) for n in (0, order + 1)
    )
    return _Section(np.stack(words, axis=1), *numbers)


def _complete(sections: list[_Section]) -> None:
    """Add, with p yet unknown, the prefixes that a file lacks."""
    for order in range(len(sections), 2, -1):
        words, log_p, log_b = sections[order - 2]
        there = {row.tobytes() for row in words}
        prefixes = dict.fromkeys(row.tobytes() for row in sections[order - 1].words[:, :-1])
        lacking = b"".join(row for row in prefixes if row not in there)
        added = np.frombuffer(lacking, np.int64).reshape(-1, order - 1)
        sections[order - 2] = _Section(
            np.concatenate([words, added]),
            np.append(log_p, np.full(len(added), np.nan)),
            np.append(log_b, np.zeros(len(added))),
        )


def _tables(sections: list[_Section], size: int) -> list[Table]:
    """Return the tables of words, with an id below ``size``, and the probabilities of prefixes.

    Raises:
        LookupError: a prefix is not among the n-grams one shorter.
    """
    tables: list[Table] = []
    for words, log_p, log_b in sections:
        ranks = np.zeros(len(words), np.int64)
        for table, word in zip(tables, words.T, strict=False):
            ranks = find(table.codes, size, ranks, word)
        if (ranks == UNSEEN).any():
            raise LookupError
        codes = ranks * size + words[:, -1]
        unknown = np.isnan(log_p)
        if unknown.any():
            shorter = NgramLanguageModel(tables)
            before = words[unknown, :-1]
            before[:, 0] = 0  # whatever it is, it is too far away
            lower, _ = shorter.log_probabilities(before, words[unknown, 1:])
            log_p[unknown] = tables[-1].log_b[ranks[unknown]] + lower[:, -1]
        by_code = np.argsort(codes)
        tables.append(Table(codes[by_code], log_p[by_code], log_b[by_code]))
    return tables
