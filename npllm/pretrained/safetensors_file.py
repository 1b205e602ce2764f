"""safetensors files, read and written without a second copy of the weights.

A file is the length of a header in eight bytes, the header in JSON, and the tensors' bytes. The
library's NumPy reader has no bfloat16, in which public checkpoints are, and reads all at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npllm.files import replacing
from npllm.layers.arrays import Array
from npllm.pretrained.tensor_file import MappedFile, TensorInfo, tensor_size

_LONGEST_HEADER = 100_000_000  # the format's own limit
# bytes of a number; of these the floats of 16 bits and more are read as weights
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1}
_SIZES |= {f"{sign}{8 * size}": size for sign in "IU" for size in (1, 2, 4, 8)}


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
        if not isinstance(kind, str) or kind not in _SIZES:
            raise self.error(f"cannot be read: tensor {name!r:.80} has type {kind!r:.80}")
        size = tensor_size(tuple(shape), 1, _SIZES[kind])
        if size is None or end - begin != size:
            raise self.error(
                f"is corrupt: tensor {name!r:.80} has {end - begin} bytes, {kind} of shape "
                f"{shape!r:.80} needs {size}"
            )
        return TensorInfo(tuple(shape), kind, start + begin, size)


def write_safetensors(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write float32 and float64 arrays, one at a time, under a temporary name that is renamed.

    Raises:
        OSError: the file cannot be written.
        ValueError: an array has another dtype.
    """
    kinds = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}
    # the format's readers take "pt" to mean: plain tensors, no transposing on the way in
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in arrays.items():
        if array.dtype not in kinds:
            raise ValueError(f"{name} must be float32 or float64, got {array.dtype}")
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": kinds[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin where they may be read in place
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            np.asarray(array, array.dtype.newbyteorder("<"), order="C").tofile(file)
