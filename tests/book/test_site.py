"""What the site is made of: its policy, its links, and the SciPy that a browser has."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import sparse, special

from docs.book.links import broken
from docs.book.pages import DOCS
from docs.book.policy import without_inline

PAGE = """<!doctype html><html><head><title>t</title><style>p { color: red }</style></head><body>
<script>document.body.dataset.theme = "auto";</script>
<p class="a" style="height:1em">one</p><p style="height:1em">two</p>
<script src="_static/translations.js?v=1"></script></body></html>"""


def module(name: str) -> ModuleType:
    """Return a module of the browser's stand-in for SciPy."""
    path = DOCS / "book" / "live" / "scipy" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_scipys(dtype: type) -> None:
    x = np.random.default_rng(0).normal(scale=3, size=(40, 30)).astype(dtype)
    ours, theirs = module("special").erf(x), special.erf(x)
    assert ours.dtype == theirs.dtype == dtype
    np.testing.assert_allclose(ours, theirs, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_sparse_products_are_scipys(dtype: type) -> None:
    rng = np.random.default_rng(1)
    columns = rng.integers(0, 7, size=20)
    parts = np.ones(20, dtype), columns, np.arange(21)
    ours = module("sparse").csr_array(parts, shape=(20, 7))
    theirs = sparse.csr_array(parts, shape=(20, 7))
    for one, other, rows in ((ours, theirs, 7), (ours.T, theirs.T, 20)):
        dense = rng.normal(size=(rows, 5)).astype(dtype)
        assert (one @ dense).dtype == (other @ dense).dtype
        np.testing.assert_allclose(one @ dense, other @ dense, rtol=8 * np.finfo(dtype).eps)


def test_nothing_stays_inline(tmp_path: Path) -> None:
    page = tmp_path / "en" / "page.html"
    page.parent.mkdir()
    page.write_text(PAGE)
    without_inline(tmp_path)
    text = page.read_text()
    assert not re.search(r"<script>|<style>| style=|translations\.js", text)
    assert text.count("../inline/") == 3  # a script, a sheet, the styles
    assert "Content-Security-Policy" in text
    assert '<p class="a inline-0">one</p><p class="inline-0">two</p>' in text
    sheet = (tmp_path / "inline" / "styles.css").read_text()
    assert sheet == ".inline-0.inline-0.inline-0 { height:1em }\n"
    assert broken(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('<a href="other.html">x</a>', "no file for other.html"),
        ('<a href="#there">x</a>', "no anchor for #there"),
        ('<img src="https://example.org/x.png">', "fetches https://example.org/x.png"),
        ('<a href="../outside.html">x</a>', "no file for ../outside.html"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(body: str, told: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "outside.html").write_text("")
    (site / "page.html").write_text(f'{body}<a href="https://example.org">named, not fetched</a>')
    assert broken(site) == [f"page.html{': ' if told.startswith('no') else ' '}{told}"]
