"""Numbers as files hold them, back to floats: half precision, and blocks of small integers.

A quantized row is a row of blocks: 32 or 256 small integers q that share a scale d, and where it
helps an offset m, both float16: x = d q + m. The types with K hold 256, in groups with integer
scales of their own. The layouts are those of ggml, which GGUF files are written with.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npllm.tensor_file import PLAIN, Array, Bytes, NumberType, read_numbers


def dequantize(
    raw: Bytes, kind: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32
) -> Array:
    """Return the numbers that bytes stand for.

    Quantized types are computed in float32, as everywhere; float64 holds the same numbers.

    Args:
        raw: the bytes, one block after the other.
        kind: their type, by ggml's name for it.
        shape: of the result.
        dtype: float32 or float64.

    Raises:
        ValueError: the type is none of those that are read here, or there are more or fewer bytes
            than the shape needs.

    >>> block = np.array([0, 0x38, 0, 0x3C] + 16 * [0x21], np.uint8)  # d = 0.5, m = 1, q = 1, 2
    >>> dequantize(block, "Q4_1", (2, 16))[:, 0].tolist()
    [1.5, 2.0]
    """
    return read_numbers(raw, kind, GGML_TYPES, shape, dtype)


def _half(blocks: Bytes, start: int) -> Array:
    """Return the float16 at a place of each block, (n, 1)."""
    return blocks[:, start : start + 2].copy().view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """Return the lower halves of all bytes of the last axis, then the upper halves."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _fifth_bits(packed: Bytes) -> Bytes:
    """Return 32 bits, the lowest first, each at the place of a 16."""
    return np.unpackbits(packed, axis=-1, bitorder="little") << np.uint8(4)


def _q4_0(blocks: Bytes) -> Array:
    q = _nibbles(blocks[:, 2:]).astype(np.float32)  # (n, 32)
    return _half(blocks, 0) * (q - 8)


def _q4_1(blocks: Bytes) -> Array:
    x = _nibbles(blocks[:, 4:]).astype(np.float32)  # (n, 32)
    x *= _half(blocks, 0)
    x += _half(blocks, 2)
    return x


def _q5_0(blocks: Bytes) -> Array:
    q = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])  # (n, 32)
    return _half(blocks, 0) * (q.astype(np.float32) - 16)


def _q5_1(blocks: Bytes) -> Array:
    q = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])  # (n, 32)
    return _half(blocks, 0) * q.astype(np.float32) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Array:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)  # (n, 32)


def _q4_k(blocks: Bytes) -> Array:
    """Eight groups of 32: x = (d scale) q - (dmin minimum), both six bits wide.

    Of twelve bytes the first four hold the scales of groups 0 to 3, the next four their minima, the
    last four the lower halves of both for groups 4 to 7, whose upper two bits lie above the others.
    """
    first, second, last = np.split(blocks[:, 4:16], 3, axis=-1)  # (n, 4) each
    scale = np.concatenate([first & 63, last & 15 | first >> 6 << 4], axis=-1)  # (n, 8)
    minimum = np.concatenate([second & 63, last >> 4 | second >> 6 << 4], axis=-1)
    d = _half(blocks, 0) * scale.astype(np.float32)
    m = _half(blocks, 2) * minimum.astype(np.float32)
    q = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return (d[..., None] * q.astype(np.float32) - m[..., None]).reshape(-1, 256)


def _q6_k(blocks: Bytes) -> Array:
    """Sixteen groups of 16: x = (d scale) (q - 32), with scales of eight bits.

    Either half of a block has 64 bytes for the lower four bits and 32 for the upper two: a byte of
    these belongs to four numbers that stand 32 apart.
    """
    lower = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    upper = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([[0], [2], [4], [6]], np.uint8) & 3
    q = (lower | upper << 4).astype(np.float32).reshape(-1, 16, 16)
    scale = blocks[:, 192:208].view(np.int8).astype(np.float32)
    d = _half(blocks, 208) * scale  # (n, 16)
    return (d[..., None] * (q - 32)).reshape(-1, 256)


GGML_TYPES = {
    **PLAIN,
    "Q4_0": NumberType(32, 18, _q4_0),
    "Q4_1": NumberType(32, 20, _q4_1),
    "Q5_0": NumberType(32, 22, _q5_0),
    "Q5_1": NumberType(32, 24, _q5_1),
    "Q8_0": NumberType(32, 34, _q8_0),
    "Q4_K": NumberType(256, 144, _q4_k),
    "Q6_K": NumberType(256, 210, _q6_k),
    # known, so that what is in a file can be told
    "Q8_1": NumberType(32, 40),
    "Q2_K": NumberType(256, 84),
    "Q3_K": NumberType(256, 110),
    "Q5_K": NumberType(256, 176),
    "Q8_K": NumberType(256, 292),
    "IQ2_XXS": NumberType(256, 66),
    "IQ2_XS": NumberType(256, 74),
    "IQ3_XXS": NumberType(256, 98),
    "IQ1_S": NumberType(256, 50),
    "IQ4_NL": NumberType(32, 18),
    "IQ3_S": NumberType(256, 110),
    "IQ2_S": NumberType(256, 82),
    "IQ4_XS": NumberType(256, 136),
    "I8": NumberType(1, 1),
    "I16": NumberType(1, 2),
    "I32": NumberType(1, 4),
    "I64": NumberType(1, 8),
    "IQ1_M": NumberType(256, 56),
    "TQ1_0": NumberType(256, 54),
    "TQ2_0": NumberType(256, 66),
    "MXFP4": NumberType(32, 17),
    "NVFP4": NumberType(64, 36),
    "Q1_0": NumberType(128, 18),
}
