"""Tokenizers from public files: with the ids of the libraries that wrote them, or refused."""

import json

import fuzz_bpe
import pytest

from npllm.text import (
    BytePairTokenizer,
    load_text,
    load_tokenizer,
    load_tokenizer_json,
    load_vocabulary_and_merges,
    tokenizer_from_gguf,
    tokenizer_json,
)

VOCABULARY = {"<|end|>": 0, "a": 1, "b": 2, "Ġ": 3, "ab": 4, "Ġab": 5, "1": 6}
MERGES = ["a b", "Ġ ab"]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
DIGITS = {"type": "Digits", "individual_digits": True}
ADDED = {
    "id": 0,
    "content": "<|end|>",
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}
MODEL = {"type": "BPE", "dropout": None, "unk_token": None, "vocab": VOCABULARY, "merges": MERGES}
FILE = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [ADDED],
    "normalizer": None,
    "pre_tokenizer": BYTE_LEVEL,
    "post_processor": None,
    "decoder": {"type": "ByteLevel"},
    "model": MODEL,
}


def with_model(**changes):
    return {**FILE, "model": {**MODEL, **changes}}


@pytest.fixture
def write(tmp_path):
    """Give a function that writes a file, JSON where it is no text, and returns its path."""

    def write(name, content):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "saved",
    [
        FILE,
        with_model(merges=[merge.split(" ") for merge in MERGES]),
        {**FILE, "model": {key: value for key, value in MODEL.items() if key != "type"}},
        with_model(vocab={token: i for token, i in VOCABULARY.items() if i})
        | {"pre_tokenizer": {**BYTE_LEVEL, "use_regex": True}, "decoder": None},
    ],
    ids=["as it is", "pairs", "no type", "the special token is only added"],
)
def test_tokenizer_json(write, saved):
    path = write("tokenizer.json", saved)
    for tokenizer in (load_tokenizer(path), load_tokenizer(path.parent), load_tokenizer_json(path)):
        assert tokenizer.vocabulary == ("<|end|>", "a", "b", " ", "ab", " ab", "1")
        assert tokenizer.special == {"<|end|>": 0}
        assert tokenizer.encode("abab ab<|end|>11", special=True).tolist() == [4, 4, 5, 0, 6, 6]
        assert tokenizer.pretokenizer == "gpt2"


def test_digits_and_byte_level_are_smollm(write):
    sequence = {"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]}
    path = write("tokenizer.json", {**FILE, "pre_tokenizer": sequence})
    assert load_tokenizer(path).pretokenizer == "smollm"


def test_an_unknown_token_stands_for_bytes_that_are_none(write):
    tokenizer = load_tokenizer(write("tokenizer.json", with_model(unk_token="<|end|>")))
    assert tokenizer.encode("aé").tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ('{"model": {"type": "BPE", "vo', "Unterminated string"),
        ("", "Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ([], "the file must be a JSON object, got list"),
        ({}, "the model must be a JSON object, got NoneType"),
        (with_model(type="Unigram"), "the model must be BPE or WordPiece, got 'Unigram'"),
        (with_model(merges=None), "merges must be a list, got NoneType"),
        ({**FILE, "model": {"vocab": VOCABULARY}}, "merges must be a list, got NoneType"),
        (with_model(vocab=None), "the vocab must be a JSON object"),
        (with_model(dropout=0.1), "dropout must not be set, got 0.1"),
        (with_model(end_of_word_suffix="</w>"), "end_of_word_suffix must not be set"),
        (with_model(byte_fallback=True), "byte_fallback must not be set"),
        (with_model(ignore_merges=True), "ignore_merges must not be set"),
        (with_model(unk_token="<unk>"), "lacks the unknown token '<unk>'"),
        (with_model(merges=["a b", "b c"]), "merge 1 names 'c', which the vocabulary lacks"),
        (with_model(merges=["b a"]), "merge 0 joins 'b' and 'a', but the vocabulary lacks 'ba'"),
        (with_model(merges=["ab"]), "merge 0, 'ab', is not of two tokens"),
        (with_model(merges=["a b c"]), "is not of two tokens"),
        (with_model(merges=[["a", 1]]), "is not of two tokens"),
        (with_model(merges=[7]), "merge 0, 7, is not of two tokens"),
        (with_model(vocab={**VOCABULARY, "c": 6}), "tokens '1' and 'c' both have id 6"),
        (with_model(vocab={**VOCABULARY, "c": 9}), "no token has id 7, though there are 8"),
        (
            with_model(vocab={**VOCABULARY, "c": "7"}),
            "token 'c' has no whole number as id, but '7'",
        ),
        (
            with_model(vocab={**VOCABULARY, " c": 7}),
            "' c' is not in byte-level letters: ' ' is none",
        ),
        (json.dumps(FILE).replace('"a": 1', '"a": 1, "a": 7'), "'a' stands there twice"),
        ({**FILE, "normalizer": {"type": "NFC"}}, "no normalizer is supported, got 'NFC'"),
        ({**FILE, "decoder": {"type": "WordPiece"}}, "the decoder must be ByteLevel"),
        ({**FILE, "pre_tokenizer": None}, "must be ByteLevel or Digits and ByteLevel, got None"),
        ({**FILE, "pre_tokenizer": {"type": "Metaspace"}}, "got Metaspace"),
        ({**FILE, "pre_tokenizer": {"type": ["ByteLevel"]}}, "got .'ByteLevel'"),
        ({**FILE, "pre_tokenizer": {"type": "Sequence"}}, "pretokenizers must be a list"),
        ({**FILE, "pre_tokenizer": "Sequence"}, "the pre-tokenizer must be a JSON object, got str"),
        ({**FILE, "pre_tokenizer": "ByteLevel"}, "the ByteLevel must be a JSON object, got str"),
        ({**FILE, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [DIGITS]}}, "got Digits"),
        (
            {**FILE, "pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True}},
            "ByteLevel's add_prefix_space must be False, got True",
        ),
        ({**FILE, "pre_tokenizer": {**BYTE_LEVEL, "use_regex": False}}, "use_regex must be True"),
        (
            {
                **FILE,
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [{**DIGITS, "individual_digits": False}, BYTE_LEVEL],
                },
            },
            "Digits's individual_digits must be True, got False",
        ),
        ({**FILE, "added_tokens": [{**ADDED, "special": False}]}, "'<|end|>' must be special"),
        ({**FILE, "added_tokens": [{**ADDED, "rstrip": True}]}, "without lstrip, rstrip"),
        ({**FILE, "added_tokens": [{**ADDED, "id": 5}]}, "has id 5, in the vocabulary 0"),
        ({**FILE, "added_tokens": [7]}, "the added token must be a JSON object, got int"),
        ({**FILE, "added_tokens": 7}, "added_tokens must be a list, got int"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(write, saved, message):
    path = write("tokenizer.json", saved)
    with pytest.raises(ValueError, match=message.replace("|", r"\|")) as error:
        load_tokenizer(path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b'{"\xff')
    with pytest.raises(ValueError, match=r"tokenizer\.json: .*decode"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
@pytest.mark.parametrize("merges", ["#version: 0.2\na b\nĠ ab\n", "a b\r\nĠ ab", "a b\nĠ ab\n\n"])
def test_vocabulary_and_merges(write, names, merges):
    vocabulary, merges = write(names[0], VOCABULARY), write(names[1], merges)
    for tokenizer in (
        load_tokenizer(vocabulary.parent),
        load_vocabulary_and_merges(vocabulary, merges),
        load_vocabulary_and_merges(vocabulary, merges, special=["<|end|>"]),
    ):
        assert tokenizer.special == {"<|end|>": 0}
        assert tokenizer.encode("ab ab").tolist() == [4, 5]
    assert load_vocabulary_and_merges(vocabulary, merges, "smollm").pretokenizer == "smollm"


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        (VOCABULARY, "a b\nb x", r"merges\.txt: merge 1 names 'x'"),
        (VOCABULARY, "ab", r"merges\.txt: merge 0, 'ab', is not of two tokens"),
        ([1], "a b", r"vocab\.json: the file must be a JSON object"),
        ('{"a": 0, "b": 1', "a b", r"vocab\.json: Expecting"),
        ('{"a": 0, "a": 1}', "", r"vocab\.json: 'a' stands there twice"),
        ({"a": 0, "b": 0}, "", r"vocab\.json: tokens 'a' and 'b' both have id 0"),
    ],
)
def test_files_that_do_not_belong_together(write, vocabulary, merges, message):
    paths = write("vocab.json", vocabulary), write("merges.txt", merges)
    with pytest.raises(ValueError, match=message) as error:
        load_vocabulary_and_merges(*paths)
    assert len(str(error.value).splitlines()) == 1


def test_missing_files(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\.json, vocab\.json, encoder"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        load_tokenizer(tmp_path / "nowhere.json")
    write("vocab.json", VOCABULARY)
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        load_tokenizer(tmp_path)


def test_gguf_lists():
    tokens = ["<|im start|>", "a", "b", "ab", "<unused 1>"]
    tokenizer = tokenizer_from_gguf(tokens, ["a b"], [3, 1, 1, 1, 5], "smollm", unknown=0)
    assert tokenizer.special == {"<|im start|>": 0}
    assert tokenizer.vocabulary == tuple(tokens)
    assert tokenizer.encode("ab!<|im start|>", special=True).tolist() == [3, 0, 0]
    assert tokenizer_from_gguf(["a", "b", "ab"], ["a b"]).encode("ab").tolist() == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], [], [1], "llama-bpe"), "one of gpt-2, gpt2, smollm, got 'llama-bpe'"),
        ((["a"], [], [1, 1]), "there are 1 tokens, but 2 token types"),
        ((["a", "b"], [], [1, 6]), "token 1, 'b', has type 6"),
        ((["a", "a"], []), "tokens 0 and 1 are both 'a'"),
        ((["a", "b"], ["a b"]), "the vocabulary lacks 'ab'"),
        ((["a", "b"], ["a c"]), "merge 0 names 'c', which the vocabulary lacks"),
        ((["a", "▁b"], []), "'▁b' is not in byte-level letters"),
        ((["a"], [], [1], "gpt-2", 1), r"ids must lie in \[0, 1\), got 1"),
    ],
)
def test_gguf_lists_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        tokenizer_from_gguf(*arguments)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("digits", [False, True])
def test_what_tokenizers_saves_gives_its_ids(oracle, tmp_path, digits):
    tokenizers = oracle("tokenizers")
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    if digits:
        alone = tokenizers.pre_tokenizers.Digits(individual_digits=True)
        steps = [alone, theirs.pre_tokenizer]
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|end|>>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([load_text()[:50_000]], trainer)
    theirs.add_special_tokens(["<|späť ✓|>"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    assert len(ours.vocabulary) == 401
    for text in [*fuzz_bpe.strings(500, seed=4), "a<|end|>>b<|end|>  12<|späť ✓|>"]:
        ids = ours.encode(text, special=True).tolist()
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False) == text
    theirs.model.save(str(tmp_path))
    pair = load_vocabulary_and_merges(
        tmp_path / "vocab.json", tmp_path / "merges.txt", ours.pretokenizer
    )
    assert pair.token_bytes == ours.token_bytes[:400]
    assert pair.merges == ours.merges
    assert list(pair.special) == ["<|end|>", "<|end|>>"]


@pytest.mark.parametrize("split", ["gpt2", "smollm"])
def test_what_is_written_is_what_tokenizers_reads(oracle, tmp_path, split):
    tokenizers = oracle("tokenizers")
    ours = BytePairTokenizer.train(load_text()[:30_000], 400, split, ["<|end|>", "<|end|> x"])
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(ours)), encoding="utf-8")
    again, theirs = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    assert again.to_dict() == ours.to_dict()
    for text in [*fuzz_bpe.strings(300, seed=5), "a<|end|>b<|end|> x  12", "<|end|>"]:
        ids = ours.encode(text, special=True).tolist()
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text


def test_gpt2(vocabulary):
    tokenizer = vocabulary("gpt2")
    assert len(tokenizer.vocabulary) == 50257
    assert tokenizer.special == {"<|endoftext|>": 50256}
    assert tokenizer.encode("Hello world").tolist() == [15496, 995]
    assert tokenizer.encode("<|endoftext|>", special=True).tolist() == [50256]
    again = BytePairTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again.encode(load_text()).tolist() == tokenizer.encode(load_text()).tolist()


def test_smollm(vocabulary):
    tokenizer = vocabulary("smollm")
    assert len(tokenizer.vocabulary) == 49152
    assert len(tokenizer.special) == 17
    ids = tokenizer.encode("<|im_start|>user\n12<|im_end|>", special=True)
    assert [tokenizer.vocabulary[i] for i in ids] == [
        "<|im_start|>",
        "user",
        "\n",
        "1",
        "2",
        "<|im_end|>",
    ]
    assert tokenizer.encode("\x04").tolist() == [tokenizer.unknown]


@pytest.mark.parametrize("text", ["\r\n\r\n", "a\r\nb", "\r", "a\rb a\r b"])
def test_a_byte_that_the_vocabulary_lacks_is_dropped_as_tokenizers_does(oracle, tmp_path, text):
    tokens = tokenizer_json(BytePairTokenizer.train("", 256))["model"]["vocab"]
    lacking = [token for token in tokens if token != "\u010d"]  # the letter of byte 0x0D
    lacking += ["\u010a\u010a", "ab"]
    vocabulary = {token: i for i, token in enumerate(lacking)}
    model = {**MODEL, "vocab": vocabulary, "merges": ["\u010a \u010a", "a b"]}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**FILE, "model": model, "added_tokens": [], "decoder": None}))
    right = oracle("tokenizers").Tokenizer.from_file(str(path)).encode(text).ids
    assert load_tokenizer_json(path).encode(text).tolist() == right
