"""safetensors files, read and written by hand, without a second copy of the weights.

A file is the length of a header in eight bytes, the header in JSON, and the tensors' bytes. Of the
format's library the part for NumPy has neither bfloat16, in which public checkpoints are, nor
float8; it believes a header that has a name twice, names no tensor in its errors, and makes two
copies of what it writes. It is compiled, too, which a browser cannot load.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from npllm.files import replacing
from npllm.tensor_file import PLAIN, Array, Bytes, MappedFile, NumberType, TensorInfo, tensor_size

_LONGEST_HEADER = 100_000_000  # the format's own limit


def _e5m2(blocks: Bytes) -> Array:
    # the upper half of a float16
    return (blocks.astype(np.uint16) << np.uint16(8)).view(np.float16)


def _e4m3(blocks: Bytes) -> Array:
    # seven bits in place of a float16's, whose exponents mean 2**8 less; no infinities, one NaN
    bits = blocks.astype(np.uint16)
    half = ((bits & 0x80) << 8 | (bits & 0x7F) << 7).view(np.float16)
    return np.where((bits & 0x7F) == 0x7F, np.float32(np.nan), half.astype(np.float32) * 256)


_TYPES = {
    **PLAIN,
    "F8_E4M3": NumberType(1, 1, _e4m3),
    "F8_E5M2": NumberType(1, 1, _e5m2),
    # known, so that what is in a file can be told
    "BOOL": NumberType(1, 1),
    **{f"{sign}{8 * size}": NumberType(1, size) for sign in "IU" for size in (1, 2, 4, 8)},
}


class SafetensorsFile(MappedFile):
    """A safetensors file: its tensors, read one at a time.

    Args:
        path: the file's.

    Attributes:
        metadata: strings by name, which few files have.
        tensors: shape, type and place of each, by name.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no safetensors file, truncated or corrupt; the message names the file and
            says what is wrong.
    """

    types = _TYPES

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        length = int.from_bytes(self._bytes[:8].tobytes(), "little")
        start = 8 + length
        if start > self._bytes.size or length > _LONGEST_HEADER:
            raise self.error(
                f"is no complete safetensors file: its header would have {length} bytes, the file "
                f"has {self._bytes.size}"
            )
        header = self._parse(self._bytes[8:start].tobytes())
        self.metadata = header.pop("__metadata__", {})
        for name, entry in header.items():
            self.tensors[name] = self._info(name, entry, start)
        self.check_places(start)
        end = max((info.end for info in self.tensors.values()), default=start)
        held = sum(info.size for info in self.tensors.values())
        if (end, start + held) != (self._bytes.size, self._bytes.size):
            raise self.error(
                f"is corrupt: {self._bytes.size - start - held} bytes belong to no tensor"
            )

    def _parse(self, text: bytes) -> dict[str, Any]:
        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            entries = dict(pairs)
            if len(entries) < len(pairs):
                raise ValueError("a name stands there twice")
            return entries

        try:
            header = json.loads(text, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            problem = str(error) or type(error).__name__
            raise self.error(f"is no complete safetensors file: its header: {problem}") from None
        if not isinstance(header, dict):
            raise self.error("is no safetensors file: its header is no JSON object")
        return header

    def _info(self, name: str, entry: Any, start: int) -> TensorInfo:
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise self.error(f"is corrupt: its header says of {name!r:.80} {entry!r:.200}")
        if not isinstance(kind, str) or kind not in self.types:
            raise self.error(f"cannot be read: tensor {name!r:.80} has type {kind!r:.80}")
        size = tensor_size(tuple(shape), self.types[kind])
        if size is None or end - begin != size:
            raise self.error(
                f"is corrupt: tensor {name!r:.80} has {end - begin} bytes, {kind} of shape "
                f"{shape!r:.80} needs {size}"
            )
        return TensorInfo(tuple(shape), kind, start + begin, size)

    def load_integers(self, name: str) -> Array:
        """Return a tensor of 64-bit integers; its memory is the caller's.

        Raises:
            KeyError: there is no such tensor.
            ValueError: it is of another type.
        """
        info = self.tensors[name]
        if info.type != "I64":
            raise self.error(f"cannot be read: tensor {name!r:.80} has type {info.type}, not I64")
        raw = self._bytes[info.offset : info.end]
        return np.frombuffer(raw.tobytes(), "<i8").reshape(info.shape).astype(np.int64)


def load_weights(path: str | os.PathLike[str], *, integers: bool = False) -> dict[str, Array]:
    """Read a safetensors file: float64 and float16 as they are, all other floats as float32.

    Args:
        path: the file's.
        integers: whether there may be 64-bit integers too, which stay such.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is truncated, no safetensors file, or holds what are no floats.
    """
    file = SafetensorsFile(path)
    dtypes = {"F64": np.float64, "F16": np.float16}
    return {
        name: file.load_integers(name)
        if integers and info.type == "I64"
        else file.load(name, dtypes.get(info.type, np.float32))
        for name, info in file.tensors.items()
    }


def save_weights(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays to a safetensors file, ready for any framework that reads the format.

    Args:
        path: of the file; what was there is replaced.
        arrays: float32, float64 and int64, written one at a time.

    Raises:
        OSError: the file cannot be written.
        ValueError: an array has another dtype.
    """
    kinds = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64", np.dtype(np.int64): "I64"}
    # the format's readers take "pt" to mean: plain tensors, no transposing on the way in
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    # as the library orders them; so a number begins at a multiple of its size, which torch needs
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    for name, array in ordered:
        kind = kinds.get(array.dtype.newbyteorder("="))
        if kind is None:
            raise ValueError(f"{name} must be float32, float64 or int64, got {array.dtype}")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(np.asarray(array, array.dtype.newbyteorder("<"), order="C").data)
