"""safetensors files beside the library's, in bfloat16 too, and broken ones."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from npllm.safetensors_file import SafetensorsFile, load_weights, save_weights

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1.5, -2.0]), "scalar": np.array(3.0)}


@pytest.fixture
def write(tmp_path):
    def written(content):
        path = tmp_path / "some.safetensors"
        path.write_bytes(content)
        return path

    return written


def packed(header, data=bytes(16)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(4,), begin=0, end=16):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_library_s_files_are_read(write, dtype):
    arrays = {name: array.astype(dtype) for name, array in ARRAYS.items()}
    file = SafetensorsFile(write(save(arrays, metadata={"format": "pt"})))
    assert file.metadata == {"format": "pt"}
    assert set(file.tensors) == set(ARRAYS)
    for name, array in ARRAYS.items():
        for wanted in (np.float32, np.float64):
            read = file.load(name, wanted)
            assert read.dtype == wanted
            np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_the_library_reads_what_is_written(tmp_path, dtype):
    path = tmp_path / "some.safetensors"
    arrays = {name: array.astype(dtype) for name, array in ARRAYS.items()}
    arrays["strided"] = arrays["a"].T
    save_weights(path, arrays)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    read = load_file(path)
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == dtype
        np.testing.assert_array_equal(read[name], array)
    with pytest.raises(ValueError, match="a must be float32, float64 or int64, got complex128"):
        save_weights(path, {"a": np.zeros(2, complex)})
    assert set(load_file(path)) == set(arrays)  # as it was


def test_numbers_are_loaded_as_they_are(write):
    arrays = {f"{a.dtype}": a for a in (np.arange(3, dtype=d) for d in ("f2", "f4", "f8"))}
    read = load_weights(write(save(arrays)))
    assert {name: array.dtype.name for name, array in read.items()} == {n: n for n in arrays}
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        read[name][...] = 0  # its memory is the caller's
    with pytest.raises(ValueError, match=r"some\.safetensors .* tensor 'x': .* I64 are not read"):
        load_weights(write(save({"x": np.arange(3)})))


def test_integers_are_loaded_where_they_are_asked_for(tmp_path, write):
    path = tmp_path / "some.safetensors"
    large = np.array([[2**62 + 1, -5], [0, 1]])  # no float has the first
    save_weights(path, {"codes": large, "p": np.arange(3.0)})
    read = load_weights(path, integers=True)
    assert read["codes"].dtype == np.int64
    np.testing.assert_array_equal(read["codes"], large)
    np.testing.assert_array_equal(read["p"], np.arange(3.0))
    read["codes"][...] = 0  # its memory is the caller's
    np.testing.assert_array_equal(load_file(path)["codes"], large)
    with pytest.raises(ValueError, match="tensor 'p' has type F64, not I64"):
        SafetensorsFile(path).load_integers("p")
    with pytest.raises(ValueError, match=r"tensor 'x': .* I32 are not read"):
        load_weights(write(save({"x": np.arange(3, dtype="i4")})), integers=True)


@pytest.mark.parametrize("order", "<>")
def test_torch_reads_numbers_of_two_sizes(torch, tmp_path, order):
    """A float64 at a place that 8 does not divide would be refused."""
    from safetensors.torch import load_file as load_with_torch

    arrays = {"odd": np.ones(3, f"{order}f4"), "double": np.arange(2, dtype=f"{order}f8")}
    save_weights(tmp_path / "x", arrays)
    for read in (load_with_torch(tmp_path / "x"), load_weights(tmp_path / "x")):
        assert {name: array.tolist() for name, array in read.items()} == {
            name: array.tolist() for name, array in arrays.items()
        }


def test_weights_are_written_without_a_copy(tmp_path):
    arrays = {f"{n}": np.ones(2**20, np.float32) for n in range(4)}
    tracemalloc.start()
    save_weights(tmp_path / "x", arrays)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    copies = [array.tobytes() for array in arrays.values()]  # negative control
    assert tracemalloc.get_traced_memory()[1] > sum(map(len, copies)) == 2**24
    tracemalloc.stop()


def test_what_is_written_is_the_library_s_byte_for_byte(tmp_path):
    arrays = {**ARRAYS, 'ö\n"': np.ones(3, np.float32), "a.b": np.zeros((2, 0)), "A": np.ones(1)}
    save_weights(tmp_path / "x", dict(reversed(arrays.items())))
    assert (tmp_path / "x").read_bytes() == save(arrays, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["e4m3fn", "e5m2"])
def test_every_float8_is_torch_s(torch, tmp_path, kind):
    from safetensors.torch import save_file

    x = torch.arange(256, dtype=torch.uint8).view(getattr(torch, f"float8_{kind}"))
    save_file({"x": x}, tmp_path / "x")
    np.testing.assert_array_equal(load_weights(tmp_path / "x")["x"], x.float().numpy())


BLOCKED = """
import sys
sys.modules["safetensors"] = None
import numpy as np
import npllm.cli, npllm.loading, npllm.models, npllm.pretrained, npllm.training
from npllm.checkpoint import load_weights, save_weights
save_weights(sys.argv[1], {"x": np.arange(3.0)})
assert load_weights(sys.argv[1])["x"].tolist() == [0, 1, 2]
try:
    import safetensors.numpy
except ImportError:
    print("blocked")
"""


def test_the_library_is_not_needed(tmp_path):
    """A browser cannot load its compiled part."""
    command = [sys.executable, "-c", BLOCKED, str(tmp_path / "x")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "blocked\n"


def test_bfloat16_as_torch_writes_it(torch, tmp_path):
    from safetensors.torch import save_file

    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_file({"x": x}, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.tensors["x"].type == "BF16"
    np.testing.assert_array_equal(file.load("x"), x.float().numpy())


def test_integers_are_known_and_refused_when_asked_for(write):
    file = SafetensorsFile(write(save({"ids": np.arange(3)})))
    assert file.tensors["ids"].shape == (3,)
    with pytest.raises(ValueError, match="tensor 'ids': tensors of type I64 are not read"):
        file.load("ids")


BROKEN = {
    "empty": (b"", "is empty"),
    "short": (b"\x10\0\0", "is no complete safetensors file"),
    "long header": ((2**62).to_bytes(8, "little"), "would have 4611686018427387904 bytes"),
    "no JSON": (packed(b"{'a'"), "its header: "),
    "no UTF-8": (packed(b"\xff\xfe"), "its header: "),
    "deep": (packed(b'{"a":' + b"[" * 100_000), "its header: "),
    "no object": (packed([1]), "its header is no JSON object"),
    "twice": (packed(b'{"a":0,"a":0}'), "a name stands there twice"),
    "no entry": (packed({"a": 3}), "its header says of 'a' 3"),
    "no dtype": (packed({"a": {"shape": [4], "data_offsets": [0, 16]}}), "its header says of 'a'"),
    "offsets": (packed({"a": entry(begin=-4)}), "its header says of 'a'"),
    "shape": (packed({"a": entry(shape=[4.0])}), "its header says of 'a'"),
    "truth": (packed({"a": entry(shape=[True, 4])}), "its header says of 'a'"),
    "dtype": (packed({"a": entry("F4")}), "tensor 'a' has type 'F4'"),
    "list": (packed({"a": entry(["F32"])}), r"tensor 'a' has type \['F32'\]"),
    "size": (packed({"a": entry(shape=[5])}), r"has 16 bytes, F32 of shape \[5\] needs 20"),
    "huge": (packed({"a": entry(shape=[2**62] * 4)}), "has 16 bytes, F32"),
    "outside": (packed({"a": entry(begin=8, end=24)}), "is truncated: tensor 'a' ends at byte"),
    "overlap": (packed({"a": entry(), "b": entry(shape=[1], end=4)}), "overlaps"),
    "hole": (packed({"a": entry(shape=[2], begin=8)}), "is corrupt: 8 bytes belong to no tensor"),
    "rest": (packed({"a": entry(shape=[2], end=8)}), "is corrupt: 8 bytes belong to no tensor"),
}


@pytest.mark.parametrize("names", [("none", "w"), ("w", "none")])
def test_a_tensor_without_elements_may_begin_where_another_does(write, names):
    entries = {"w": entry(shape=[4]), "none": entry(shape=[0], end=0)}
    path = write(packed({name: entries[name] for name in names}))
    file = SafetensorsFile(path)
    assert file.load("none").shape == (0,)
    assert file.load("w").shape == load(path.read_bytes())["w"].shape == (4,)


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_get_one_clear_line(write, content, message):
    path = write(content)
    with pytest.raises(ValueError, match=message) as caught:
        SafetensorsFile(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_the_parts_of_the_broken_files_are_sound(write):
    """Negative control: without the one fault each of them is read."""
    assert SafetensorsFile(write(packed({"a": entry()}))).load("a").tolist() == [0] * 4
    assert not SafetensorsFile(write(packed({}, b""))).tensors


def test_cut_and_changed_files_do_no_harm(write):
    content = save(ARRAYS)

    def read_all(content):
        file = SafetensorsFile(write(content))
        for name in file.tensors:
            file.load(name)

    for size in range(len(content)):
        with pytest.raises(ValueError, match=r"some\.safetensors"):
            read_all(content[:size])
    rng, messages = np.random.default_rng(0), []
    tracemalloc.start()
    for _ in range(500):
        changed = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        try:
            read_all(changed)
        except ValueError as error:
            messages.append(str(error))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert 125 < len(messages) < 500
    assert not any("\n" in message for message in messages)
