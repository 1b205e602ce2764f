"""A GGUF model in several files, as llama.cpp splits one that is large."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from npllm.files import Json
from npllm.layers.arrays import Array
from npllm.pretrained.gguf import GGUFFile
from npllm.tensor_file import TensorInfo

_NUMBERED = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class GGUFParts:
    """The parts of a model, which name each other: NAME-00001-of-00003.gguf and so on.

    Args:
        first: a part that is open; whichever it is.

    Attributes:
        metadata: those of the first part.
        tensors: those of all parts.

    Raises:
        OSError: a part is missing or cannot be read.
        ValueError: the parts do not belong together, or one is corrupt.
    """

    types = GGUFFile.types

    def __init__(self, first: GGUFFile) -> None:
        self.path = first.path
        name, count = _NUMBERED.search(self.path), first.metadata.get("split.count")
        if name is None or count != int(name[2]):
            raise first.error(
                f"is one of {count!r:.80} parts, and its name does not say which: it must end in "
                "-00001-of-00002.gguf or the like"
            )
        self.tensors: dict[str, TensorInfo] = {}
        self._files: dict[str, GGUFFile] = {}
        for number in range(1, int(name[2]) + 1):
            path = f"{self.path[: name.start()]}-{number:05}-of-{name[2]}.gguf"
            if not Path(path).exists():
                raise FileNotFoundError(f"{first.path} is one of {count} parts; {path} is missing")
            part = first if path == os.fspath(first.path) else GGUFFile(path)
            said = part.metadata.get("split.no"), part.metadata.get("split.count")
            if said != (number - 1, count):
                raise part.error(f"is corrupt: it says that it is part {said} of the model")
            if number == 1:
                self.metadata: dict[str, Json] = part.metadata
            if twice := part.tensors.keys() & self.tensors.keys():
                raise part.error(f"is corrupt: another part holds {min(twice)!r:.80} too")
            self.tensors |= part.tensors
            self._files |= dict.fromkeys(part.tensors, part)
        total = self.metadata.get("split.tensors.count")
        if total is not None and total != len(self.tensors):
            raise self.error(
                f"has {len(self.tensors)} tensors in its parts, and should have {total}"
            )

    def error(self, problem: str) -> ValueError:
        """Return the error that says what is wrong with the model."""
        return ValueError(f"{self.path} {problem}")

    def load(self, name: str, dtype: npt.DTypeLike = np.float32) -> Array:
        """Return a tensor's numbers."""
        return self._files[name].load(name, dtype)


def open_gguf(path: str | os.PathLike[str]) -> GGUFFile | GGUFParts:
    """Return a model's file, with its other parts where it is one of several."""
    file = GGUFFile(path)
    whole = file.metadata.get("split.count") in (None, 0, 1)
    return file if whole else GGUFParts(file)
