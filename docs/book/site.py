"""The site: Sphinx for each language, a search index, the browser's Python, pages of sources."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, guess_lexer_for_filename
from pygments.util import ClassNotFound

from docs.book import licences, notebooks
from docs.book.materials import BOOK, KATEX, PAGEFIND, assemble, check
from docs.book.pages import DOCS, LANGUAGES, ROOT
from docs.book.policy import without_inline

SPHINX_NAMES = {"en": "en", "zh": "zh_CN"}
FRONT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>npllm</title>
<meta http-equiv="refresh" content="0; url=en/index.html">
<p><a href="en/index.html">English</a> <a href="zh/index.html" lang="zh-CN">中文</a></p></html>
"""
SOURCE_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{path}</title><link rel="stylesheet" href="{up}source.css"></head>
<body><p><a href="{up}../en/index.html">npllm</a> ·
<a href="{up}../zh/index.html" lang="zh-CN">中文</a> · {path}</p>
{body}</body></html>
"""


SOURCE_SHEET = """:root { color-scheme: light dark; }
body { font-family: sans-serif; margin: 1rem; }
pre { overflow-x: auto; }
.linenos a, .linenos { color: inherit; opacity: 0.5; text-decoration: none; }
:target + a .linenos { background: #fc6; color: #000; opacity: 1; }
"""


BETWEEN = re.compile("(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])")
UNSEARCHED = ("genindex", "py-modindex", "licences")
MARK = ".npllm-site"  # a folder with it may be replaced


def build(out: Path) -> None:
    """Make the site in ``out``; one that is there is replaced as a whole once all is made."""
    out = out.resolve()
    empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not empty and not (out / MARK).is_file():
        raise SystemExit(f"{out} holds something else than a site: name another folder")
    check()
    out.parent.mkdir(parents=True, exist_ok=True)
    # beside it, so that the last step is a change of names
    with tempfile.TemporaryDirectory(prefix=".book-", dir=out.parent) as room:
        made = Path(room, "site")
        made.mkdir()
        (made / "index.html").write_text(FRONT, encoding="utf-8")
        static = _static(Path(room, "static"))
        for language in LANGUAGES:
            _sphinx(language, made / language, Path(room), static)
        _sources(made)
        python = shutil.ignore_patterns("*.py", "scipy", "__pycache__")
        shutil.copytree(BOOK / "live", made / "live", ignore=python)
        assemble(made / "live" / "python")
        licences.write(made / "licences")
        notebooks.write(made / "notebooks")
        without_inline(made)
        _index(made, Path(room, "index"))
        (made / MARK).touch()
        old = Path(room, "old")
        if out.exists():
            out.rename(old)
        try:
            made.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {len(list(out.rglob('*.html')))} pages, {size / 1e6:.0f} MB")


def _index(made: Path, room: Path) -> None:
    """Make the index of the search, of copies of the pages in ``room``.

    There a mark that nobody sees stands between Chinese characters: each is a word, and a query
    is a phrase of them (``live/search.js``), for where words begin the two might disagree.
    """
    for language in LANGUAGES:
        (room / language).mkdir(parents=True)
        for page in (made / language).glob("*.html"):
            if page.stem not in UNSEARCHED:
                parts = re.split("(<[^>]*>)", page.read_text(encoding="utf-8"))
                parts[::2] = [BETWEEN.sub("\u200b", part) for part in parts[::2]]
                (room / language / page.name).write_text("".join(parts), encoding="utf-8")
    search = ["--site", str(room), "--output-path", str(made / "pagefind")]
    search += ["--root-selector", "article", "--exclude-selectors", ".headerlink"]
    _run("node", str(PAGEFIND / "lib" / "runner" / "bin.cjs"), *search)


def _python(module: str, *arguments: str) -> None:
    """Run a module of Python."""
    _run(sys.executable, "-m", module, *arguments)


def _run(*command: str) -> None:
    """Run a program; where it fails, end with what it said."""
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    if done.returncode:
        shown = " ".join(command[:3])
        raise SystemExit(f"{done.stdout}{done.stderr}the book is not built: {shown} failed")


def _static(folder: Path) -> Path:
    """Return a folder with what KaTeX's formulas need of it."""
    fonts = folder / "katex" / "fonts"
    fonts.mkdir(parents=True)
    shutil.copy(KATEX / "katex.min.css", fonts.parent)
    for font in (KATEX / "fonts").glob("*.woff2"):  # which every browser of today reads
        shutil.copy(font, fonts)
    return folder


def _sphinx(language: str, out: Path, room: Path, static: Path) -> None:
    locale = room / "locale"
    if not locale.exists():
        shutil.copytree(BOOK / "locale", locale)
        _python("babel.messages.frontend", "-q", "compile", "-d", str(locale), "-D", "sphinx")
    settings = {
        "language": SPHINX_NAMES[language],
        "locale_dirs": locale,
        "katex": KATEX / "katex.min.js",
        "html_static_path": f"{BOOK / 'static'},{static}",
    }
    options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(BOOK)]
    options += ["-d", str(room / f"doctrees-{language}")]
    for name, value in settings.items():
        options += ["-D", f"{name}={value}"]
    _python("sphinx", *options, str(DOCS / language), str(out))
    shutil.rmtree(out / ".doctrees", ignore_errors=True)
    for rest in (".buildinfo", "objects.inv"):
        (out / rest).unlink(missing_ok=True)


def _sources(made: Path) -> None:
    """Write a page for each file that some page links to; that of a folder lists its files."""
    linked = set()
    for language in LANGUAGES:
        for page in (made / language).glob("*.html"):
            text = page.read_text(encoding="utf-8")
            linked |= {
                ROOT / path for path in re.findall(r'href="\.\./source/([^"#]+)\.html', text)
            }
    for folder in [path for path in linked if path.is_dir()]:
        linked |= set(folder.glob("*.py"))
    target = made / "source"
    for path in sorted(linked):
        name = path.relative_to(ROOT).as_posix()
        page = target / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        body = _listing(path) if path.is_dir() else _highlighted(path)
        filled = SOURCE_PAGE.format(path=html.escape(name), up="../" * name.count("/"), body=body)
        page.write_text(filled, encoding="utf-8")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    light = HtmlFormatter().get_style_defs(".highlight")
    sheet = f"{SOURCE_SHEET}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
    (target / "source.css").write_text(sheet, encoding="utf-8")


def _listing(folder: Path) -> str:
    files = [path.name for path in sorted(folder.glob("*.py"))]
    links = "".join(f'<li><a href="{folder.name}/{name}.html">{name}</a></li>\n' for name in files)
    return f"<ul>\n{links}</ul>"


def _highlighted(path: Path) -> str:
    """Return a file as HTML; its line n has the anchor Ln."""
    text = path.read_text(encoding="utf-8")
    try:
        lexer = guess_lexer_for_filename(path.name, text)
    except ClassNotFound:
        lexer = TextLexer()
    shown = highlight(
        text, lexer, HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True)
    )
    return shown.replace('"L-', '"L').replace("#L-", "#L")
