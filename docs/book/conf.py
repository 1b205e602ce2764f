"""Sphinx's configuration of the book, for both languages; ``python -m docs.book build`` uses it."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parent
ROOT = BOOK.parents[1]
sys.path.insert(0, str(ROOT))

project = "npllm"
author = "npllm"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
    "docs.book.mathematics",
    "docs.book.chapters",
]
suppress_warnings = ["myst.header"]  # a page may begin with what is no heading

html_theme = "furo"
html_title = "npllm"
html_favicon = str(BOOK / "static" / "icon.svg")
html_static_path = [str(BOOK / "static")]
html_css_files = ["katex/katex.min.css", "book.css"]
templates_path = [str(BOOK / "templates")]
locale_dirs = [str(BOOK / "locale")]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_math_renderer = "katex"
html_theme_options = {"top_of_page_buttons": []}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_url_schemes: dict[str, Any] = {
    "http": None,
    "https": None,
    "page": {"url": "{{path}}#{{fragment}}"},
    "source": {"url": "../source/{{path}}"},
}

autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def linkcode_resolve(_domain: str, info: dict[str, str]) -> str | None:
    """Return where the source of a name stands in the site."""
    thing: Any = sys.modules.get(info["module"])
    for part in info["fullname"].split("."):
        thing = getattr(thing, part, None)
    try:
        thing = inspect.unwrap(thing)
        path = Path(inspect.getsourcefile(thing) or "").resolve().relative_to(ROOT)
        return f"../source/{path.as_posix()}.html#L{inspect.getsourcelines(thing)[1]}"
    except (TypeError, ValueError, OSError):
        return None


def _skip(_app: Any, _what: str, _name: str, thing: object, skip: bool, _options: Any) -> bool:
    """Leave out a named tuple's "Alias for field number": its docstring tells of the field."""
    return skip or type(thing).__name__ == "_tuplegetter"


def _letters(_app: Any, _what: str, _name: str, _thing: object, _o: Any, lines: list[str]) -> None:
    """Let a description that is one letter, "N.", not begin a list."""
    lines[:] = [re.sub(r"^( +)([A-Z]\.)$", r"\1\\\2", line) for line in lines]


def setup(app: Any) -> None:
    """Leave search to Pagefind."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _letters, priority=900)  # after napoleon
    app.connect("builder-inited", lambda app: setattr(app.builder, "search", False))
