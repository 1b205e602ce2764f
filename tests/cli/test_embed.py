"""Sentence embeddings on the command line: the table, the files, and what is wrong in one line."""

import io
import sys

import numpy as np
import pytest
import tiny_bert

from npllm.pretrained import sentence_encoder

pytest_plugins = ["tiny_run"]

TEXTS = ["the cats sat", "dog", "The dog sat."]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny model, beside which the commands run."""
    monkeypatch.chdir(tmp_path)
    return tiny_bert.write(tmp_path / "bert")


@pytest.fixture
def written(monkeypatch):
    """Give a function that makes bytes the input, read as UTF-8."""

    def made(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))

    return made


def given(texts):
    return [f"--text={text}" for text in texts]


def test_the_table_has_the_cosines(npllm, folder):
    status, out, errors = npllm("embed", folder, *given(TEXTS))
    assert (status, errors) == (0, "")
    head, *lines = out.splitlines()
    y = sentence_encoder(folder).embed(TEXTS)
    assert head.split() == ["1", "2", "3"]
    assert {len(line) for line in lines} == {len(head)}
    for number, (line, text) in enumerate(zip(lines, TEXTS, strict=True)):
        cosines = [f"{cosine:.4f}" for cosine in y @ y[number]]
        assert line.split() == [str(number + 1), *text.split(), *cosines]


def test_cosines_of_vectors_that_are_not_of_length_one(npllm, folder):
    one = npllm("embed", folder, *given(TEXTS))
    tiny_bert.write_pooling(folder, tiny_bert.MODULES[:2])
    assert np.linalg.norm(sentence_encoder(folder).embed(TEXTS), axis=1).max() > 1.1
    assert npllm("embed", folder, *given(TEXTS)) == one


def test_lines_of_the_input_are_texts(npllm, folder, written):
    written(b"the cats sat\r\ndog\nThe dog sat.")
    assert npllm("embed", folder) == npllm("embed", folder, *given(TEXTS))


def test_one_text_is_a_vector(npllm, folder):
    status, out, _ = npllm("embed", folder, "--text", "dog")
    (y,) = sentence_encoder(folder).embed(["dog"])
    assert (status, out) == (0, f"6 numbers: {' '.join(f'{number:.4f}' for number in y)}\n")


def test_of_many_texts_the_nearest_is_named(npllm, folder, written):
    texts = [f"dog {'cat ' * (n % 5)}{'the ' * (n // 5)}" for n in range(17)]
    written("\n".join(texts).encode())
    status, out, _ = npllm("embed", folder)
    y = sentence_encoder(folder).embed(texts)
    cosines = y @ y.T - 2 * np.eye(17)
    head, *lines = out.splitlines()
    assert (status, head.split()) == (0, ["nearest", "cosine"])
    for number, line in enumerate(lines):
        text, *_, nearest, cosine = line.split()
        assert int(text) == number + 1
        assert f"{cosines[number, int(nearest) - 1]:.4f}" == cosine
        assert cosines[number, int(nearest) - 1] > cosines[number].max() - 1e-6


@pytest.mark.parametrize("name", ["y.npy", "y.TSV"])
def test_vectors_are_saved(npllm, folder, name):
    y = sentence_encoder(folder).embed(TEXTS)
    status, out, _ = npllm("embed", folder, *given(TEXTS), "--out", name)
    assert status == 0
    assert out.endswith(f"\n\n{name}\n")
    saved = np.load(name) if name == "y.npy" else np.loadtxt(name, np.float32, delimiter="\t")
    assert saved.dtype == np.float32
    assert (saved == y).all()


def test_a_long_text_is_shortened_and_a_terminal_obeys_nothing(npllm, folder):
    long = "dog\x1b[31m\n" + "a" * 100
    line = npllm("embed", folder, "--text", long, "--text=cat")[1].splitlines()[1]
    assert line.startswith("1  dog?[31m " + "a" * 36 + "...  ")


def test_texts_beyond_the_positions(npllm, folder, written):
    long = "the cat sat . the dog sat ."
    line = (
        "npllm: error: {} has 10 tokens, and the model 9 positions: shorten it, or let it be cut "
    )
    line += "off with --truncate\n"
    assert npllm("embed", folder, "--text=dog", f"--text={long}") == (
        2,
        "",
        line.format("--text 2"),
    )
    written(f"dog\n{long}\n".encode())
    assert npllm("embed", folder) == (2, "", line.format("line 2 of the input"))
    assert npllm("embed", folder, f"--text={long}", "--truncate")[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dog\n \ncat\n", "line 2 of the input is empty: give a text a line"),
        (b"", "the input is empty: write a text a line, or give --text"),
        (b"dog\n\xff\n", "line 2 of the input is not UTF-8 (byte 0 is 0xff): convert it to UTF-8"),
    ],
)
def test_input_that_is_refused(npllm, folder, written, content, message):
    written(content)
    status, out, errors = npllm("embed", folder, "--out=y.npy")
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith(f"npllm: error: {message}")
    assert not (folder.parent / "y.npy").exists()


def test_an_argument_that_is_no_text(npllm, folder):
    status, _, errors = npllm("embed", folder, "--text=dog", "--text=\udcff")
    assert status == 2
    assert errors.startswith("npllm: error: --text 2: character 0 is the lone surrogate")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--text=a"], "nowhere holds no config.json: name a directory of a BERT"),
        (["bert", "--text="], "--text is empty: give a text"),
        (["bert", "--text=a", "--out=y.txt"], "must name a file that ends in .npy or .tsv, got y"),
        (["bert", "--text=a", "--out=no/y.npy"], "no/y.npy: its folder does not exist"),
        (["bert", "--txt=a"], "there is no --txt: did you mean --text?"),
        ([], "the following arguments are required: MODEL"),
    ],
)
def test_wrong_arguments(npllm, folder, arguments, message):
    status, out, errors = npllm("embed", *arguments)
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert message in line


def test_a_file_that_is_broken_is_named(npllm, folder):
    (folder / "config.json").write_text('{"model_type": "bert", ', encoding="utf-8")
    status, _, errors = npllm("embed", "bert", "--text=a")
    assert status == 2
    (line,) = errors.splitlines()
    assert "config.json" in line
