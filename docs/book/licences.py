"""What the site ships that npllm's authors did not write, each with its licence."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import NamedTuple

from docs.book.materials import KATEX, PAGEFIND, PURE, PYODIDE, numpy_wheel
from docs.book.pages import ROOT

MPL = "https://www.mozilla.org/MPL/2.0/"
THEME = ("furo", "sphinx", "sphinx-basic-ng", "pygments")


class Work(NamedTuple):
    """A work of others.

    Attributes:
        name: what it is called.
        version: which one.
        licence: its SPDX identifier.
        text: the licence as its package has it; "" where the package has none, and the licence is
            the same for all works.
        source: where its source is, and the licence, where that must be said.
    """

    name: str
    version: str
    licence: str
    text: str
    source: str = ""


def shipped() -> list[Work]:
    """Return all of it, npllm itself first."""
    found = [Work("npllm", _version("npllm"), "MIT", _read(ROOT / "LICENSE"))]
    found.append(_npm("pyodide", "", f"the npm package pyodide; the licence: {MPL}"))
    # Pyodide's package has none: that of the Python which builds the site
    (python,) = Path(sysconfig.get_path("stdlib")).glob("LICENSE*")
    own = ".".join(map(str, sys.version_info[:2]))
    libraries = "https://docs.python.org/3.12/license.html"
    source = f"the text as Python {own} has it; zlib, expat, bzip2, mpdecimal in it: {libraries}"
    found.append(Work("CPython", "3.12", "PSF-2.0", _read(python), source))
    wheel = numpy_wheel()
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("dist-info/LICENSE.txt"))
        text = archive.read(name).decode("utf-8")
    found.append(Work("NumPy", wheel.name.split("-")[1], "BSD-3-Clause", text))
    licences = {"tqdm": "MPL-2.0 AND MIT", "filelock": "MIT", "threadpoolctl": "BSD-3-Clause"}
    licences |= {"wcwidth": "MIT", "furo": "MIT", "sphinx": "BSD-2-Clause"}
    licences |= {"sphinx-basic-ng": "MIT", "pygments": "BSD-2-Clause"}
    for name in (*PURE, *THEME):
        source = f"the package tqdm of PyPI; the licence: {MPL}" if name == "tqdm" else ""
        found.append(Work(name, _version(name), licences[name], _licence_of(name), source))
    found.append(_npm("katex", _read(KATEX.parent / "LICENSE")))
    found.append(_npm("pagefind", _read(PAGEFIND / "LICENSE" / "LICENSE")))
    if lacking := [work.name for work in found if not (work.text or MPL in work.source)]:
        raise SystemExit(f"the licence of {', '.join(lacking)} is in no package: the site lacks it")
    return found


def write(folder: Path) -> None:
    """Write the texts of the licences."""
    folder.mkdir()
    for work in shipped():
        if work.text:
            (folder / f"{work.name}.txt").write_text(work.text, encoding="utf-8")


def _npm(name: str, text: str, source: str = "") -> Work:
    package = PYODIDE.parent / name / "package.json"
    told = json.loads(package.read_text(encoding="utf-8"))
    return Work(name, told["version"], told["license"], text, source)


def _version(name: str) -> str:
    return importlib.metadata.version(name)


def _licence_of(name: str) -> str:
    """Return the texts of a package's licence, as its distribution carries them."""
    distribution = importlib.metadata.distribution(name)
    files = [
        f for f in distribution.files or [] if f.name.upper().startswith(("LICENSE", "LICENCE"))
    ]
    own = [file for file in files if ".dist-info" in str(file)]
    if name == "furo":  # what its scripts are made of
        own += [file for file in distribution.files or [] if file.name.endswith(".LICENSE.txt")]
    return "\n".join(_read(Path(str(distribution.locate_file(file)))) for file in own)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
