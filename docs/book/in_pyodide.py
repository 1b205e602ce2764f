"""Run the cells of pages in the site's own Python, as a reader's browser would, under Node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from docs.book.check import alike
from docs.book.pages import ROOT, Cell, cells


def run_pages(site: Path, pages: Iterable[Path]) -> list[str]:
    """Run every cell of the pages; return what went wrong."""
    known: dict[str, list[Cell]] = {
        page.relative_to(ROOT).as_posix(): cells(page.read_text(encoding="utf-8")) for page in pages
    }
    sources = {name: [cell.source for cell in found] for name, found in known.items()}
    command = ["node", str(Path(__file__).with_name("node.mjs")), str(site)]
    done = subprocess.run(
        command, input=json.dumps(sources), capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])  # before that stands the interpreter's own source
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = []
    if len(answers) != sum(map(len, known.values())):
        wrong.append(f"{len(answers)} answers to {sum(map(len, known.values()))} cells")
    for answer in answers:
        cell = known[answer["page"]][answer["number"]]
        name = f"{answer['page']}, cell {answer['number']}"
        if answer["error"]:
            wrong.append(f"{name}: {answer['error']}")
        elif cell.output is not None and not alike(cell.output, answer["output"]):
            wrong.append(f"{name} prints, other than the page says:\n{answer['output']}")
    slowest = max(answers, key=lambda answer: answer["seconds"], default=None)
    if slowest is not None:
        print(
            f"{len(answers)} cells of {len(known)} pages in Pyodide, {len(wrong)} wrong; slowest: "
            f"{slowest['page']}, cell {slowest['number']}, {slowest['seconds']:.2f} s"
        )
    return wrong
