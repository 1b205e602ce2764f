"""GGUF, the file format of llama.cpp: metadata, and tensors that may be quantized.

A file is a magic number, a version, two counts, the metadata's keys and values, the names, shapes,
types and places of the tensors, and then their data, aligned. All of it is little-endian, strings
and arrays begin with their length, and shapes begin with the axis that lies together. Nothing is
believed: a length is compared with what is left of the file before anything is made of it.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np

from npllm.files import Json
from npllm.pretrained.dequantize import GGML_TYPES
from npllm.tensor_file import MappedFile, TensorInfo, tensor_size

VERSIONS = (2, 3)
_ALIGNMENT = 32  # where the metadata name none
_AXES = 4  # as many as ggml has
# the least that a key with its value and a tensor's description take
_LEAST_KEY, _LEAST_TENSOR = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<B",
    10: "<Q",
    11: "<q",
    12: "<d",
}

# ggml's types by number
_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    30: "BF16",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}


class GGUFFile(MappedFile):
    """A GGUF file, version 2 or 3: what it says, and its tensors, read one at a time.

    Args:
        path: the file's.

    Attributes:
        version: of the format.
        metadata: keys and values; numbers, strings, truth values and lists of them.
        tensors: shape, type and place of each, by name.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no GGUF file, of another version, truncated or corrupt; the message names
            the file and says what is wrong.
    """

    types = GGML_TYPES

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._view = self._bytes.data
        self._at = 0
        if bytes(self._view[:4]) != b"GGUF":
            raise self.error("is no GGUF file: it does not begin with GGUF")
        self._skip(4)
        self.version = self._scalar("<I", "the version")
        if self.version and not self.version & 0xFFFF:
            raise self.error("is a big-endian GGUF file; little-endian ones are read")
        if self.version not in VERSIONS:
            raise self.error(f"has GGUF version {self.version}; versions 2 and 3 are read")
        tensors = self._scalar("<Q", "the number of tensors")
        keys = self._scalar("<Q", "the number of keys")
        self.metadata: dict[str, Json] = {}
        entries = f"metadata and {tensors} tensors"
        self._check_count(keys, _LEAST_KEY, entries, tensors * _LEAST_TENSOR)
        for _ in range(keys):
            self._read_key()
        self._check_count(tensors, _LEAST_TENSOR, "tensors")
        for _ in range(tensors):
            self._read_tensor()
        self._place()
        self._view.release()

    def _skip(self, size: int, what: str = "the header") -> int:
        """Go on by so many bytes, and return where they begin."""
        start = self._at
        if size > len(self._view) - start:
            raise self.error(
                f"is truncated or corrupt: {what} at byte {start} would take {size} bytes, "
                f"{len(self._view) - start} are left"
            )
        self._at = start + size
        return start

    def _check_count(self, count: int, least: int, what: str, besides: int = 0) -> None:
        left, needed = len(self._view) - self._at, count * least + besides
        if needed > left:
            raise self.error(
                f"is truncated or corrupt: {count} {what} would take {needed} bytes or more, "
                f"{left} are left"
            )

    def _scalar(self, code: str, what: str) -> Any:
        return struct.unpack_from(code, self._view, self._skip(struct.calcsize(code), what))[0]

    def _string(self, what: str) -> str:
        size = self._scalar("<Q", what)
        start = self._skip(size, what)
        try:
            return str(self._view[start : start + size], "utf-8")
        except UnicodeDecodeError:
            raise self.error(f"is corrupt: {what} at byte {start} is no UTF-8") from None

    def _read_key(self) -> None:
        key = self._string("a metadata key")
        what = f"the value of {key!r:.80}"
        if key in self.metadata:
            raise self.error(f"is corrupt: the metadata have {key!r:.80} twice")
        kind = self._scalar("<I", f"the type of {key!r:.80}")
        self.metadata[key] = self._array(what) if kind == _ARRAY else self._value(kind, what)

    def _value(self, kind: int, what: str) -> Json:
        if kind == _STRING:
            return self._string(what)
        value = self._scalar(self._code(kind, what), what)
        return bool(value) if kind == _BOOL else value

    def _code(self, kind: int, what: str) -> str:
        if kind not in _SCALARS:
            raise self.error(f"is corrupt: {what} has type {kind}, which GGUF has not")
        return _SCALARS[kind]

    def _array(self, what: str) -> list[Json]:
        kind, count = self._scalar("<I", what), self._scalar("<Q", what)
        if kind == _ARRAY:
            raise self.error(f"cannot be read: {what} is an array of arrays")
        if kind == _STRING:
            self._check_count(count, 8, f"strings in {what}")
            return [self._string(what) for _ in range(count)]
        dtype = np.dtype(self._code(kind, what))
        start = self._skip(count * dtype.itemsize, what)
        values = np.frombuffer(self._view, dtype, count, start)
        return (values.astype(np.bool_) if kind == _BOOL else values).tolist()

    def _read_tensor(self) -> None:
        name = self._string("a tensor's name")
        what = f"tensor {name!r:.80}"
        if name in self.tensors:
            raise self.error(f"is corrupt: it has {what} twice")
        axes = self._scalar("<I", what)
        if axes > _AXES:
            raise self.error(f"is corrupt: {what} has {axes} axes, the most is {_AXES}")
        shape = tuple(self._scalar("<Q", what) for _ in range(axes))[::-1]
        kind, offset = self._scalar("<I", what), self._scalar("<Q", what)
        if not all(shape):
            raise self.error(f"is corrupt: {what} has shape {shape}")
        if kind not in _TYPES:
            raise self.error(f"cannot be read: {what} has type {kind}, which is not known here")
        type_name = _TYPES[kind]
        block = self.types[type_name]
        size = tensor_size(shape, block)
        if size is None:
            raise self.error(
                f"is corrupt: {what} has rows of {shape[-1]}, blocks of {type_name} {block.numbers}"
            )
        self.tensors[name] = TensorInfo(shape, type_name, offset, size)

    def _place(self) -> None:
        """Count the tensors' offsets from the beginning of the file, and check them."""
        alignment = self.metadata.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self.error(f"is corrupt: its alignment is {alignment!r:.80}, no power of two")
        start = -(-self._at // alignment) * alignment
        for name, info in self.tensors.items():
            if info.offset % alignment:
                raise self.error(f"is corrupt: tensor {name!r:.80} is not aligned to {alignment}")
            self.tensors[name] = info._replace(offset=start + info.offset)
        self.check_places(start)
