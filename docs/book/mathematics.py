"""A Sphinx extension: KaTeX renders the mathematics while the book is built.

The page needs a stylesheet and fonts, and no script; an error in the TeX is a warning of the build.
"""

from __future__ import annotations

import json
import subprocess
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)


class Renderer:
    """A process of Node that answers a line with a line, as long as the build lasts."""

    def __init__(self, app: Sphinx) -> None:
        command = ["node", str(Path(__file__).with_name("katex.js")), app.config.katex]
        self._node = subprocess.Popen(
            command, text=True, encoding="utf-8", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @cache  # noqa: B019 - one renderer a build
    def render(self, tex: str, display: bool) -> str:
        """Return the HTML of a formula."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline())
        if "error" in answer:
            log.warning("%s in the mathematics %r", answer["error"], tex)
            return f"<code>{escape(tex)}</code>"
        return str(answer["html"])

    def close(self) -> None:
        """End the process."""
        self._node.communicate()


def _renderer(app: Sphinx) -> Renderer:
    if not hasattr(app, "_katex"):
        app._katex = Renderer(app)  # type: ignore[attr-defined]
    return app._katex  # type: ignore[attr-defined, no-any-return]


def _inline(translator: Any, node: nodes.math) -> None:
    html = _renderer(translator.builder.app).render(node.astext(), False)
    translator.body.append(f'<span class="math">{html}</span>')
    raise nodes.SkipNode


def _display(translator: Any, node: nodes.math_block) -> None:
    html = _renderer(translator.builder.app).render(node.astext(), True)
    translator.body.append(f'<div class="math">{html}</div>')
    raise nodes.SkipNode


def _end(app: Sphinx, _error: Exception | None) -> None:
    if hasattr(app, "_katex"):
        app._katex.close()


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer under the name "katex"."""
    app.add_config_value("katex", "", "html", (str,))
    app.add_html_math_renderer("katex", (_inline, None), (_display, None))
    app.connect("build-finished", _end)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
