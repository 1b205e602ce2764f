"""The pages keep a strict policy: no script, style sheet or style attribute inside the HTML."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# what a server may answer each request of the site with; images of Furo's style sheet are data
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:"

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
# what Sphinx's own search needs, which is not used; its translations would be evaluated
UNUSED = re.compile(
    r"<script src=\"[^\"]*(?:translations|doctools|documentation_options|sphinx_highlight)"
    r"\.js[^\"]*\"></script>"
)
SHEET = re.compile(r"<style>(.*?)</style>", re.DOTALL)
TAG = re.compile(r"<[a-zA-Z][^<>]*? style=\"[^\"]*\"[^<>]*>")
STYLE = re.compile(r" style=\"([^\"]*)\"")
CLASS = re.compile(r" class=\"([^\"]*)\"")


def without_inline(site: Path) -> None:
    """Move what stands inline in each page of a site into files; say the policy in each page."""
    folder = site / "inline"
    folder.mkdir()
    rules: dict[str, str] = {}
    for page in sorted(site.rglob("*.html")):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")

        def moved(content: str, suffix: str) -> str:
            name = hashlib.sha256(content.encode()).hexdigest()[:12] + suffix
            (folder / name).write_text(content, encoding="utf-8")
            return f"{up}inline/{name}"  # noqa: B023 - called within the loop's turn

        text = UNUSED.sub("", text)
        text = SCRIPT.sub(lambda m: f'<script src="{moved(m[1], ".js")}"></script>', text)
        text = SHEET.sub(lambda m: f'<link rel="stylesheet" href="{moved(m[1], ".css")}">', text)
        text, styled = TAG.subn(lambda m: _with_class(m[0], rules), text)
        head = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        if styled:
            head += f'<link rel="stylesheet" href="{up}inline/styles.css">\n'
        page.write_text(text.replace("</title>", f"</title>\n{head}", 1), encoding="utf-8")
    # more specific than a class of KaTeX's, as a style attribute is
    sheet = "".join(f".{name}.{name}.{name} {{ {rule} }}\n" for rule, name in rules.items())
    (folder / "styles.css").write_text(sheet, encoding="utf-8")


def _with_class(tag: str, rules: dict[str, str]) -> str:
    """Return a tag, its style told by a class."""
    style = STYLE.search(tag)
    assert style is not None
    name = rules.setdefault(style[1], f"inline-{len(rules)}")
    tag = STYLE.sub("", tag, count=1)
    if CLASS.search(tag):
        return CLASS.sub(rf' class="\1 {name}"', tag, count=1)
    return re.sub(r"^<(\w+)", rf'<\1 class="{name}"', tag)
