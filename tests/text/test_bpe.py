"""Byte pair encoding: every text and all bytes come back, with the ids that others give."""

import codecs
import json
import random
from array import array

import fuzz_bpe
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npllm.text import (
    BytePairTokenizer,
    StreamDecoder,
    load_text,
    pretokenizers,
    tokenizer_from_dict,
)
from npllm.text.bpe_merging import CACHED_PIECES, PieceEncoder
from npllm.text.byte_letters import from_letters, to_letters

CORPUS = load_text()[:60_000]
TRAINED = BytePairTokenizer.train(CORPUS, 600, special=("<|end|>", "<|end|>>"))
SMALL = BytePairTokenizer.train("abab " * 9 + "aaaa" * 5 + "ba bba", 300, "smollm")
TOKENIZERS = [TRAINED, SMALL]
TEXTS = st.text()  # without surrogates
PHRASES = st.lists(
    st.sampled_from(
        ["the", " the", "ab", "aaa", "😀", "é", " ", "\n\n", "7", "'s", "<|end|>", "\x00"]
    )
).map("".join)


def through_json(tokenizer):
    return tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(TEXTS | PHRASES)
@example("<|end|> <|end|>>\r\n\x1c\u2028 👩‍👩‍👧 e\u0301")
def test_texts_come_back(tokenizer, text):
    for special in (False, True):
        ids = tokenizer.encode(text, special)
        assert ids.dtype == np.int64
        assert ids.flags.writeable
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids.tolist()) == text.encode()
    assert tokenizer.encode_bytes(text.encode()).tolist() == tokenizer.encode(text).tolist()


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(
    st.binary() | st.lists(st.sampled_from([b"ab", b"\xed\xa0\x80", b"\xff", b" "])).map(b"".join)
)
@example("\ud83d\ude00".encode("utf-8", "surrogatepass"))
def test_bytes_come_back(tokenizer, data):
    ids = tokenizer.encode_bytes(data)
    assert tokenizer.decode_bytes(ids) == data
    assert tokenizer.decode(ids) == data.decode("utf-8", "replace")


@pytest.mark.parametrize("encode", [TRAINED.encode, lambda text: TRAINED.train(text, 300)])
def test_a_lone_surrogate_is_refused(encode):
    with pytest.raises(ValueError, match=r"character 2 is the lone surrogate '\\ud83d'") as error:
        encode("ab\ud83d")
    str(error.value).encode()
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(st.lists(st.integers(0, 299)))
def test_a_stream_is_the_text_and_splits_no_character(tokenizer, ids):
    ids = [i % len(tokenizer.vocabulary) for i in ids]
    stream = StreamDecoder(tokenizer)
    for _ in range(2):  # after close it begins anew
        parts = [stream.push(i) for i in ids]
        assert "".join([*parts, stream.close()]) == tokenizer.decode(ids)


@given(TEXTS)
def test_a_stream_of_bytes_gives_each_character_when_it_is_complete(text):
    tokenizer = BytePairTokenizer.train("", 256)
    stream = StreamDecoder(tokenizer)
    for character in text:
        parts = [stream.push(i) for i in tokenizer.encode(character)]
        assert parts == [""] * (len(parts) - 1) + [character]
    assert stream.close() == ""


def test_an_incomplete_character_is_shown_at_the_end():
    tokenizer = BytePairTokenizer.train("", 256)
    stream = StreamDecoder(tokenizer)
    assert [stream.push(i) for i in tokenizer.encode("😀")[:3]] == ["", "", ""]
    assert (stream.close(), stream.close()) == ("\ufffd", "")


MERGES = [(97, 97), (97, 98), (256, 97), (98, 256), (256, 256), (258, 257), (98, 98)]


@given(st.integers(0, 2**32), st.integers(1, 400), st.booleans())
def test_all_ways_of_merging_agree(seed, length, shuffled):
    rng = random.Random(seed)
    merges = rng.sample(MERGES, len(MERGES)) if shuffled else MERGES
    encoder = PieceEncoder(merges, [256 + n for n in range(len(merges))], list(range(256)))
    symbols = [rng.choice((97, 97, 98, 99)) for _ in range(length)]
    expected = encoder.merge_short(list(symbols))
    assert encoder.merge_by_place(list(symbols)) == expected
    if not shuffled:  # in the order that training gives
        assert encoder.merge_long(list(symbols)) == expected


def test_merges_in_another_order_are_joined_one_by_one():
    """What a merge makes is joined before the next occurrence, where that has the lower rank."""
    merges, joined = [(256, 97), (97, 98)], [257, 256]
    encoder = PieceEncoder(merges, joined, list(range(256)))
    word = "ab" * 200
    ids = array("q", encoder[word]).tolist()
    assert ids == encoder.merge_short([*word.encode()])
    assert ids != encoder.merge_long([*word.encode()])  # the negative control


def test_the_leftmost_of_equals_is_joined_first():
    encoder = PieceEncoder([(97, 97)], [256], list(range(256)))
    assert array("q", encoder["aaaaa"]).tolist() == [256, 256, 97]


def test_a_long_piece_is_no_burden():
    text = "".join(random.Random(0).choices("abetr", k=200_000))
    assert TRAINED.decode(TRAINED.encode(text)) == text  # with a pass a merge: many minutes


def test_the_memory_of_pieces_is_bounded():
    encoder = PieceEncoder([], [], list(range(256)))
    for number in range(CACHED_PIECES + 10):
        encoder[str(number)]
    assert len(encoder) == 10
    encoder["a" * 1000]
    assert len(encoder) == 10


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("gpt2", lambda: fuzz_bpe.tiktoken_ids(fuzz_bpe.gpt2_tiktoken())),
        ("gpt2", lambda: fuzz_bpe.tokenizers_ids(fuzz_bpe.gpt2_tokenizers())),
        ("smollm", lambda: fuzz_bpe.tokenizers_ids(fuzz_bpe.smollm_tokenizers())),
    ],
    ids=["gpt2 tiktoken", "gpt2 tokenizers", "smollm tokenizers"],
)
def test_ids_are_those_of_others_until_a_split_is_wrong(
    oracle, vocabulary, monkeypatch, ours, theirs
):
    """``python tests/text/fuzz_bpe.py`` does so for 100,000 strings."""
    for package in ("tiktoken", "tokenizers", "gguf"):
        oracle(package)
    tokenizer, expected = vocabulary(ours), theirs()
    texts = list(fuzz_bpe.strings(1500, seed=3))
    assert list(fuzz_bpe.differences(tokenizer, expected, texts)) == []
    long = "".join(random.Random(0).choices("etaoin", k=20_000))
    assert list(fuzz_bpe.differences(tokenizer, expected, [long, " " * 5000, "=" * 5000])) == []
    other = {"gpt2": "smollm", "smollm": "gpt2"}[ours]
    wrong = {ours: pretokenizers.SPLITS[other], other: pretokenizers.SPLITS[ours]}
    monkeypatch.setattr(pretokenizers, "SPLITS", wrong)
    assert any(fuzz_bpe.differences(getattr(fuzz_bpe, ours)(), expected, texts))


def test_special_tokens_are_recognised_on_demand():
    text = "a<|end|>b<|end|>><|end|"
    end, longer = TRAINED.special["<|end|>"], TRAINED.special["<|end|>>"]
    assert (end, longer) == (0, 1)
    ids = TRAINED.encode(text, special=True).tolist()
    plain = [TRAINED.encode(part).tolist() for part in ("a", "b", "<|end|")]
    assert ids == [*plain[0], end, *plain[1], longer, *plain[2]]
    assert not {end, longer} & set(TRAINED.encode(text).tolist())
    assert SMALL.special == {}
    assert SMALL.encode("a<b>", special=True).tolist() == SMALL.encode("a<b>").tolist()


def test_a_byte_that_is_no_token():
    two = ([b"a", b"b", b"ab", b"?"], [(0, 1)])
    assert BytePairTokenizer(*two).encode("acb").tolist() == [2]  # dropped: what is left is joined
    assert BytePairTokenizer(*two).encode("ccc").tolist() == []
    tokenizer = BytePairTokenizer(*two, unknown=3)
    assert tokenizer.encode("abéc").tolist() == [2, 3, 3, 3]
    assert through_json(tokenizer).encode("abc").tolist() == [2, 3]


def test_ids_behind_the_tokens_are_no_text():
    tokenizer = BytePairTokenizer([b"a", b"b"], [])
    tokenizer.padding = 3
    assert tokenizer.decode([0, 4, 2, 1]) == "ab"
    for i in (5, -1):
        with pytest.raises(ValueError, match=rf"ids must lie in \[0, 2\), got {i}"):
            tokenizer.decode([i])


@pytest.mark.parametrize("tokenizer", [*TOKENIZERS, BytePairTokenizer([b"\xff", b"a"], [])])
def test_json_makes_the_same(tokenizer):
    other = through_json(tokenizer)
    for name in (
        "kind",
        "vocabulary",
        "token_bytes",
        "merges",
        "pretokenizer",
        "special",
        "unknown",
    ):
        assert getattr(other, name) == getattr(tokenizer, name)
    assert (
        tokenizer.to_dict()
        == other.to_dict()
        == BytePairTokenizer.from_dict(other.to_dict()).to_dict()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([b"a", b""], []), "token 1 is empty"),
        (([b"a", b"b", b"a"], []), "tokens 0 and 2 are both 'a'"),
        (([b"a", b" "], [(0, 1)]), "merge 0 joins 'a' and 'Ġ', but the vocabulary lacks 'aĠ'"),
        (([b"a"], [(0, 1)]), r"ids must lie in \[0, 1\), got 1"),
        (([b"a"], [], "gpt4"), "one of gpt2, smollm, got 'gpt4'"),
        (([b"a"], [], "gpt2", ["<s>"]), "lacks the special token '<s>'"),
        (([b"a"], [], "gpt2", [""]), "lacks the special token ''"),
        (([b"a"], [], "gpt2", [], 1), r"ids must lie in \[0, 1\), got 1"),
    ],
)
def test_bad_vocabularies(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        BytePairTokenizer(*arguments)
    assert len(str(error.value).splitlines()) == 1


GOOD = BytePairTokenizer([b"a", b"b", b"ab"], [(0, 1)]).to_dict()


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({**GOOD, "vocabulary": ["a", "b", 3]}, "vocabulary must be a list of str"),
        ({**GOOD, "vocabulary": ["a", "b", " "]}, "' ' is not in byte-level letters"),
        ({**GOOD, "vocabulary": ["a", "b", "\U0001f600"]}, "is not in byte-level letters"),
        ({**GOOD, "merges": None}, "merges must be a list of list"),
        ({**GOOD, "merges": ["ab"]}, "merges must be a list of list"),
        ({**GOOD, "merges": [[0, 1, 2]]}, "must be pairs of ids"),
        ({**GOOD, "merges": [[0, "b"]]}, "must be pairs of ids"),
        ({**GOOD, "merges": [[1, 0]]}, "vocabulary lacks 'ba'"),
        ({**GOOD, "special": "ab"}, "special must be a list of str"),
        ({**GOOD, "pretokenizer": None}, "pre-tokenizer must be one of"),
        ({**GOOD, "unknown": "a"}, "unknown must be an id or null, got 'a'"),
        ({**GOOD, "version": 2}, "version 2"),
    ],
)
def test_what_is_no_tokenizer_is_refused(saved, message):
    for read in (tokenizer_from_dict, BytePairTokenizer.from_dict):
        with pytest.raises(ValueError, match=message):
            read(saved)


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind bpe, got 'word'"):
        BytePairTokenizer.from_dict({**GOOD, "kind": "word"})


@pytest.mark.parametrize("ids", [[3], [0, -1], np.array([1, 99])])
def test_ids_must_be_in_the_vocabulary(ids):
    tokenizer = BytePairTokenizer.from_dict(GOOD)
    for decode in (tokenizer.decode, lambda ids: [StreamDecoder(tokenizer).push(i) for i in ids]):
        with pytest.raises(ValueError, match=rf"\[0, 3\), got {ids[-1]}"):
            decode(ids)


@given(st.binary())
def test_letters_are_bytes(data):
    assert from_letters(to_letters(data)) == data
    assert to_letters(data).isprintable()


def test_no_decoder_for_utf_8_shows_parts():
    """What the stream rests on: the incremental decoder replaces as the whole one does."""
    data = "é😀".encode() + b"\xf0\x9f\xff\xed\xa0\x80" + b"z"
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts = [decoder.decode(bytes([byte])) for byte in data] + [decoder.decode(b"", final=True)]
    assert "".join(parts) == data.decode("utf-8", "replace")
