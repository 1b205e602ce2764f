"""ARPA files: what is written, what is read, and what is refused."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.ngram import NgramLanguageModel
from npllm.ngram.arpa import read_arpa, spelled, write_arpa
from npllm.text import CharacterTokenizer, WhitespaceTokenizer, WordTokenizer

WORDS = ("</s>", "<unk>", "the", "cat", "sat")
SMALL = """\
made by hand

\\data\\
ngram 1=5
ngram 2=2
ngram 3=1

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-0.5\ta\t-0.25
-1.0 b
-2\t<unk>

\\2-grams:
-0.1\t<s> a\t-0.125
-0.2\ta b

\\3-grams:
-0.05\tb a b

\\end\\
"""


def written(path, text=SMALL):
    path.write_text(text, encoding="utf-8")
    return path


def log10(model, *words):
    """Return log10 p of the last word after those before it, which begin a sentence."""
    log_p, _ = model.log_probabilities([words[:-1]], [words[1:]])
    return log_p[0, -1] / np.log(10)


@pytest.mark.parametrize("smoothing", ["witten-bell", "kneser-ney"])
@pytest.mark.parametrize("end", [None, 0])
@given(
    text=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    other=st.lists(st.integers(0, 4), min_size=2, max_size=30),
    order=st.integers(1, 4),
)
def test_out_and_in_scores_the_same(tmp_path_factory, smoothing, end, text, other, order):
    model = NgramLanguageModel.count(text, 5, order=order, smoothing=smoothing, end=end)
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    words = WORDS if end == 0 else ("x", "y", "the", "cat", "sat")
    write_arpa(path, model, words)
    again, names = read_arpa(path)
    assert sorted(names) == sorted({*words, "</s>", "<unk>"})
    assert again.end == names.index("</s>")
    ids = np.array([names.index(words[i]) for i in other])
    given, _ = model.log_probabilities([other[:-1]], [other[1:]], model.initial_state(1))
    state = np.full((1, order - 1), -1) if end is None else None
    found, _ = again.log_probabilities(ids[None, :-1], ids[None, 1:], state)
    # a number in decimal and a logarithm's base there and back
    assert found == pytest.approx(given, rel=1e-14)


def test_the_file_is_as_the_tools_have_it(tmp_path):
    model = NgramLanguageModel.count([0, 1, 0], 2, order=2, smoothing="witten-bell")
    write_arpa(tmp_path / "model.arpa", model, ["a", "b"])
    lines = (tmp_path / "model.arpa").read_text(encoding="utf-8").splitlines()
    fields = [line.split("\t") for line in lines]
    assert lines[:4] == ["\\data\\", "ngram 1=5", "ngram 2=3", ""]
    assert [f[1] for f in fields if len(f) > 1] == [
        "a",
        "b",
        "<s>",
        "</s>",
        "<unk>",
        "a b",
        "b a",
    ] + ["<s> a"]
    assert lines[-2:] == ["", "\\end\\"]
    # p(a) = (2 + 2 / 2) / (3 + 2), and after a came b: one of one
    (a,) = (f for f in fields if f[1:2] == ["a"])
    assert 10 ** float(a[0]) == pytest.approx(3 / 5)
    assert 10 ** float(a[2]) == pytest.approx(1 / 2)
    # what is handed on by the last order, or is 1, is not written
    assert {f[1]: len(f) for f in fields if len(f) > 1} == {
        **dict.fromkeys(["a", "b", "<s>"], 3),
        **dict.fromkeys(["</s>", "<unk>", "a b", "b a", "<s> a"], 2),
    }


def test_a_weight_of_one_is_not_written(tmp_path):
    model = NgramLanguageModel.count([0, 1, 2, 1], 4, order=3, smoothing="witten-bell")
    write_arpa(tmp_path / "model.arpa", model, ["a", "b", "c", "d"])
    text = (tmp_path / "model.arpa").read_text(encoding="utf-8")
    fields = [line.split("\t") for line in text.splitlines() if "\t" in line]
    # nothing comes after d, nor after c b
    assert [f[1] for f in fields if len(f) == 2 and f[1].count(" ") < 2] == [
        *("d", "</s>", "<unk>", "c b"),
    ]


def test_what_is_written_at_a_time_does_not_matter(tmp_path, monkeypatch):
    model = NgramLanguageModel.count([0, 1, 2, 1, 0, 2, 2], 3, order=3, smoothing="witten-bell")
    write_arpa(tmp_path / "whole.arpa", model, "abc")
    monkeypatch.setattr("npllm.ngram.arpa._LINES", 2)
    write_arpa(tmp_path / "parts.arpa", model, "abc")
    whole, parts = ((tmp_path / f"{name}.arpa").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_prefixes_that_a_file_lacks_are_as_likely_as_what_is_handed_on(tmp_path):
    text = """\\data\\
ngram 1=3
ngram 2=2
ngram 3=1
ngram 4=4

\\1-grams:
-0.5\ta\t-0.25
-1.0\tb\t-0.125
0\tc

\\2-grams:
-0.1\ta b\t-0.75
-0.2\tb c

\\3-grams:
-0.3\ta b c

\\4-grams:
-0.4\ta b c a
-0.6\tc a b c
-0.7\ta a a a
-0.8\tb b c a

\\end\\
"""
    model, words = read_arpa(written(tmp_path / "model.arpa", text))
    assert words == ("a", "b", "c")
    a, b, c = range(3)
    assert model.end is None
    assert model.tables[0].codes.tolist() == [a, b, c, 3]  # the mark, which the file has not
    assert model.tables[0].log_p[3] == -np.inf
    assert [len(part) for part in model.tables[0]] == [4, 4, 4]
    state = np.full((1, 3), -1)

    def last(*words):
        log_p, _ = model.log_probabilities([words[:-1]], [words[1:]], state)
        return log_p[0, -1] / np.log(10)

    assert last(a, b, c, a) == pytest.approx(-0.4)
    assert last(c, a, b, c) == pytest.approx(-0.6)
    assert last(a, a, a, a) == pytest.approx(-0.7)
    assert last(b, b, c, a) == pytest.approx(-0.8)
    assert last(b, b, c) == pytest.approx(-0.2)
    assert last(b, b, b, c) == pytest.approx(-0.2)  # after what the file has not
    assert last(c, a) == pytest.approx(-0.5)  # c hands on whole
    assert last(c, a, b) == pytest.approx(-0.1)
    assert last(a, a) == pytest.approx(-0.25 - 0.5)
    assert last(a, a, a) == pytest.approx(-0.25 - 0.5)
    assert last(b, c, b) == pytest.approx(-1.0)
    assert last(a, c) == pytest.approx(-0.25)


def test_what_others_write_is_read(tmp_path):
    model, words = read_arpa(written(tmp_path / "small.arpa"))
    assert words == ("</s>", "a", "b", "<unk>")
    assert model.config == {"vocab_size": 4, "order": 3, "smoothing": "arpa", "end": 0}
    assert model.order == 3
    assert model.end == 0
    a, b, unknown = 1, 2, 3
    assert log10(model, 0, a) == pytest.approx(-0.1)  # <s> a
    assert log10(model, 0, b) == pytest.approx(-0.5 - 1.0)  # handed on from <s>
    assert log10(model, 0, a, b) == pytest.approx(-0.125 - 0.2)
    assert log10(model, 0, a, unknown) == pytest.approx(-0.125 - 0.25 - 2)
    # the prefix b a is not in the file: it is as likely as a, b's weight being 1
    assert log10(model, b, a) == pytest.approx(-0.5)
    assert log10(model, b, a, b) == pytest.approx(-0.05)
    assert log10(model, b, a, a) == pytest.approx(-0.25 - 0.5)


def test_a_compressed_file_is_read(tmp_path):
    path = tmp_path / "small.arpa.gz"
    path.write_bytes(gzip.compress(SMALL.encode()))
    model, _ = read_arpa(path)
    assert log10(model, 0, 1) == pytest.approx(-0.1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="truncated"):
        read_arpa(path)
    path.write_bytes(whole[:20] + bytes(99))
    with pytest.raises(ValueError, match=r"small\.arpa\.gz is corrupt"):
        read_arpa(path)


def test_a_file_without_marks_is_read(tmp_path):
    text = "\\data\\\nngram 1=2\n\n\\1-grams:\n-0.3 a\n-0.4 b\n\n\\end\\\n"
    model, words = read_arpa(written(tmp_path / "model.arpa", text))
    assert (words, model.end) == (("a", "b"), None)
    assert log10(model, 0, 1) == pytest.approx(-0.4)


def test_what_is_said_to_come_before_a_beginning_is_left_out(tmp_path):
    text = SMALL.replace("-0.2\ta b", "-0.2\ta <s>")
    model, _ = read_arpa(written(tmp_path / "model.arpa", text))
    log_p, _ = model.predict([[0, 1]])
    assert log_p.shape == (1, 2, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", "the file ends here"),
        ("ngram 2=2", "ngram 3=2", "line 5: must be ngram 2=NUMBER"),
        ("ngram 1=5\nngram 2=2\nngram 3=1\n", "", "ngram 1=NUMBER"),
        (SMALL, "", "line 1: the file ends here"),
        ("ngram 1=5", "ngram 1=100000000000000000000", "line 4: must be ngram 1=NUMBER"),
        ("-1.0 b", "-1.0", "line 12: must be a number, 1 word and perhaps another number"),
        ("ngram 2=2", "ngram 2=3", r"line 18: must be a number, 2 words"),
        ("ngram 2=2", "ngram 2=1", r"line 17: must be \\3-grams:"),
        ("-0.2\ta b", "-0.2\ta c", r"line 17: 'c' is not among the 1-grams"),
        ("<s> a\t", "<s> c\t", r"line 16: 'c' is not among the 1-grams"),
        ("-0.1\t", "-0.1\tb\t", "line 16: must be a number, 2 words"),
        ("-0.1\t", "0.1\t", "line 16: the first number must be 0 or less"),
        ("-0.125", "-inf", "line 16: the first number must be 0 or less, the last finite"),
        ("-0.2\ta b", "x\ta b", "line 17: must be a number, 2 words"),
        ("-0.2\ta b", "-0.2\ta", "line 17: must be a number, 2 words"),
        ("-0.2\ta b", "-0.2\ta b -1 -1", "line 17: must be a number, 2 words"),
        ("-0.2\ta b", "0.2\ta b", "line 17: the first number must be 0 or less"),
        ("-0.2\ta b", "nan\ta b", "line 17: the first number must be 0 or less"),
        ("-0.2\ta b", "-0.2\ta b\tinf", "line 17: the first number must be 0 or less"),
        ("-0.2\ta b", "-0.2\t<s> a", "one of the 2-grams twice"),
        ("-2\t<unk>", "-2\ta", "it has the 1-gram 'a' twice"),
        ("-1.0 b\n-2\t<unk>", "-1.0 </s>\n-2\ta", "it has the 1-gram '</s>' twice"),
        ("\\end\\", "\\4-grams:", r"must be \\end\\"),
        ("\\end\\\n", "", r"without \\end\\: it is truncated"),
    ],
)
def test_what_is_no_arpa_file_is_refused(tmp_path, old, new, message):
    assert old in SMALL
    with pytest.raises(ValueError, match=message) as error:
        read_arpa(written(tmp_path / "bad.arpa", SMALL.replace(old, new)))
    assert "bad.arpa" in str(error.value)


def test_a_file_that_is_no_utf8_is_refused(tmp_path):
    path = tmp_path / "bad.arpa"
    path.write_bytes(SMALL.replace("b", "\xe9").encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_arpa(path)
    path.write_bytes(SMALL.replace("<s> a", "<s> \xe9").encode("latin-1"))
    with pytest.raises(ValueError, match="line 16: '\ufffd' is not among the 1-grams"):
        read_arpa(path)
    path.write_bytes(SMALL.replace("</s>", "\xe9").replace("-1.0 b", "-1 \xe9").encode("latin-1"))
    with pytest.raises(ValueError, match="it has the 1-gram '\ufffd' twice"):
        read_arpa(path)


@pytest.mark.parametrize("word", ["", "two words", "tab\t", "\n"])
def test_a_word_with_white_space_cannot_be_written(tmp_path, word):
    model = NgramLanguageModel.count([0], 1, order=1, smoothing="witten-bell")
    with pytest.raises(ValueError, match="white space"):
        write_arpa(tmp_path / "model.arpa", model, [word])
    assert not list(tmp_path.iterdir())


def test_add_k_cannot_be_written(tmp_path):
    model = NgramLanguageModel.count([0], 1, order=1, smoothing="add-k")
    with pytest.raises(ValueError, match="cannot say add-k"):
        write_arpa(tmp_path / "model.arpa", model, ["a"])


def test_tokens_are_spelled_without_white_space():
    tokens = [" ", "\n", "\t", "\r", "\\", "s", "\u3000", "\0"]
    words = spelled(CharacterTokenizer(tokens))
    assert words == ["\\s", "\\n", "\\t", "\\r", "\\\\", "s", "\\u{3000}", "\\u{0}"]
    assert len({*words}) == len(tokens)
    assert spelled(WhitespaceTokenizer(["<unk>", "a\\b", "</s>"])) == ["<unk>", "a\\b", "</s>"]
    marks = WordTokenizer(["a", "<s>", "</s>", "<unk>"])
    assert spelled(marks) == ["a", "\\<s>", "\\</s>", "\\<unk>"]
