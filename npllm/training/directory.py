"""The directory of a run, which appears with all that it needs in it, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from npllm import files


def check_free(directory: Path) -> None:
    """Raise an error unless a run can have the directory.

    Raises:
        FileExistsError: it holds something, or is a file.
        ValueError: it has no name.
    """
    if not directory.name:
        raise ValueError(f"a run needs a new directory of its own, got {directory}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        holds = "already holds files:" if directory.is_dir() else "already is a file:"
        if (directory / "run.json").exists():
            holds = "already holds a run: resume it, or"
        raise FileExistsError(f"{directory} {holds} choose another directory")


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Yield a directory to fill, which gets its name once the block has ended well.

    Raises:
        OSError: the directory holds something, or cannot be written.
        ValueError: it has no name.
    """
    check_free(directory)
    filled = False
    try:
        with files.appearing(directory) as temporary:
            yield temporary
            filled = True
    except OSError:
        if filled:
            check_free(directory)  # of a run that was started at the same moment
        raise
