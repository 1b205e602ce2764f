"""What a file of tensors is, whichever its format: names, shapes, types and places, all checked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array
from npllm.pretrained.dequantize import Bytes, dequantize


class TensorInfo(NamedTuple):
    """A tensor of a file.

    Attributes:
        shape: in NumPy's order, the last axis the one that lies together.
        type: by the format's name for it, "F32", "BF16", "Q4_1", ...
        offset: of its first byte in the file.
        size: how many bytes it has.
    """

    shape: tuple[int, ...]
    type: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


class TensorFile(Protocol):
    """Tensors by name, read one at a time.

    Attributes:
        path: of the file, for messages.
    """

    path: str

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """What it holds, by name."""

    def load(self, name: str, dtype: npt.DTypeLike = np.float32) -> Array:
        """Return a tensor's numbers."""


class MappedFile:
    """A file in memory as far as it is looked at; its formats fill in ``tensors``.

    Args:
        path: the file's.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is empty.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with open(path, "rb") as file:  # what keeps it from being read is said as Python says it
            if not os.fstat(file.fileno()).st_size:
                raise self.error("is empty")
            self._bytes: Bytes = np.memmap(file, np.uint8, "r")
        self.tensors: dict[str, TensorInfo] = {}

    def error(self, problem: str) -> ValueError:
        """Return the error that says what is wrong with the file."""
        return ValueError(f"{self.path} {problem}")

    def check_places(self, start: int) -> None:
        """Raise ValueError if a tensor lies outside the file's data, or two share a byte."""
        before, last = start, ""
        for name, info in sorted(self.tensors.items(), key=lambda item: item[1].offset):
            if info.offset < before:
                where = f"overlaps {last!r:.80}" if last else "begins within the header"
                raise self.error(f"is corrupt: tensor {name!r:.80} {where}")
            if info.end > self._bytes.size:
                raise self.error(
                    f"is truncated: tensor {name!r:.80} ends at byte {info.end}, the file at "
                    f"{self._bytes.size}"
                )
            before, last = info.end, name

    def load(self, name: str, dtype: npt.DTypeLike = np.float32) -> Array:
        """Return a tensor's numbers; its memory is the caller's.

        Args:
            name: one of ``tensors``.
            dtype: float32 or float64.

        Raises:
            KeyError: there is no such tensor.
            ValueError: its type is not read here.
        """
        info = self.tensors[name]
        try:
            raw = self._bytes[info.offset : info.end].view(np.ndarray)
            return dequantize(raw, info.type, info.shape, dtype)
        except ValueError as error:
            raise self.error(f"cannot be read: tensor {name!r:.80}: {error}") from None


def tensor_size(shape: tuple[int, ...], numbers: int, size: int) -> int | None:
    """Return a tensor's bytes; None where its rows are not made of whole blocks.

    >>> tensor_size((3, 64), 32, 18), tensor_size((3, 40), 32, 18)
    (108, None)
    """
    row = shape[-1] if shape else 1
    return None if row % numbers else math.prod(shape) // numbers * size
