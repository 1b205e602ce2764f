"""The commands of labels, translations, words and data sets; and their bad input."""

import io
import sys

import numpy as np
import pytest
from left_out import need

from npllm.checkpoint import load_model_and_vocabularies
from npllm.cli import main
from npllm.layers import softmax_forward
from npllm.training.classification import ids_of

pytest_plugins = ["tiny_run"]

RUN = ["--steps=6", "--log-every=3", "--eval-every=3", "--checkpoint-every=3", "--threads=1"]
LABELS = ["--task=classification", "--embed-size=4", "--batch-size=4", *RUN]
OF_PAIRS = ["--task=translation", "--tokenizer=character", "--batch-size=4", *RUN]
OF_PAIRS += ["--layers=1", "--length=20"]
PAIRS = [*OF_PAIRS, "--width=6", "--heads=2"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A run of each task; only to be read."""
    folder = tmp_path_factory.mktemp("learned")
    rows = [f"the film {n} is {'good' if n % 2 else 'bad'}\t{n % 2}" for n in range(40)]
    (folder / "labels.tsv").write_text("\n".join(["text\tlabel", *rows]), "utf-8")
    words = [f"word {n}" for n in range(40)]
    (folder / "a").write_text("\n".join(words), "utf-8")
    (folder / "b").write_text("\n".join(word.upper() for word in words), "utf-8")
    labels, source, target = (folder / name for name in ("labels.tsv", "a", "b"))
    assert main(["train", f"--data={labels}", f"--out={folder / 'bag'}", *LABELS]) == 0
    files = [f"--source={source}", f"--target={target}"]
    assert main(["train", *files, f"--out={folder / 'to'}", *PAIRS]) == 0
    rnn = ["--model=lstm", "--embed-size=4", "--hidden-size=5", "--test=0.2"]
    assert main(["train", *files, f"--out={folder / 'rnn'}", *OF_PAIRS, *rnn]) == 0
    return folder


def test_training_says_what_to_do_next(npllm, learned, tmp_path):
    status, output, _ = npllm(
        "train", f"--data={learned / 'labels.tsv'}", f"--out={tmp_path / 'new'}", *LABELS
    )
    assert status == 0
    assert "32 texts to learn from, 4 to validate, 4 to test" in output
    assert f"How well it does on the rest: npllm classify {tmp_path / 'new'} --test" in output
    assert "accuracy" in output
    assert (npllm("train", f"--resume={tmp_path / 'new'}", "--steps=9"))[0] == 0
    status, _, errors = npllm("train", f"--resume={tmp_path / 'new'}", "--task=translation")
    assert (status, errors.splitlines()) == (
        2,
        [f"npllm: error: {tmp_path / 'new'} learns classification: leave out --task"],
    )


def test_a_text_is_told(npllm, learned):
    status, output, _ = npllm("classify", learned / "bag", "--text", "the film 7 is good")
    assert status == 0
    label, p, *_ = output.split()
    model, vocabularies = load_model_and_vocabularies(learned / "bag")
    ids = ids_of("the film 7 is good", vocabularies["tokenizer"], 256)
    scores, _ = model.forward(ids[None], [len(ids)])
    expected = softmax_forward(scores)[0][0]
    assert label == str(expected.argmax())
    assert float(p) == pytest.approx(expected.max(), abs=1e-4)
    weights = model.word_weights(ids[None], [len(ids)], [expected.argmax()])[0]
    assert [float(w) for w in output.split() if w[0] in "+-"] == pytest.approx(
        weights.tolist(), abs=0.005
    )


def test_a_first_word_is_the_same_as_elsewhere(npllm, learned):
    _, output, _ = npllm("classify", learned / "bag", "--text", "good film", "--text", "the good")
    one, other = ([w for w in line.split() if w[0] == "'"] for line in output.splitlines())
    assert one == ["'good'", "'film'"]
    assert other == ["'the'", "'good'"]


def test_words_are_coloured_on_a_terminal(npllm, learned, monkeypatch):
    monkeypatch.setattr("npllm.cli.classify.on_terminal", lambda: True)
    _, output, _ = npllm("classify", learned / "bag", "--text", "good film")
    assert "\x1b[30;48;2;" in output
    assert output.endswith("\x1b[0m\n")


def test_lines_are_told_one_by_one(npllm, learned, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("good\nbad\n"))
    status, output, _ = npllm("classify", learned / "bag")
    assert (status, len(output.splitlines())) == (0, 2)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"word 1\r\nword 2")))
    status, output, _ = npllm("translate", learned / "to")
    assert (status, len(output.splitlines())) == (0, 2)


@pytest.mark.parametrize(("command", "to"), [("classify", "bag"), ("translate", "to")])
def test_what_is_left_out_of_a_text_is_told(npllm, learned, command, to):
    status, output, errors = npllm(command, learned / to, "--text=d\u65e5o\u65e5\u672c")
    assert status == 0
    assert errors.splitlines() == ["left out, being unknown to the model: '\u65e5' '\u672c'"]
    assert npllm(command, learned / to, "--text=do") == (0, output, "")
    many = "".join(map(chr, range(0x4E00, 0x4E0B)))
    assert npllm(command, learned / to, f"--text=do{many}")[2].endswith(" '\u4e09' ...\n")


def shouted(*arguments):
    """Stands for the translation of texts, each another."""
    return [text.upper() for text in arguments[3]]


def test_translations_of_several_workers_are_the_same(npllm, learned, monkeypatch, oracle):
    oracle("sacrebleu")
    monkeypatch.setattr("npllm.cli.translate.AT_A_TIME", 1)  # several rounds
    monkeypatch.setattr("npllm.cli.translate.translations", shouted)
    outputs = [npllm("translate", learned / "rnn", "--test", "--threads", n)[1] for n in (1, 2, 99)]
    assert outputs[1:] == outputs[:1] * 2
    found = [line.split()[1:] for line in outputs[0].splitlines() if line.startswith("translation")]
    assert found == [["WORD", str(n)] for n in range(32, 40)]
    assert outputs[0].splitlines()[-1].split()[-1] == "100.00%"


def test_the_texts_for_the_end_are_measured(npllm, learned, tmp_path):
    need("matplotlib")
    out = tmp_path / "confusion.png"
    status, output, _ = npllm("classify", learned / "bag", "--test", f"--out={out}")
    assert status == 0
    lines = output.splitlines()
    assert lines[0].split() == ["4", "texts", "accuracy", "F1"]
    assert lines[1].split() == ["majority", "0.5000", "0.3333"]
    assert lines[2].startswith("naive Bayes")
    assert out.read_bytes()[:4] == b"\x89PNG"


def test_translations_are_measured(npllm, learned, oracle):
    oracle("sacrebleu")
    status, output, _ = npllm("translate", learned / "to", "--test", "--show=1")
    assert status == 0
    assert "source       word 38\n" in output
    assert "reference    WORD 38\n" in output
    assert output.splitlines()[4].split() == ["2", "texts", "BLEU", "chrF", "the", "same"]
    assert output.splitlines()[5].startswith("the source itself")


def test_a_translation_is_inspected(npllm, learned, tmp_path):
    page = tmp_path / "page.html"
    status, _, _ = npllm("inspect", learned / "to", "--text=word 1", f"--out={page}")
    assert status == 0
    shown = page.read_text("utf-8")
    assert "Layer 0, mean of 2 heads" in shown
    assert shown.count("<details>") == 2
    assert "<script" not in shown
    status, _, errors = npllm("inspect", learned / "rnn", "--text=word ✗", f"--out={page}")
    assert (status, errors) == (0, "left out, being unknown to the model: '✗'\n")
    written = npllm("translate", learned / "rnn", "--text=word")[1].removesuffix("\n")
    assert page.read_text("utf-8").count('<span class="t">') == len(written)


def test_words_are_shown(npllm, place, tmp_path):
    status, output, _ = npllm("neighbours", "run", "e", "--count=3")
    assert status == 0
    assert [len(line.split()) for line in output.splitlines()] == [3] * 4
    status, output, _ = npllm("neighbours", "run", "e", "--in=er", "--in=Sylter e")
    assert [line.split()[0] for line in output.splitlines()[3:]] == ["layer", "embedding", "1"]
    (place / "senses.tsv").write_text("text\tlabel\ner\tx\nje\ty\nue\tx\n", "utf-8")
    status, output, _ = npllm("neighbours", "run", "e", "--senses=senses.tsv")
    assert status == 0
    assert len(output.splitlines()) == 3
    status, output, _ = npllm("neighbours", "run", "e", "--analogy", "a", "b")
    assert status == 0
    need("matplotlib")
    out = tmp_path / "words.png"
    status, _, _ = npllm("plot", "embeddings", "run", "--words", "e", "r", "x", f"--out={out}")
    assert (status, out.read_bytes()[:4]) == (0, b"\x89PNG")


def test_what_is_left_out_leaves_no_space(npllm, learned):
    one, *others = (
        npllm("classify", learned / "bag", f"--text={text}")[1]
        for text in ("good film", "✗ good film", "good ✗ film", "good film ✗")
    )
    assert others == [one] * 3


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_stream_may_be_closed(npllm, learned, monkeypatch, oracle, stream):
    oracle("sacrebleu")
    monkeypatch.setattr(sys, stream, None)
    used = {"stdin": [], "stdout": ["--text=good"], "stderr": ["--text=good ✗"]}[stream]
    status, output, errors = npllm("classify", learned / "bag", *used)
    assert status == (2 if stream == "stdin" else 0)
    assert "left out" not in output
    assert errors == "" or "the input is empty" in errors
    if stream == "stderr":
        assert npllm("translate", learned / "to", "--test")[0] == 0


def test_a_terminal_obeys_nothing_of_a_translation(npllm, tmp_path):
    rows = [f'{{"source": "word {n}", "target": "\\u001b[31m{n}\\nX"}}' for n in range(40)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows), "utf-8")
    data, out = f"--data={tmp_path / 'pairs.jsonl'}", f"--out={tmp_path / 'run'}"
    rnn = ["--model=lstm", "--embed-size=4", "--hidden-size=9", "--lr=0.03", "--steps=80"]
    assert npllm("train", data, out, *OF_PAIRS, *rnn)[0] == 0
    _, output, _ = npllm("translate", tmp_path / "run", "--text=word 1", "--text=word 2")
    assert len(output.splitlines()) == 2
    assert "?[31m" in output
    assert "\x1b" not in output


def test_data_sets_are_listed_made_and_used(npllm, tmp_path, monkeypatch):
    monkeypatch.setattr("npllm.datasets.tasks.PAIRS", 400)
    monkeypatch.setenv("NPLLM_DATA", str(tmp_path / "home"))
    status, output, _ = npllm("data", "list")
    assert status == 0
    assert "here" not in output
    assert any(line.split()[:2] == ["bible-en-es", "pairs"] for line in output.splitlines())
    _, output, _ = npllm("data", "show", "bible-en-es")
    assert "apt-get download sword-text-web sword-text-sparv" in output
    assert "public domain" in output
    status, output, _ = npllm("data", "fetch", "reverse")
    assert status == 0
    assert output.splitlines() == [
        str(tmp_path / "home" / "reverse" / name) for name in ("pairs.tsv", "text.txt")
    ]
    assert "here" in npllm("data", "list")[1]
    _, output, _ = npllm("data", "show", "reverse", "copy")
    assert [line.split()[:3] for line in output.splitlines() if line.startswith("what")] == [
        ["what", "random", "words,"],
        ["what", "random", "words,"],
    ]
    assert npllm("data", "fetch", "copy", "dates")[1].count("pairs.tsv") == 2
    out = f"--out={tmp_path / 'run'}"
    status, output, _ = npllm("train", "--data=reverse", out, *PAIRS, "--steps=1")
    assert status == 0
    assert "360 pairs to learn from" in output
    resumed = ("train", f"--resume={tmp_path / 'run'}", "--data=reverse", "--steps=2")
    assert npllm(*resumed)[0] == 0
    tiny = ["--hidden-size=4", "--embed-size=4", "--steps=1", "--sample=0", "--threads=1"]
    _, output, _ = npllm("train", "--data=reverse", f"--out={tmp_path / 'letters'}", *tiny)
    assert "note   reverse has pairs too: --task translation learns them" in output
    counting = ["--model=ngram", "--data=reverse", "--sample=0", f"--out={tmp_path / 'counts'}"]
    assert "note   reverse has pairs too" in npllm("train", *counting)[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reverse").write_text("a file of that name " * 50, "utf-8")
    assert "note" not in npllm("train", "--data=reverse", "--out=file", *tiny)[1]
    asked = ["--task=language-modelling", "--data=reverse", f"--out={tmp_path / 'asked'}"]
    assert "note" not in npllm("train", *asked, *tiny)[1]


BAD = [
    (["classify", "{bag}", "--text", " "], "--text is empty"),
    (["classify", "{bag}", "--text", "✗"], "the vocabulary has nothing of the text '✗'"),
    (["classify", "{bag}", "--out=x.png"], "--out draws what --test finds: add --test"),
    (["classify", "{bag}", "--test", "--text=x"], "--test has texts of its own"),
    (["classify", "{to}", "--text=x"], "is no classifier: train one, --task classification"),
    (["classify", "run", "--text=x"], "is no classifier"),
    (["classify", "missing", "--text=x"], "missing"),
    (["translate", "{to}", "--text", ""], "--text is empty"),
    (["translate", "{to}", "--text", "word " * 20], "the model has 21 positions, and the text 99"),
    (["translate", "{to}", "--test", "--text=x"], "--test has texts of its own"),
    (["translate", "{bag}", "--text=x"], "is no translator: train one, --task translation"),
    (["generate", "{bag}"], "holds a classifier, no language model: npllm classify asks it"),
    (["generate", "{to}"], "no language model: npllm translate asks it"),
    (["evaluate", "{to}"], "no language model: npllm translate asks it"),
    (["inspect", "{bag}", "--text=x", "--out=x.html"], "npllm classify asks it"),
    (["compare", "{bag}", "run"], "learned classification, and is no language model"),
    (["train", "--task=classification", "--out=new"], "must name a table of texts and labels"),
    (
        ["train", "--task=translation", "--out=new", "--source=text"],
        "--source=FILE and --target=FILE go together",
    ),
    (
        ["train", "--task=translation", "--out=new"],
        "name a table or a data set, --data=NAME,",
    ),
    (
        ["train", "--task=translation", "--out=new", "--source=a", "--target=a", "--data=text"],
        "--data=text has both languages",
    ),
    (["train", "--out=new", "--label-smoothing=0.1"], "it is for --task translation"),
    (["train", "--task=translation", "--out=new", "--source=text", "--target=lines"], "lines"),
    (["train", "--out=new", "--held-out=0.1", "--source=text"], "--source has no effect with"),
    (["train", "--out=new", "--data=tang"], "is not here: npllm data fetch tang"),
    (["train", "--task=translation", "--data=tang", "--out=new"], "tang has no pairs"),
    (["train", "--task=classification", "--data=text", "--out=new"], "must end in .tsv, .csv"),
    (["neighbours", "run", ""], "the word is empty"),
    (["neighbours", "run", "✗"], "the word '✗' is not in the vocabulary"),
    (["neighbours", "run", "e", "--in=e"], "--in compares texts: name it twice or more"),
    (["neighbours", "run", "e", "--in=e", "--in=x"], "'e' does not stand in 'x'"),
    (["neighbours", "run", "e", "--in=e", "--in=e", "--analogy", "a", "b"], "choose one of"),
    (["neighbours", "run", "e", "--senses=one.tsv"], "two texts at least must have one label"),
    (["neighbours", "{bag}", "good"], "npllm classify asks it"),
    (["plot", "embeddings"], "npllm plot embeddings MODEL names a model"),
    (["plot", "embeddings", "run", "--words", "e", "r"], "three words or more, got 2"),
    (["plot", "run", "--words", "e"], "--words goes with npllm plot embeddings"),
    (["translate", "{to}", "--text=a", "--show=3"], "--show is for --test"),
    (["neighbours", "run", "e", "--in=e", "--in=e", "--count=3"], "--count is of neighbours"),
    (["train", "--task=translation", "--out=new", "--sample=9"], "--sample has no effect"),
    (["classify", "{bag}"], "the input is empty: write a text a line, or give --text"),
    (["data", "fetch"], "name a data set: npllm data fetch NAME"),
    (["data", "fetch", "nothing"], "there is no data set nothing; there are sentences, film-"),
    (["data", "fetch", "reverse", "tong"], "there is no data set tong: did you mean tang?"),
    (["translate", "{to}", "word 1"], "unrecognized arguments: word 1: a text is named by --text"),
    (["classify", "{bag}", "--test", "good"], "unrecognized arguments: good (see"),
    (["classify", "{bag}", "a", "b"], "a text is named by --text 'a b' (see"),
    (["data", "show", "threads=4"], "there is no data set threads=4;"),
    (
        ["train", "--task=translation", "--model=bar"],
        "there is no bar; there are transformer, lstm",
    ),
    (
        ["train", "--task=translation", "--source={a}", "--target={b}", "--held-out=0.001"],
        "there are no pairs held out: use more pairs, or another share",
    ),
    (["inspect", "{to}", "--text= ", "--out=x.html"], "--text is empty"),
    (["inspect", "{rnn}", "--text", "word " * 99, "--out=x.html"], "has room for 256 tokens"),
    (["train", "--out=new", "--model=bag"], "--model bag goes with --task classification, not"),
    (
        ["train", "--task=translation", "--model=gpt", "--out=new"],
        "--model gpt goes with --task language-modelling, not with translation",
    ),
    (["data", "list", "tang"], "npllm data show tang tells of one"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a)[:60] for a, _ in BAD])
def test_bad_input(refused, place, learned, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setenv("NPLLM_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    (place / "one.tsv").write_text("text\tlabel\ner\tx\n", "utf-8")
    known = {name: learned / name for name in ("bag", "to", "rnn", "a", "b")}
    assert message in refused(*(a.format(**known) for a in arguments))


@pytest.mark.parametrize(
    ("command", "stdin", "message"),
    [
        ("bag", b"good\n\n", "line 2 of the input is empty"),
        ("to", b"word\n \n", "line 2 of the input is empty"),
        ("to", b"word\n" + b"w" * 99, "line 2 of the input: the model has 21 positions"),
        (
            "bag",
            "good\n✗\n".encode(),
            "line 2 of the input: the vocabulary has nothing of the text",
        ),
        ("bag", b"good\n\xff\n", "is not UTF-8"),
        ("to", b"\xff\n", "is not UTF-8"),
    ],
)
def test_bad_lines(refused, learned, monkeypatch, command, stdin, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
    use = {"bag": "classify", "to": "translate"}[command]
    assert message in refused(use, learned / command)


def test_a_label_that_is_not_known(learned):
    _, vocabularies = load_model_and_vocabularies(learned / "bag")
    assert vocabularies["labels"].encode("1").tolist() == [1]
    with pytest.raises(ValueError, match="there is no label '2'; there are 0, 1"):
        vocabularies["labels"].encode("2")
    assert np.array_equal(vocabularies["labels"].encode("0"), [0])
