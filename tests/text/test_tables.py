"""Tables of labelled texts, and pairs of files: read whole, or refused with the line."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.text.labelled import (
    Labelled,
    cleaned,
    label_names,
    read_labelled,
    split_labelled,
)
from npllm.text.padded_batches import LabelledBatches, PairedBatches, padded, paired
from npllm.text.paired import Paired, read_paired, split_paired

ROWS = [("Ça va?", "yes"), ('say "so", or not', "no"), ("two\u2028lines\x0b", "3")]


def write(tmp_path, suffix, rows, columns=("text", "label")):
    path = tmp_path / f"table{suffix}"
    if suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n\n", "utf-8")
    elif suffix == ".tsv":
        lines = ["\t".join(row) for row in [columns, *rows]]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        quoted = [",".join('"' + v.replace('"', '""') + '"' for v in row) for row in rows]
        path.write_text("\n".join([",".join(columns), *quoted]), "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
def test_each_kind_of_table_is_read(tmp_path, suffix):
    found = read_labelled(write(tmp_path, suffix, ROWS))
    assert list(zip(*found, strict=True)) == ROWS
    other = write(tmp_path, suffix, ROWS, ("words", "kind"))
    assert read_labelled(other, "words", "kind") == found
    with pytest.raises(ValueError, match="its columns are words, kind; none is text"):
        read_labelled(other)


def test_a_text_of_several_lines_in_quotes(tmp_path):
    path = write(tmp_path, ".csv", [("one\ntwo", "x"), ("three", "y")])
    assert read_labelled(path).texts == ["one\ntwo", "three"]


def test_numbers_may_be_labels(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": 0}', "utf-8")
    assert read_labelled(path).labels == ["1", "0"]
    assert label_names(["10", "9", "-1"]) == ("-1", "9", "10")
    assert label_names(["10", "9", "x"]) == ("10", "9", "x")
    for odd in ("\u00b2", "\u2460", "--1", "-"):  # digits of a kind, and no numbers
        assert label_names(["2", odd]) == tuple(sorted(["2", odd]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"", "must end in .tsv, .csv, .jsonl"),
        ("t.tsv", b"", "has no texts"),
        ("t.tsv", b"text\tlabel\n", "has no texts"),
        ("t.tsv", b"text\tlabel\na\n", "line 2: it has 1 columns, the first line 2"),
        ("t.tsv", b"text\tlabel\na\tx\n\tx\n", "line 3: its text is empty"),
        ("t.tsv", b"text\tlabel\na\t \n", "line 2: its label is empty"),
        ("t.csv", b'text,label\n"a,x\n', "line 2: unexpected end of data"),
        ("t.csv", b"text,label\na,b,c\n", "line 2: it has 3 columns, the first line 2"),
        ("t.jsonl", b'{"text": "a"}\n', "line 1: its columns are text; none is label"),
        (
            "t.jsonl",
            b'{"text": "a", "label": true}\n',
            "line 1: its label must be a text or a number, got True",
        ),
        (
            "t.jsonl",
            b'{"text": ["a"], "label": "b"}\n',
            "line 1: its text must be a text or a number, got",
        ),
        ("t.jsonl", b'{"text": "\\ud800", "label": "b"}\n', "its text has half of a character"),
        ("t.jsonl", b"[" * 100_000, "line 1: "),
        ("t.csv", b"text,text,label\na,b,c\n", "line 1: it names the column 'text' twice"),
        ("t.jsonl", b"{text}\n", "line 1: Expecting property name"),
        ("t.jsonl", b"[1]\n", "line 1: it is no JSON object"),
        ("t.tsv", b"text\tlabel\na\xff\tx\n", "is not UTF-8 \\(byte 12 is 0xff\\)"),
    ],
)
def test_a_table_that_is_not_whole(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_labelled(tmp_path / name)
    assert name in str(error.value)


def test_what_is_repeated_or_contradicted_is_left_out():
    texts = ["a", "a  b", "a b", "c", "c", "c", "d"]
    found = cleaned(Labelled(texts, ["x", "x", "x", "x", "y", "x", "y"]))
    assert found.kept == Labelled(["a", "a  b", "d"], ["x", "x", "y"])
    assert (found.repeated, found.contradicted) == (1, 3)


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=80), st.integers(0, 9))
def test_a_split_shares_every_label(labels, seed):
    given_texts = Labelled([f"text {n}" for n in range(len(labels))], labels)
    parts = split_labelled(given_texts, (0.25, 0.25), seed)
    assert sorted(t for p in parts for t in p.texts) == sorted(given_texts.texts)
    label_of = dict(zip(*given_texts, strict=True))
    for part in parts[1:]:
        assert [label_of[t] for t in part.texts] == part.labels
        for label in set(labels):
            assert abs(part.labels.count(label) - 0.25 * labels.count(label)) <= 1
        assert abs(len(part.texts) - 0.25 * len(labels)) <= 1
    assert split_labelled(given_texts, (0.25, 0.25), seed) == parts


def test_rare_labels_are_split_too():
    texts = Labelled([str(n) for n in range(500)], [str(n // 5) for n in range(500)])
    assert [len(p.texts) for p in split_labelled(texts, (0.1, 0.1), 0)] == [400, 50, 50]


def test_pairs_are_taken_once_and_known_sources_not_tested():
    pairs = Paired([*"abcabdefghaij"], [*"ABCABDEFGHXIJ"])
    one, two, three = split_paired(pairs, 0.2, 0.3)
    assert one.sources == [*"abcdef"]
    assert two.sources == [*"gh"]
    assert three == ([*"ij"], [*"IJ"])  # the other translation of a is not tested


def test_pairs_from_two_files_and_from_a_table(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes("\ufeffone\r\n\nthree\u2028 \n".encode())
    other.write_bytes(b"eins\nzwei\ndrei\n")
    found = read_paired(one, other)
    assert found == (["one", "three"], ["eins", "drei"])  # of which neither is empty
    table = write(tmp_path, ".tsv", [("one", "eins")], ("source", "target"))
    assert read_paired(table) == (["one"], ["eins"])
    other.write_bytes(b"eins\nzwei\n")
    with pytest.raises(ValueError, match=r"a has 3 lines and .*b 2: they do not belong together"):
        read_paired(one, other)
    other.write_bytes(b"\n\n\n")
    with pytest.raises(ValueError, match="have no pair of lines that are not empty"):
        read_paired(one, other)
    other.write_bytes(b"\xc3")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_paired(one, other)


TEXTS = [np.arange(1, n + 1) for n in (3, 1, 4, 1, 5, 9, 2)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 9])
def test_an_epoch_shows_each_text_once(size):
    labels = np.arange(len(TEXTS))
    batches = LabelledBatches(TEXTS, labels, size, seed=3)
    assert batches.steps_per_epoch == -(-len(TEXTS) // size)
    orders = []
    for epoch in range(2):
        steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        seen = []
        for batch in map(batches.__getitem__, steps):
            for ids, length, label in zip(*batch.arguments, strict=True):
                assert ids[:length].tolist() == TEXTS[label].tolist()
                assert not ids[length:].any()
            seen += batch.labels.tolist()
            assert batch.counted == len(batch.labels)
        assert sorted(seen) == labels.tolist()
        orders.append(seen)
    again = LabelledBatches(TEXTS, labels, size, seed=3)
    last = 2 * batches.steps_per_epoch - 1
    np.testing.assert_array_equal(again[last].labels, batches[last].labels)  # from the step alone
    if size < len(TEXTS):
        assert orders[0] != orders[1]


def test_texts_of_like_lengths_come_together():
    texts = [np.ones(n, int) for n in np.random.default_rng(0).integers(1, 50, size=320)]
    batches = LabelledBatches(texts, np.zeros(320, int), 10)
    filled = sum(batches[n].ids.size for n in range(32)) / sum(map(len, texts))
    order = np.random.default_rng(1).permutation(320)
    apart = sum(padded([texts[i] for i in order[n : n + 10]])[0].size for n in range(0, 320, 10))
    assert filled < 1.1 < apart / sum(map(len, texts))


def test_a_batch_of_pairs():
    batch = paired([np.array([5, 6]), np.array([7])], [np.array([1]), np.array([2, 3])], mark=9)
    assert batch.source.tolist() == [[5, 6], [7, 0]]
    assert batch.lengths.tolist() == [2, 1]
    assert batch.ids.tolist() == [[9, 1, 9], [9, 2, 3]]
    assert batch.targets.tolist() == [[1, 9, -100], [2, 3, 9]]
    assert batch.counted == 5
    assert batch.rows(slice(1, 2)).targets.tolist() == [[2, 3, 9]]
    batches = PairedBatches(TEXTS, TEXTS[::-1], 20, batch_size=4, seed=1)
    seen = [tuple(row) for n in range(2) for row in batches[n].source.tolist()]
    assert len(seen) == len(TEXTS)
