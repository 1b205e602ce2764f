"""Where data sets lie once they are fetched, and how a name stands for a file."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from npllm.datasets.catalogue import CATALOGUE

# what each kind of data is written to
FILES = {"text": "text.txt", "labels": "labels.tsv", "pairs": "pairs.tsv"}


def data_home() -> Path:
    """Return the folder of all data sets: that of NPLLM_DATA, or .npllm/data at home."""
    named = os.environ.get("NPLLM_DATA")
    return Path(named) if named else Path.home() / ".npllm" / "data"


def find(path_or_name: str | os.PathLike[str], kind: str = "text") -> str:
    """Return the path of a file, or of a data set's.

    A file of that name comes first. Every data set is a text.

    Args:
        path_or_name: either.
        kind: of what is looked for, a key of :data:`FILES`.

    Raises:
        FileNotFoundError: the data set has not been fetched, or is misspelt.
        ValueError: it has none of the kind.

    >>> find("no/such/file.txt")
    'no/such/file.txt'
    """
    name = os.fspath(path_or_name)
    if name not in CATALOGUE or os.path.isfile(name):
        close = difflib.get_close_matches(name, CATALOGUE, n=1)
        if close and not os.path.exists(name) and not os.path.splitext(name)[1]:
            raise FileNotFoundError(f"there is no {name}: did you mean the data set {close[0]}?")
        return name
    if kind not in ("text", CATALOGUE[name].kind):
        having = ", ".join(n for n, other in CATALOGUE.items() if other.kind == kind)
        raise ValueError(f"the data set {name} has no {kind}: those that have are {having}")
    path = data_home() / name / FILES[kind]
    if not path.is_file():
        raise FileNotFoundError(f"the data set {name} is not here: npllm data fetch {name}")
    return str(path)
