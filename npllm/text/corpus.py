"""The text to learn from: any UTF-8 file, or the reference manual that comes with Python."""

from __future__ import annotations

import os

from npllm.datasets import find


def load_text(path: str | os.PathLike[str] | None = None) -> str:
    """Return the text of a UTF-8 file, line ends as they are, without a byte order mark.

    Args:
        path: the file, or the name of a data set; None for the Python language reference that every
            CPython carries (``pydoc_data.topics``, about 465,000 characters).

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is empty or not UTF-8; or this Python carries no language reference.
    """
    if path is None:
        return _python_reference()
    path = find(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise ValueError(
            f"{os.fspath(path)} is not UTF-8 ({byte}): convert it to UTF-8 first"
        ) from None
    if not text:
        raise ValueError(f"{os.fspath(path)} is empty: there is no text in it")
    return text


def split_text(text: str, held_out: float = 0.1) -> tuple[str, str]:
    """Return the first part to train on and the last part to validate on.

    Args:
        text: the whole.
        held_out: the share of characters in the last part.

    Raises:
        ValueError: the share is not strictly between 0 and 1.

    >>> split_text("0123456789")
    ('012345678', '9')
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must lie strictly between 0 and 1, got {held_out}")
    cut = len(text) - round(len(text) * held_out)
    return text[:cut], text[cut:]


def _python_reference() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ValueError(
            "this Python lacks pydoc_data.topics, the default corpus: name a file, data=FILE"
        ) from None
    return "\n\n".join(topics[name] for name in sorted(topics))
