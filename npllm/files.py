"""Files read and written safely: JSON, and writing that follows no link.

A file is written whole under a fresh name beside it, flushed, and renamed: what people find is the
old one or the new one, and a link in its place is replaced, whatever it points to.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeGuard

# what JSON holds, and the metadata of a file
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def temporary_name(path: Path) -> Path:
    """Return a name beside a path that nobody can guess; short, however long the path's is.

    >>> len(temporary_name(Path("folder", "name")).name)
    25
    """
    return path.with_name(f"{path.name[:24]}.{secrets.token_hex(8)}.tmp")


@contextmanager
def appearing(directory: Path) -> Iterator[Path]:
    """Yield a directory to fill, which gets its name once the block has ended well.

    Raises:
        OSError: there is one of that name which is not empty, or it cannot be written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(directory)
    try:
        temporary.mkdir()
        yield temporary
        if directory.exists():
            directory.rmdir()
        temporary.rename(directory)
        flush(directory.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a new file, which takes the place of the path's once the block has ended well.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        with open(temporary, "xb") as file:  # x: exclusive, so that it follows no link either
            yield file
            _keep_rights(path, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (temporary, os.fspath(temporary)):
            error.filename, error.filename2 = os.fspath(path), None  # the name that people know
        raise


def _keep_rights(path: Path, file: BinaryIO) -> None:
    """Give a file the rights of the one that it will replace."""
    if hasattr(os, "fchmod") and path.is_file() and not path.is_symlink():
        os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text, in UTF-8, in place of what was there.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a value as JSON that people can read, in place of what was there.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def append_text(path: Path, text: str) -> None:
    """Add a text to the end of a file, which is made where there is none.

    Raises:
        OSError: it cannot be written.
        ValueError: it is a link.
    """
    refuse_link(path)
    with open(path, "ab") as file:
        file.write(text.encode())


def refuse_link(path: Path) -> None:
    """Raise ValueError if a file that is changed in its place is a link to another."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link, and npllm writes through none: remove it")


def read_json(path: Path) -> Json:
    """Read a JSON file.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is truncated or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is no complete JSON file") from None


def is_number(value: Json) -> TypeGuard[float]:
    """Whether a value is a number; a truth value is none."""
    return type(value) in (int, float)


def check_header(path: Path, value: Json, expected: str, version: int) -> dict[str, Any]:
    """Return a JSON file's object, whose values are checked by those who use them.

    Raises:
        ValueError: npllm did not write it, or in a version that this one does not read.
    """
    if not isinstance(value, dict) or value.get("format") != expected:
        raise ValueError(f"{path} was not written by npllm")
    if value.get("version") != version:
        raise ValueError(
            f"{path} has version {value.get('version')}, this npllm reads version {version}: "
            "use the npllm that wrote it, or a later one"
        )
    return value


def flush(path: Path) -> None:
    """Have the system put a file or directory on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
