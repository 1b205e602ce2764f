"""What the library says of its arguments, a command says of its flags, and of nothing else."""

import re
from pathlib import Path

import pytest

import npllm
from npllm.cli import make_parser
from npllm.cli.flags import flags_of, with_flags

pytest_plugins = ["tiny_run"]

FLAGS = {
    name: "--" + name.replace("_", "-")
    for name in ("kv_heads", "heads", "top_p", "held_out", "lr", "model", "text", "context")
}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("kv_heads must divide heads=4, got 3", "--kv-heads must divide --heads=4, got 3"),
        ("use a longer text or a larger held_out", "use a longer text or a larger --held-out"),
        ("lr must be 0 or more, got -1.0", "--lr must be 0 or more, got -1.0"),
        ("lower lr=0.004 or clip=1.0", "lower --lr=0.004 or clip=1.0"),  # it has no --clip
        ("top_p: no number", "--top-p: no number"),
        ("context is for gpt", "--context is for gpt"),
    ],
)
def test_a_name_becomes_its_flag(message, expected):
    assert with_flags(message, FLAGS) == expected
    assert with_flags(message, {}) == message


@pytest.mark.parametrize(
    "message",
    [
        "the model has 64 positions, and the text 70 tokens",
        "the text must hold at least one token, got none",
        "model.json is inconsistent",
        "runs/top_p/run.json is no complete JSON file",
        "top_p/run.json is no complete JSON file",
        "C:\\runs\\top_p holds no run",
        "C:\\my top_p\\x holds no run",
        "my-top_p.txt is empty",
        "top_p.txt is empty",
        "run/run.json does not describe a run: kv_heads must divide heads=4, got 3",
        "the vocabulary lacks 'top_p'",
        'the vocabulary lacks "top_p"',
        "the vocabulary lacks 'it', ' top_p ', 'x'",
        "top_px and xtop_p are no names, nor is my_top_p",
        "leave out --top_p",
    ],
)
def test_what_is_no_name_stays(message):
    assert with_flags(message, FLAGS) == message


def test_an_apostrophe_opens_no_quotation():
    message = "the run's top_p is not gpt's"
    assert with_flags(message, FLAGS) == "the run's --top-p is not gpt's"


@pytest.mark.parametrize("given", ["top_p", "my top_p runs", "/a b/top_p c", "top_p\n"])
def test_what_the_user_gave_stays(given):
    message = f"{' '.join(given.split())} holds no run, and top_p=2 is too much"
    assert with_flags(message, FLAGS, ["", "p", given])[: len(given)] == message[: len(given)]


def test_a_letter_that_the_user_gave_hides_no_name():
    assert with_flags("top_p must be 1", FLAGS, ["t", "p", "_", "must"]) == "--top-p must be 1"


def test_a_command_knows_its_own_flags_only():
    options = make_parser().parse_args(["generate", "run"])
    flags = flags_of(options.parser)
    assert flags["top_p"] == "--top-p"
    assert "directory" not in flags  # it stands in its place
    assert "kv_heads" not in flags
    assert flags_of(make_parser().parse_args(["train"]).parser)["tie_weights"] == "--tie-weights"


def test_a_run_that_is_called_like_an_argument(refused, place):
    (place / "top_p").write_text("no run")
    assert "error: top_p holds no checkpoint" in refused("generate", "top_p", "--top-p=0.5")


def test_errors_of_a_model_name_flags(refused, tiny):
    own = [option for option in tiny if "size" not in option and "length" not in option]
    line = refused("train", "--data=text", "--model=llama", "--kv-heads=3", *own)
    assert line == "npllm: error: --kv-heads must divide --heads=4, got 3"


def test_what_lowers_a_loss_that_diverges_is_named(refused, place, tiny, npllm):
    for clip, said in ((2.0, "--clip=2.0"), (0.0, "set --clip=1.0")):
        options = ("--lr=1e30", "--schedule=constant", f"--clip={clip}", f"--out=new{clip}")
        _, _, errors = npllm("train", "--data=text", *tiny, *options)
        assert f": lower --lr=1e+30 or {said}; the checkpoint " in errors


def test_a_text_too_short_for_a_window_says_which_is_too_long(refused, place, tiny):
    (place / "data").write_bytes(b"0123456789")
    assert "a window of --length=8 needs 9: use" not in refused("train", "--data=data", *tiny)
    line = refused("train", "--data=data", *tiny, "--length=20", "--out=new")
    assert "9 tokens, and a window of --length=20 needs 21: use a longer text, or a shorter" in line


def test_the_library_names_no_flag():
    parser = make_parser()
    commands = ("train", "generate", "evaluate", "gradcheck", "certify", "atlas")
    flags = set().union(*(flags_of(parser.parse_args([name]).parser).values() for name in commands))
    assert "--kv-heads" in flags
    some = re.compile(rf"(?<![\w-])({'|'.join(sorted(flags))})(?![\w-])")
    library = Path(npllm.__file__).parent
    for path in library.rglob("*.py"):
        found = some.search(path.read_text("utf-8"))
        assert found is None or path.parent == library / "cli", (path, found)


@pytest.mark.parametrize(
    ("task", "own", "others", "default"),
    [
        ([], ["--context", "{lstm,gpt,llama,ngram}", "(default: 10000)"], ["--test "], "0.004"),
        (
            ["--task=classification"],
            ["--label-column", "{bag,"],
            ["--windows", "--share-words"],
            "0.004",
        ),
        (["--task=translation"], ["--source", "{transformer,lstm}"], ["--windows"], "0.001"),
    ],
)
def test_the_help_of_train_tells_of_one_task(npllm, task, own, others, default):
    status, output, _ = npllm("train", *task, "--help")
    assert status == 0
    for part in [*own, "--steps", "--task"]:
        assert part in output
    for part in others:
        assert part not in output
    (rate,) = [text for text in " ".join(output.split()).split("--") if text.startswith("lr X le")]
    assert f"(default: {default})" in rate
