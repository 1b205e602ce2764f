"""GGUF files: what they say, what they hold, and what happens to those that are broken."""

import struct
import time
import tracemalloc

import numpy as np
import pytest
from gguf_writer import gguf_bytes, llama_gguf, pad, string, value

from npllm.pretrained import GGUFFile, load_pretrained

METADATA = {
    "text": "größe",
    "number": 7,
    "negative": -3,
    "float": 0.5,
    "true": True,
    "words": ["a", "", "Ġb"],
    "numbers": [1, 2, 3],
    "truths": [True, False],
    "nothing": [],
}
A = np.arange(6.0).reshape(2, 3)
TENSORS = {"a": A, "b": np.array([1.5, -2.0])}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["F32", "F16", "F64"])
def test_what_was_written_is_read(write, version, kind):
    file = GGUFFile(write(gguf_bytes(METADATA, TENSORS, version, kind)))
    assert file.version == version
    assert file.metadata == METADATA
    assert file.metadata["true"] is True
    assert list(file.tensors) == ["a", "b"]
    assert file.tensors["a"].shape == (2, 3)
    assert file.tensors["a"].type == kind
    for dtype in (np.float32, np.float64):
        read = file.load("a", dtype)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, A)
        np.testing.assert_array_equal(file.load("b", dtype), TENSORS["b"])
    read[...] = 0  # is the caller's
    np.testing.assert_array_equal(file.load("a"), A)


def test_gguf_s_own_writer(gguf, tmp_path):
    path = str(tmp_path / "own.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint64("big", 2**63)
    writer.add_int8("small", -5)
    writer.add_float64("double", 0.1)
    writer.add_array("floats", [0.5, 0.25])
    writer.add_array("words", ["a", "bc"])
    writer.add_custom_alignment(64)
    x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    raw = gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q", raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("x", x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile(path)
    expected = {"big": 2**63, "small": -5, "double": 0.1, "floats": [0.5, 0.25]}
    expected |= {"words": ["a", "bc"], "general.architecture": "llama", "general.alignment": 64}
    assert file.metadata == expected
    np.testing.assert_array_equal(file.load("x"), x)
    dequantized = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q8_0)
    np.testing.assert_array_equal(file.load("q"), dequantized)


def header(keys=b"", tensors=b"", counts=None, version=3, data=bytes(64)):
    """A file of raw parts; counts are of tensors and keys."""
    counts = counts or (bool(tensors), bool(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, *map(int, counts)) + keys + tensors
    return head + pad(len(head)) + data


def key(name="k", kind=4, raw=bytes(4)):
    return string(name) + struct.pack("<I", kind) + raw


def tensor(name="t", shape=(2,), kind=0, offset=0, axes=None):
    axes = struct.pack("<I", len(shape) if axes is None else axes)
    shape = struct.pack(f"<{len(shape)}Q", *shape)
    return string(name) + axes + shape + struct.pack("<IQ", kind, offset)


HUGE = 2**63
BROKEN = {
    "empty": (b"", "is empty"),
    "magic": (b"GGML" + bytes(40), "is no GGUF file"),
    "short": (b"GGUF\x03", "is truncated or corrupt: the version at byte 4 would take 4 bytes"),
    "version": (header(version=1), "has GGUF version 1; versions 2 and 3 are read"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a big-endian GGUF file"),
    "keys": (header(counts=(0, HUGE)), f"{HUGE} metadata and 0 tensors would take"),
    "tensors": (header(counts=(HUGE, 0)), f"0 metadata and {HUGE} tensors would take"),
    "both": (header(key(), counts=(3, 1)), "is truncated or corrupt"),
    "long key": (header(struct.pack("<Q", HUGE) + bytes(20), counts=(0, 1)), "a metadata key at"),
    "long text": (header(key(kind=8, raw=struct.pack("<Q", 2**40))), "the value of 'k' at byte"),
    "no text": (header(key(kind=8, raw=struct.pack("<Q", 2) + b"\xff\xfe")), "is no UTF-8"),
    "key type": (header(key(kind=13)), "the value of 'k' has type 13, which GGUF has not"),
    "long array": (header(key(kind=9, raw=struct.pack("<IQ", 4, 2**61))), "would take"),
    "many words": (header(key(kind=9, raw=struct.pack("<IQ", 8, 2**40))), "strings in the value"),
    "nested": (header(key(kind=9, raw=struct.pack("<IQ", 9, 1))), "is an array of arrays"),
    "array type": (header(key(kind=9, raw=struct.pack("<IQ", 99, 1))), "has type 99"),
    "twice a key": (header(key() + key(), counts=(0, 2)), "the metadata have 'k' twice"),
    "twice a tensor": (header(tensors=tensor() * 2, counts=(2, 0)), "it has tensor 't' twice"),
    "overlap": (
        header(tensors=tensor(shape=(9,)) + tensor("u", offset=32), counts=(2, 0)),
        "tensor 'u' overlaps 't'",
    ),
    "outside": (header(tensors=tensor(offset=2**62)), "is truncated: tensor 't' ends at byte"),
    "too large": (header(tensors=tensor(shape=(2**32, 2**31))), "is truncated: tensor 't' ends"),
    "no size": (header(tensors=tensor(shape=(3, 0))), r"has shape \(0, 3\)"),
    "many axes": (header(tensors=tensor(axes=2**31)), "has 2147483648 axes, the most is 4"),
    "unaligned": (header(tensors=tensor(offset=4)), "tensor 't' is not aligned to 32"),
    "unknown type": (header(tensors=tensor(kind=77)), "has type 77, which is not known here"),
    "half blocks": (header(tensors=tensor(shape=(40,), kind=2)), "has rows of 40, blocks of Q4_0"),
    "alignment": (
        header(key("general.alignment", raw=struct.pack("<I", 24)), tensor(), (1, 1)),
        "its alignment is 24, no power of two",
    ),
    "alignment's type": (
        header(key("general.alignment", 8, string("x")), tensor(), (1, 1)),
        "its alignment is 'x'",
    ),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_get_one_clear_line(write, content, message):
    path = write(content)
    with pytest.raises(ValueError, match=message) as caught:
        GGUFFile(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_the_parts_of_the_broken_files_are_sound(write):
    """Negative control: without the one fault each of them is read."""
    content = header(key() + key("l", 9, struct.pack("<IQ", 4, 0)), tensor(), (1, 2))
    file = GGUFFile(write(content))
    assert file.metadata == {"k": 0, "l": []}
    assert file.load("t").tolist() == [0, 0]


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        GGUFFile(tmp_path / "none.gguf")
    with pytest.raises(OSError, match=str(tmp_path)):
        GGUFFile(tmp_path)


def test_types_that_are_not_read_are_refused_by_name(write):
    raw = (10, (256,), bytes(84))
    file = GGUFFile(write(gguf_bytes({}, {"t": raw})))
    with pytest.raises(ValueError, match=r"some\.gguf cannot be read: tensor 't': .* type Q2_K"):
        file.load("t")


def read_all(path):
    """As far as a file goes: every tensor, and the model."""
    file = GGUFFile(path)
    for name in file.tensors:
        file.load(name)
    load_pretrained(path)


def test_a_file_that_is_cut_short_anywhere(write, make_llama):
    content = gguf_bytes(*llama_gguf(make_llama(num_layers=1)))
    read_all(write(content))
    for size in [*range(400), *range(400, len(content) - 31, 61)]:
        with pytest.raises(ValueError, match=r"some\.gguf"):
            read_all(write(content[:size]))


def test_changed_bytes_do_no_harm(write, make_llama):
    """Whatever a header says: it is read or refused, soon and without memory."""
    metadata, tensors = llama_gguf(make_llama(num_layers=1))
    content = gguf_bytes(metadata, tensors)
    rng = np.random.default_rng(0)
    messages = []
    tracemalloc.start()
    for _ in range(250):
        changed = bytearray(content)
        for place in rng.integers(4, 2600, size=rng.integers(1, 4)):  # the header
            changed[place] = rng.choice([0, 1, 255, changed[place] ^ 1 << rng.integers(8)])
        try:
            read_all(write(changed))
        except (ValueError, OSError) as error:
            messages.append(str(error))
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()
    assert 80 < len(messages) < 250
    assert not any("\n" in message for message in messages)


def test_a_long_list_is_read_in_time(write):
    words = [f"word{n}" for n in range(100_000)]
    path = write(gguf_bytes({"words": words}, {}))
    start = time.perf_counter()
    assert GGUFFile(path).metadata["words"] == words
    assert time.perf_counter() - start < 5  # takes 0.1


def test_the_writer_s_values_are_what_they_seem():
    assert value(True)[0] == 7
    assert value(["a"])[1] == struct.pack("<IQ", 8, 1) + string("a")
