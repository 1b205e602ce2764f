"""Blocks of small integers back to floats, bit for bit as gguf's own reader has them."""

import numpy as np
import pytest

from npllm.pretrained.dequantize import GGML_TYPES, dequantize
from npllm.pretrained.gguf import _TYPES

BLOCKS = {name: block for name, block in GGML_TYPES.items() if block.read}
QUANTIZED = [kind for kind in BLOCKS if kind.startswith("Q")]
# where a block has its float16 numbers
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0]}
HALVES |= {"Q4_K": [0, 2], "Q6_K": [208]}


def random_blocks(kind, count, seed=0):
    """Every bit random, but for the scales, which are finite."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(256, size=(count, BLOCKS[kind].size), dtype=np.uint8)
    for place in HALVES[kind]:
        halves = rng.normal(size=count).astype("<f2")
        blocks[:, place : place + 2] = halves.view(np.uint8).reshape(count, 2)
    return blocks


@pytest.mark.parametrize("kind", QUANTIZED)
@pytest.mark.parametrize("count", [1, 3, 5000])  # the last takes several chunks
def test_quantized_types_are_gguf_s_bit_for_bit(gguf, kind, count):
    blocks = random_blocks(kind, count)
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
    actual = dequantize(blocks.ravel(), kind, expected.shape)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))
    wide = dequantize(blocks.ravel(), kind, expected.shape, np.float64)
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(wide, expected)  # the same numbers, in more room


@pytest.mark.parametrize("kind", QUANTIZED)
def test_every_bit_of_a_block_matters(kind):
    """A reader that looks past a bit would pass where the random blocks happen not to show it."""
    block = random_blocks(kind, 1, seed=4)
    first = dequantize(block.ravel(), kind, (BLOCKS[kind].numbers,))
    for bit in range(8 * block.size):
        changed = block.copy()
        changed[0, bit // 8] ^= 1 << bit % 8
        second = dequantize(changed.ravel(), kind, first.shape)
        assert not np.array_equal(first, second), bit


@pytest.mark.parametrize("kind", QUANTIZED)
def test_rounding_to_a_type_and_back(gguf, kind):
    """An end of the range or a sign that was wrong would not come back near what it was."""
    x = np.random.default_rng(2).normal(size=(4, 512)).astype(np.float32)
    try:
        raw = gguf.quants.quantize(x, gguf.GGMLQuantizationType[kind])
    except NotImplementedError:
        pytest.skip("gguf reads this type, and does not write it")
    error = np.abs(dequantize(raw.ravel(), kind, x.shape) - x).max()
    assert error < {"Q8_0": 0.02, "Q5_0": 0.2, "Q5_1": 0.15}.get(kind, 0.4)


def test_hand_made_blocks():
    half = np.float16(0.5).tobytes(), np.float16(-1).tobytes()
    low_high = bytes([0x21] * 16)  # 1 below, 2 above
    cases = {
        "Q4_0": (half[0] + low_high, [-3.5, -3.0]),
        "Q4_1": (half[0] + half[1] + low_high, [-0.5, 0.0]),
        "Q5_0": (half[0] + bytes([0, 0, 255, 255]) + low_high, [-7.5, 1.0]),
        "Q5_1": (half[0] + half[1] + bytes([0, 0, 255, 255]) + low_high, [-0.5, 8.0]),
        "Q8_0": (half[0] + bytes([255] * 16 + [2] * 16), [-0.5, 1.0]),
    }
    for kind, (raw, (first, last)) in cases.items():
        x = dequantize(np.frombuffer(raw, np.uint8), kind, (32,))
        assert x.tolist() == [first] * 16 + [last] * 16, kind


def test_plain_types():
    x = np.array([[1.5, -2.25, 0.0], [3e-3, np.inf, -0.0]])
    for kind, dtype in {"F64": "<f8", "F32": "<f4", "F16": "<f2"}.items():
        raw = x.astype(dtype)
        read = dequantize(raw.view(np.uint8).ravel(), kind, x.shape, np.float64)
        np.testing.assert_array_equal(read, raw.astype(np.float64))
        assert np.signbit(read[1, 2])
    upper = (x.astype("<f4").view("<u4") >> 16).astype("<u2")
    read = dequantize(upper.view(np.uint8).ravel(), "BF16", x.shape)
    np.testing.assert_allclose(read, x, rtol=2**-7)
    np.testing.assert_array_equal(read[0], [1.5, -2.25, 0])


def test_bf16_is_torch_s(torch):
    x = torch.randn(500, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    raw = x.view(torch.uint8).numpy()
    np.testing.assert_array_equal(dequantize(raw, "BF16", (500,)), x.float().numpy())


def test_what_is_not_read_is_refused_by_name():
    with pytest.raises(ValueError, match="type Q2_K are not read here; F64, F32"):
        dequantize(np.zeros(84, np.uint8), "Q2_K", (256,))
    with pytest.raises(ValueError, match="64 numbers of type Q4_0 are not held by 18 bytes"):
        dequantize(np.zeros(18, np.uint8), "Q4_0", (64,))


def test_infinite_scales_are_no_crash():
    block = np.full(BLOCKS["Q4_1"].size, 255, np.uint8)
    block[:2] = np.float16(np.inf).reshape(1).view(np.uint8)
    block[4:] = 0
    assert np.isnan(dequantize(block, "Q4_1", (32,))).all()
    double = np.array([1e300]).view(np.uint8)
    assert np.isinf(dequantize(double, "F64", (1,)))


def test_the_sizes_of_blocks_are_gguf_s(gguf):
    sizes = {
        kind.value: (kind.name, *size) for kind, size in gguf.constants.GGML_QUANT_SIZES.items()
    }
    known = {number: (name, *GGML_TYPES[name][:2]) for number, name in _TYPES.items()}
    assert sizes == {**sizes, **known}
    assert GGML_TYPES.keys() == set(_TYPES.values())
    assert len(BLOCKS) == 11
