"""The corpus: read as it is, or refused with a reason."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.text import load_text, split_text


def test_the_default_corpus():
    text = load_text()
    assert len(text) > 400_000
    assert "lambda" in text
    assert text == load_text()


def test_the_default_corpus_may_be_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match=r"lacks pydoc_data\.topics.*data=FILE"):
        load_text()


@pytest.mark.parametrize("text", ["a\r\nb\rc\n", "a\ufeff", "😀\x00\x85\u2028", " "])
def test_a_file_is_read_as_it_is(tmp_path, text):
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    assert load_text(path) == load_text(str(path)) == text


def test_a_byte_order_mark_is_no_character(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa\n")
    assert load_text(path) == "a\n"


@pytest.mark.parametrize("valid", [0, 3, 100_000])
@pytest.mark.parametrize("broken", [b"\xff", b"\xe2\x82", b"\xed\xa0\x80"])
def test_the_first_bad_byte_is_named(tmp_path, valid, broken):
    path = tmp_path / "text"
    path.write_bytes(b"a" * valid + broken + b"")
    with pytest.raises(ValueError, match=f"text is not UTF-8 .byte {valid} is {broken[0]:#x}"):
        load_text(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "text"
    path.touch()
    with pytest.raises(ValueError, match="text is empty"):
        load_text(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_text(tmp_path / "missing")
    with pytest.raises(OSError, match=r"."):  # IsADirectoryError, or PermissionError on Windows
        load_text(tmp_path)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read anything")
def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "text"
    path.write_text("secret")
    path.chmod(0)
    with pytest.raises(PermissionError):
        load_text(path)


@given(st.text(), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_split_loses_nothing(text, held_out):
    train, validation = split_text(text, held_out)
    assert train + validation == text
    assert abs(len(validation) - len(text) * held_out) <= 0.5


@pytest.mark.parametrize("held_out", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_must_leave_something_on_both_sides(held_out):
    with pytest.raises(ValueError, match=f"held_out must lie strictly .* got {held_out}"):
        split_text("text", held_out)
