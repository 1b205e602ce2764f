"""Writing: the old file or the new one, with the rights of any other, and never through a link."""

import ast
import json
import os
from pathlib import Path

import numpy as np
import pytest
from left_out import need

import npllm
from npllm import files
from npllm.checkpoint import save_weights
from npllm.models import Llama
from npllm.pretrained import save_pretrained
from npllm.text import BytePairTokenizer
from npllm.training import LanguageModelling
from npllm.training.curves import plot_run
from npllm.training.metrics import new_record


def fail(file):
    file.write(b"half of it")
    raise KeyboardInterrupt


def test_a_block_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as file:
        fail(file)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
    with files.replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "new"


def test_it_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch):
    done = []

    def noted(name, operation):
        return lambda *arguments: (done.append(name), operation(*arguments))

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    files.write_text(tmp_path / "file", "text")
    assert done == ["fsync", "replace"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_has_the_rights_of_any_other(tmp_path, mask):
    before = os.umask(mask)
    try:
        files.write_text(tmp_path / "ours", "text")
        (tmp_path / "other").write_text("text")
    finally:
        os.umask(before)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
@pytest.mark.parametrize("rights", [0o600, 0o640, 0o664])
def test_a_file_that_is_replaced_keeps_its_rights(tmp_path, link, rights):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(rights)
    files.write_text(path, "new")
    assert path.stat().st_mode & 0o777 == rights
    (tmp_path / "other").write_text("text")
    link(tmp_path / "link", path)
    files.write_text(tmp_path / "link", "new")  # a link has no rights to keep
    assert (tmp_path / "link").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "file", tmp_path / "folder"):
        with pytest.raises(OSError, match=r"folder|missing") as caught:
            files.write_text(path, "text")
        assert caught.value.filename == str(path)
        assert ".tmp" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_names_may_be_as_long_as_the_system_has_them(tmp_path):
    longest = 100 if os.name == "nt" else 250
    for path in (tmp_path / ("n" * longest), tmp_path / ("😀" * (longest // 4))):
        files.write_text(path, "text")
        assert path.read_text() == "text"


def test_what_is_added_to_is_no_link(tmp_path, link):
    path = tmp_path / "file"
    files.append_text(path, "one\n")
    files.append_text(path, "two ☃\n")
    assert path.read_bytes() == "one\ntwo ☃\n".encode()
    link(tmp_path / "link", path)
    with pytest.raises(ValueError, match=r"link is a link, and npllm writes through none"):
        files.append_text(tmp_path / "link", "three\n")
    assert path.read_bytes() == "one\ntwo ☃\n".encode()


def plot(path):
    need("matplotlib")
    line = dict.fromkeys(new_record(LanguageModelling.metrics), 1.0) | {"step": 1}
    (path.parent / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    plot_run(path.parent, path)


def pretrained(path):
    tokenizer = BytePairTokenizer.train("the quick brown fox", 260)
    sizes = {"context": 4, "width": 4, "num_layers": 1, "heads": 2}
    save_pretrained(path.parent, Llama(len(tokenizer.vocabulary), **sizes), None, tokenizer)


WRITERS = {
    "text": (lambda path: files.write_text(path, "text"), "some.html"),
    "JSON": (lambda path: files.write_json(path, [1]), "some.json"),
    "weights": (lambda path: save_weights(path, {"a": np.ones(3)}), "some.safetensors"),
    "picture": (plot, "curves.png"),
    **{
        f"pretrained {name}": (pretrained, name)
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    },
}


@pytest.mark.parametrize("target", ["there", "missing"])
@pytest.mark.parametrize(("write", "name"), WRITERS.values(), ids=WRITERS)
def test_no_link_is_followed(tmp_path, link, write, name, target):
    (tmp_path / "there").write_text("precious")
    room = tmp_path / "room"
    room.mkdir()
    for linked in (name, f"{name}.tmp"):
        link(room / linked, tmp_path / target)
    write(room / name)
    assert (tmp_path / "there").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["room", "there"]
    assert not (room / name).is_symlink()
    assert (room / name).stat().st_size > 0
    assert (room / f"{name}.tmp").is_symlink()


def writes(source):
    """Return the lines that write a file in another way than npllm.files."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        modes = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        opened = name == "open" and any(set(mode) & set("wax+") for mode in modes)
        if opened or name in ("write_text", "write_bytes", "touch", "save_file", "mkstemp"):
            owner = getattr(getattr(node.func, "value", None), "id", "")
            if owner != "files" and not (name == "write_text" and isinstance(node.func, ast.Name)):
                found.append(ast.unparse(node))
    return found


def test_files_are_written_in_one_place():
    sources = list(Path(npllm.__file__).parent.rglob("*.py"))
    assert len(sources) > 30
    for path in sources:
        if path.name != "files.py":
            assert not writes(path.read_text("utf-8")), path


def test_other_ways_to_write_are_seen():
    """Negative control."""
    for source in ("open(p, 'w')", "p.open(mode='ab')", "p.write_text('x')", "p.touch()"):
        assert writes(source) == [source]
    for source in ("open(p)", "open(p, 'rb')", "files.write_text(p, 'x')", "write_text(p, 'x')"):
        assert not writes(source)
