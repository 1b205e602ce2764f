"""Tokenizers: every text comes back as it was, whatever it holds."""

import json

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from npllm.text import CharacterTokenizer, WordTokenizer, tokenizer_from_dict

SPECIAL_LOOKING = "<unk> <s>to</s> [PAD]\r\n\x00\x1b\u200d\ufeff👩‍👩‍👧 e\u0301 \u2028 ½"
TEXTS = st.text(st.characters(), min_size=1)  # surrogates and control characters too
PHRASES = st.lists(
    st.sampled_from(
        ["the", " cat", "cat", " ", "  ", "\t", "\r\n", "\n", "<unk>", "</s>", "…", "naïve", "😀"]
    ),
    min_size=1,
).map("".join)


def through_json(tokenizer):
    return tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))


@given(TEXTS)
@example(SPECIAL_LOOKING)
@example("\ud83d\ude00 is two surrogates, 😀 is one character")
def test_characters_come_back(text):
    tokenizer = CharacterTokenizer.train(text)
    for one in (tokenizer, through_json(tokenizer)):
        ids = one.encode(text)
        assert ids.dtype == np.int64
        assert ids.shape == (len(text),)
        assert one.decode(ids) == text
        assert one.vocabulary == tuple(sorted(set(text)))


@given(PHRASES, st.integers(0, 10), st.data())
@example(SPECIAL_LOOKING * 2, 10, None)
def test_words_come_back(corpus, words, data):
    alphabet = sorted(set(corpus))
    tokenizer = WordTokenizer.train(corpus, len(alphabet) + words)
    other = corpus if data is None else data.draw(st.text(alphabet))
    for text in (corpus, other, ""):
        for one in (tokenizer, through_json(tokenizer)):
            ids = one.encode(text)
            assert ids.dtype == np.int64
            assert one.decode(ids) == text
    assert len(alphabet) <= len(tokenizer.vocabulary) <= len(alphabet) + words


@given(TEXTS)
def test_words_of_any_text_come_back(text):
    tokenizer = WordTokenizer.train(text * 2, 10_000)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(TEXTS, TEXTS, st.sampled_from([CharacterTokenizer, WordTokenizer]))
def test_unknown_characters_are_named(known, text, kind):
    lacking = [c for c in text if c not in known]
    assume(lacking)
    with pytest.raises(ValueError, match="the vocabulary lacks ") as error:
        kind.train(known).encode(text)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert repr(lacking[0]) in message
    assert (", ..." in message) == (len(set(lacking)) > 5)
    message.encode()  # a lone surrogate is named by its escape


def test_only_what_is_unknown_is_named():
    with pytest.raises(ValueError, match=r"lacks 'ß', '😀': ") as error:
        WordTokenizer.train("abc abc").encode("abcß😀ab ßc")
    assert str(error.value).count("'") == 4


def test_frequent_words_are_tokens_and_rare_ones_are_spelled():
    text = "b b b b b aa aa aa xyz xyz rare"
    tokenizer = WordTokenizer.train(text, size=len(set(text)) + 2)
    assert tokenizer.vocabulary == (*sorted(set(text)), " b", " aa")
    spelled = [tokenizer.vocabulary[i] for i in tokenizer.encode(" b xyz aa")]
    assert spelled == [" b", " ", "x", "y", "z", " aa"]
    assert WordTokenizer.train(text).vocabulary[-1] == " xyz"  # " rare" occurs once


def test_an_alphabet_adds_characters():
    tokenizer = WordTokenizer.train("to be", alphabet="xyz")
    assert tokenizer.decode(tokenizer.encode("zo be")) == "zo be"


def test_a_word_vocabulary_must_hold_the_characters():
    with pytest.raises(ValueError, match="a vocabulary of 4 cannot hold the text's 5 characters"):
        WordTokenizer.train("abcde", 4)


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
@pytest.mark.parametrize("vocabulary", [[], [""], ["a", "a"], ["a", ""]])
def test_bad_vocabularies(kind, vocabulary):
    with pytest.raises(ValueError, match="distinct, non-empty tokens"):
        kind(vocabulary)


def test_characters_are_single():
    with pytest.raises(ValueError, match="single characters"):
        CharacterTokenizer(["a", "bc"])


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_an_empty_text_has_no_characters(kind):
    with pytest.raises(ValueError, match="vocabulary"):
        kind.train("")
    assert kind.train("a").encode("").tolist() == []


@pytest.mark.parametrize("ids", [[3], [0, -1], np.array([1, 99])])
def test_ids_must_be_in_the_vocabulary(ids):
    with pytest.raises(ValueError, match=rf"\[0, 3\), got {ids[-1]}"):
        CharacterTokenizer(["a", "b", "c"]).decode(ids)


GOOD = CharacterTokenizer(["a", "b"]).to_dict()


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (None, "no npllm tokenizer"),
        ([], "no npllm tokenizer"),
        ({}, "no npllm tokenizer"),
        ({**GOOD, "format": "other"}, "no npllm tokenizer"),
        ({**GOOD, "version": 2}, "version 2, this npllm reads 1"),
        ({**GOOD, "version": None}, "version None"),
        ({**GOOD, "kind": "bytes"}, "got 'bytes'"),
        ({**GOOD, "vocabulary": "ab"}, "character, word"),
        ({**GOOD, "vocabulary": ["a", 1]}, "must hold strings"),
        ({**GOOD, "vocabulary": ["a", "a"]}, "distinct"),
        ({**GOOD, "vocabulary": ["a", "bc"]}, "single"),
        ({key: GOOD[key] for key in ("format", "version")}, "must be one of"),
    ],
)
def test_what_is_no_tokenizer_is_refused(saved, message):
    with pytest.raises(ValueError, match=message):
        tokenizer_from_dict(saved)
