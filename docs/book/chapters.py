"""A Sphinx extension: cells with their outputs, sources by name, links into the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from docs.book.licences import shipped
from docs.book.pages import ROOT, SOURCE, cells, run, source_of, without_line_ends

log = logging.getLogger(__name__)
ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>$', re.MULTILINE)
LINK = re.compile(
    r"\]\((\.\.?/[^)#\s]+)(#[^)\s]+)?\)|^(\[[^\]]+\]: )(\.\.?/[^#\s]+)(#\S+)?$", re.MULTILINE
)


def _links(text: str, folder: Path) -> str:
    """Return a page's text, its links into the repository led to where the site has that."""

    def lead(match: re.Match[str]) -> str:
        relative, anchor = match[1] or match[4], match[2] or match[5] or ""
        path = (folder / relative).resolve().relative_to(ROOT)
        if path.suffix == ".svg":
            return match[0]  # a picture, not a link
        if path.suffix == ".md" and path.parent.parent.name == "docs":
            if path.parent == folder.relative_to(ROOT):
                return match[0]  # Sphinx knows it
            target = f"page:../{path.parent.name}/{path.stem}.html{anchor}"
        else:
            target = f"source:{path.as_posix()}.html{anchor}"
        return f"]({target})" if match[1] else f"{match[3]}{target}"

    return LINK.sub(lead, text)


def _prepare(app: Sphinx, docname: str, content: list[str]) -> None:
    """Rewrite what Markdown cannot say to Sphinx."""
    path = Path(app.env.doc2path(docname))
    text = SOURCE.sub(r"```{source} \g<module>:\g<name>\n```", content[0])
    if path.parent.name == "zh":
        text = without_line_ends(text)
    if path.stem == "index":
        text = "".join(_part(part) for part in re.split(r"^(?=## )", text, flags=re.MULTILINE))
    text = ANCHOR.sub(r"(\g<1>)=", text)
    content[0] = _links(text, path.parent)


def _part(text: str) -> str:
    """Return a part of the index, the pages that it links to added to the table of contents."""
    names = re.findall(r"\]\((\w+)\.md\)", text) if text.startswith("## ") else []
    title = text.splitlines()[0].lstrip("# ")
    listed = "\n".join(names)
    return (
        f"{text}\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n\n"
        if names
        else text
    )


class SourceDirective(SphinxDirective):
    """``{source} module:function``: its lines, and a link to where they stand."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        text, path, line = source_of(*self.arguments[0].split(":"))
        self.env.note_dependency(str(ROOT / path))
        reference = nodes.reference("", f"{path}:{line}", refuri=f"../source/{path}.html#L{line}")
        block = nodes.literal_block(text, text, language="python", classes=["source"])
        return [nodes.paragraph("", "", reference, classes=["source-name"]), block]


class LicencesDirective(SphinxDirective):
    """``{licences}``: what the site ships, each with its licence."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        listed = nodes.bullet_list()
        for work in shipped():
            paragraph = nodes.paragraph("", f"{work.name} {work.version}: ")
            if work.text:
                target = f"../licences/{work.name}.txt"
                paragraph += nodes.reference("", work.licence, refuri=target)
            else:
                paragraph += nodes.Text(work.licence)
            if work.source:
                paragraph += nodes.Text(" (")
                for part in re.split(r"(https://\S+)", work.source):
                    link = nodes.reference("", part, refuri=part)
                    paragraph += link if part.startswith("https") else nodes.Text(part)
                paragraph += nodes.Text(")")
            listed += nodes.list_item("", paragraph)
        return [listed]


class Cells(SphinxTransform):
    """Each block of Python on a page runs, and shows what it printed."""

    default_priority = 800

    def apply(self, **_: Any) -> None:
        """Wrap each cell with its output; an exception in one is a warning of the build."""
        path = Path(self.document["source"])
        if path.suffix != ".md" or not path.is_relative_to(ROOT / "docs"):
            return
        found = cells(path.read_text(encoding="utf-8"))
        blocks = [b for b in self.document.findall(nodes.literal_block) if _is_cell(b)]
        assert len(found) == len(blocks), (path, len(found), len(blocks))
        scope: dict[str, Any] = {"__name__": path.stem}
        for number, (cell, block) in enumerate(zip(found, blocks, strict=True)):
            printed: list[str] = []
            try:
                run(cell.source, scope, f"<cell {number}>", printed.append)
            except Exception as error:
                log.warning("%s: cell %d: %r", path, number, error)
                return
            output, parent = "".join(printed), block.parent
            at = parent.index(block)
            if cell.output is not None:
                parent.pop(at + 1)
            shown = [nodes.literal_block(output, output, language="text", classes=["output"])]
            classes = ["cell", *([cell.role] if cell.role else [])]
            parent[at] = nodes.container("", block, *(shown if output else []), classes=classes)


def _is_cell(block: nodes.literal_block) -> bool:
    return block.get("language") == "python" and "source" not in block.get("classes", ())


def setup(app: Sphinx) -> dict[str, bool]:
    """Add all of it."""
    app.add_directive("source", SourceDirective)
    app.add_directive("licences", LicencesDirective)
    app.add_transform(Cells)
    app.connect("source-read", _prepare)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
