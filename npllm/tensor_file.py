"""What a file of tensors is, whichever its format: names, shapes, types and places, all checked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

_CHUNK = 1 << 17  # numbers at a time: what is made on the way stays in the processor's cache


class NumberType(NamedTuple):
    """How numbers lie in a file: by themselves, or in blocks that share a scale.

    Attributes:
        numbers: of a block.
        size: of a block, in bytes.
        read: makes the numbers of blocks (n, size); None of a type that is known and not read.
    """

    numbers: int
    size: int
    read: Callable[[Bytes], Array] | None = None


def _plain(dtype: str) -> Callable[[Bytes], Array]:
    return lambda blocks: np.ascontiguousarray(blocks).view(dtype)


def _bf16(blocks: Bytes) -> Array:
    # the upper half of a float32
    upper = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32)
    return (upper << np.uint32(16)).view(np.float32)


PLAIN = {
    "F64": NumberType(1, 8, _plain("<f8")),
    "F32": NumberType(1, 4, _plain("<f4")),
    "F16": NumberType(1, 2, _plain("<f2")),
    "BF16": NumberType(1, 2, _bf16),
}


def read_numbers(
    raw: Bytes,
    kind: str,
    types: Mapping[str, NumberType],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike = np.float32,
) -> Array:
    """Return the numbers that bytes stand for.

    Args:
        raw: the bytes, one block after the other.
        kind: their type, a name of ``types``.
        types: that the format has.
        shape: of the result.
        dtype: float32 or float64.

    Raises:
        ValueError: the type is none of those that are read, or there are more or fewer bytes than
            the shape needs.

    >>> raw = np.array([0xC0, 0x3F, 0x00, 0xC0], np.uint8)  # upper halves of 1.5 and -2
    >>> read_numbers(raw, "BF16", PLAIN, (2,)).tolist()
    [1.5, -2.0]
    """
    numbers, size, read = types.get(kind, NumberType(1, 1))
    if read is None:
        known = ", ".join(name for name, of in types.items() if of.read)
        raise ValueError(f"tensors of type {kind} are not read here; {known} are")
    out: Array = np.empty(shape, dtype)
    if raw.size * numbers != out.size * size:
        raise ValueError(f"{out.size} numbers of type {kind} are not held by {raw.size} bytes")
    rows, blocks = out.reshape(-1, numbers), raw.reshape(-1, size)
    step = _CHUNK // numbers
    with np.errstate(all="ignore"):  # a scale may be infinite, a double too large for a float
        for start in range(0, len(rows), step):
            rows[start : start + step] = read(blocks[start : start + step]).reshape(-1, numbers)
    return out


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
    def types(self) -> Mapping[str, NumberType]:
        """The types that its format has."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """What it holds, by name."""

    def load(self, name: str, dtype: npt.DTypeLike = np.float32) -> Array:
        """Return a tensor's numbers."""


class MappedFile:
    """A file in memory as far as it is looked at; a format has ``types`` and fills ``tensors``.

    Args:
        path: the file's.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is empty.
    """

    types: ClassVar[Mapping[str, NumberType]]

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
        # one without elements may begin where another does
        by_place = sorted(self.tensors.items(), key=lambda item: (item[1].offset, item[1].end))
        for name, info in by_place:
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
            return read_numbers(raw, info.type, self.types, info.shape, dtype)
        except ValueError as error:
            raise self.error(f"cannot be read: tensor {name!r:.80}: {error}") from None


def tensor_size(shape: tuple[int, ...], block: NumberType) -> int | None:
    """Return a tensor's bytes; None where its rows are not made of whole blocks.

    >>> tensor_size((3, 64), NumberType(32, 18)), tensor_size((3, 40), NumberType(32, 18))
    (108, None)
    """
    row = shape[-1] if shape else 1
    return None if row % block.numbers else math.prod(shape) // block.numbers * block.size
