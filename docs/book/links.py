"""Every link of the site leads to a file of the site and to an anchor that is there."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """What a page links to, what it fetches, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.anchors: set[str] = {"", "top"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one tag says."""
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        if tag in ("a", "area"):
            self.links.add(given.get("href") or "")
        elif target := given.get("src") or given.get("href"):
            self.fetched.add(target)


@cache
def _parsed(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken(site: Path) -> list[str]:
    """Return the links that lead nowhere, and what is fetched from elsewhere."""
    found = []
    for path in sorted(site.rglob("*.html")):
        page = _parsed(path)
        for target in sorted(page.links | page.fetched):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.fetched and not target.startswith("data:"):
                    found.append(f"{path.relative_to(site)} fetches {target}")
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if file.is_dir():
                file /= "index.html"
            if not file.is_file() or not file.is_relative_to(site.resolve()):
                found.append(f"{path.relative_to(site)}: no file for {target}")
            elif file.suffix == ".html" and unquote(parts.fragment) not in _parsed(file).anchors:
                found.append(f"{path.relative_to(site)}: no anchor for {target}")
    for sheet in site.rglob("*.css"):
        for target in re.findall(r"url\(['\"]?(https?:[^)]*)", sheet.read_text(encoding="utf-8")):
            found.append(f"{sheet.relative_to(site)} fetches {target}")
    return found
