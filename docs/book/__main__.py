"""Build the book: static files, in two languages, that run Python in their reader's browser.

    pip install -e '.[docs]'          # Python 3.11 or newer; and Node 18 or newer with npm
    python -m docs.book fetch         # once: KaTeX, Pyodide and NumPy for it, each by its digest
    python -m docs.book check         # every cell runs, every equation is npllm's own
    python -m docs.book build         # build/site
    python -m docs.book serve         # look at it, under the policy that it is made for
    python -m docs.book visit         # open every page in Chromium; needs the extra browser
    python -m docs.book pictures      # draw docs/figures again
    python -m docs.book notebooks     # each chapter as a notebook of Jupyter: build/notebooks

Nothing but ``fetch`` asks the network for anything.
"""

from __future__ import annotations

import argparse
from multiprocessing.pool import ThreadPool
from pathlib import Path

from docs.book import links, materials, notebooks, server, site
from docs.book.check import check
from docs.book.in_pyodide import run_pages
from docs.book.pages import LANGUAGES, ROOT, pages


def _draw(args: argparse.Namespace) -> None:
    from docs.book import pictures  # matplotlib is of no use to the other commands

    pictures.draw(args.names)


def _check(args: argparse.Namespace) -> None:
    found = []
    readmes = [ROOT / "README.md", ROOT / "README.zh.md"]
    every = [*readmes, *(page for language in LANGUAGES for page in pages(language))]
    chosen = args.pages or every
    if args.pyodide is not None:
        found = run_pages(args.pyodide, [page.resolve() for page in chosen])
        chosen = []
    for page in chosen:
        wrong = check(page)
        print(page, "ok" if not wrong else f"{len(wrong)} wrong")
        found += wrong
    if found:
        raise SystemExit("\n".join(found))


def _visit(args: argparse.Namespace) -> None:
    from docs.book import in_chromium  # playwright is of no use to the other commands

    found = [*links.broken(args.site), *in_chromium.visit(args.site, args.screenshots)]
    if found:
        raise SystemExit("\n".join(found))


def _notebooks(args: argparse.Namespace) -> None:
    written = notebooks.write(args.out)
    if args.execute:
        with ThreadPool(2) as pool:
            pool.map(notebooks.execute, written)
        print(f"{len(written)} notebooks ran")


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(
        "python -m docs.book",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fetch = commands.add_parser("fetch", help="get what the site is made with, once")
    fetch.add_argument(
        "--numpy", type=Path, metavar="FILE", help="NumPy's wheel for Pyodide, if you have it"
    )
    fetch.set_defaults(run=lambda args: materials.fetch(args.numpy))
    build = commands.add_parser("build", help="make the site")
    build.add_argument("--out", type=Path, default=ROOT / "build" / "site", metavar="DIR")
    build.set_defaults(run=lambda args: site.build(args.out))
    serve = commands.add_parser("serve", help="show a site on this machine alone")
    serve.add_argument("--site", type=Path, default=ROOT / "build" / "site", metavar="DIR")
    serve.add_argument("--port", type=int, default=8000)
    serve.set_defaults(run=lambda args: server.serve(args.site, args.port))
    books = commands.add_parser("notebooks", help="write each chapter as a notebook")
    books.add_argument("--out", type=Path, default=ROOT / "build" / "notebooks", metavar="DIR")
    books.add_argument(
        "--execute", action="store_true", help="and run each, in a kernel of its own"
    )
    books.set_defaults(run=_notebooks)
    drawn = commands.add_parser("pictures", help="draw the pictures again, from runs of npllm")
    drawn.add_argument("names", nargs="*", metavar="NAME", help="of these alone")
    drawn.set_defaults(run=_draw)
    visited = commands.add_parser("visit", help="open every page in Chromium, and use it")
    visited.add_argument("--site", type=Path, default=ROOT / "build" / "site", metavar="DIR")
    visited.add_argument(
        "--screenshots", type=Path, metavar="DIR", help="keep a picture of each page"
    )
    visited.set_defaults(run=_visit)
    checked = commands.add_parser(
        "check", help="run the cells of pages, try a changed sign in each equation"
    )
    checked.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="of these alone")
    checked.add_argument(
        "--pyodide", type=Path, metavar="SITE", help="in the Python of this site instead"
    )
    checked.set_defaults(run=_check)
    args = parser.parse_args()
    args.run(args)


main()
