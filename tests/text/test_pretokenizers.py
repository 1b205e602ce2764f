"""Pre-tokenizers: the pieces of the public patterns, for every code point."""

import re
import sys

import pytest
from fuzz_bpe import DISPUTED, GPT2_PATTERN, strings
from hypothesis import example, given
from hypothesis import strategies as st

from npllm.text import pretokenizers
from npllm.text.pretokenizers import SPLITS, pretokenize

# planes 4 to 13 are empty, 15 and 16 private
CODES = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200)]
CHARACTERS = [chr(code) for code in CODES]


def matches(tiktoken, pattern, text):
    """Return all that a pattern matches in a text, joined, as tiktoken's regular expressions do."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return encoding.decode(encoding.encode_ordinary(text))


def joined_to(first):
    """Return the characters that stand in one piece with a first one."""
    pieces = pretokenize("".join(f"{first}{c}\n" for c in CHARACTERS))
    return {piece[1] for piece in pieces if len(piece) == 2 and piece[0] == first}


@given(st.text(st.characters()), st.sampled_from(sorted(SPLITS)))
@example("\ud83d\ude00 lone surrogates \udc80\n\n x", "gpt2")
@example("", "smollm")
def test_the_pieces_are_the_text(text, split):
    pieces = pretokenize(text, split)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize(
    ("text", "gpt2", "smollm"),
    [
        ("I'll won't'S", "I|'ll| won|'t|'|S", "I|'ll| won|'t|'|S"),
        ("a  b   c", "a| | b|  | c", "a| | b|  | c"),
        ("a \n", "a| \n", "a| \n"),
        ("in 1984", "in| 1984", "in| |1|9|8|4"),
        ("x   7!", "x|  | 7|!", "x|   |7|!"),
        ("x \t7", "x| |\t|7", "x| \t|7"),
        ("½²Ⅳ٣", "½²Ⅳ٣", "½|²|Ⅳ|٣"),
        ("e\u0301t\u00e9", "e|\u0301|té", "e|\u0301|té"),
        ("a\x1cb\x85c\xa0d", "a|\x1c|b|\x85|c|\xa0|d", "a|\x1c|b|\x85|c|\xa0|d"),
        ("ª²¡\xa0", "ª|²|¡|\xa0", "ª|²|¡|\xa0"),  # the stand-ins themselves
        ("''s '😀's_x", "''|s| '😀'|s|_|x", "''|s| '😀'|s|_|x"),
    ],
)
def test_pieces(text, gpt2, smollm):
    assert pretokenize(text) == gpt2.split("|")
    assert pretokenize(text, "smollm") == smollm.split("|")


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="one of gpt2, smollm, got 'gpt4'"):
        pretokenize("a", "gpt4")


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="its letters are those of Unicode 17")
def test_every_code_point_has_its_class(oracle):
    tiktoken = oracle("tiktoken")
    text = "".join(CHARACTERS)
    letters, numbers, spaces = (
        set(matches(tiktoken, p, text)) for p in (r"\p{L}", r"\p{N}", r"\s")
    )
    assert len(letters) > 140_000
    assert joined_to("a") == letters
    assert joined_to("1") == numbers
    assert joined_to("!") == set(CHARACTERS) - letters - numbers - spaces


def byte_level(tokenizers, text, digits=False):
    """Return the pieces of tokenizers."""
    steps = [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if digits:
        steps.insert(0, tokenizers.pre_tokenizers.Digits(individual_digits=True))
    pieces = tokenizers.pre_tokenizers.Sequence(steps).pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in pieces]


def test_pieces_are_those_of_tokenizers(oracle):
    tokenizers = oracle("tokenizers")
    for text in strings(1000, seed=1):
        assert pretokenize(text) == byte_level(tokenizers, text)
        assert pretokenize(text, "smollm") == byte_level(tokenizers, text, digits=True)


def test_what_is_disputed_is_all_that_differs(oracle):
    tokenizers = oracle("tokenizers")
    numeric = [c for c in CHARACTERS if pretokenize(f"1{c}") == [f"1{c}"]]
    assert len(numeric) > 1900
    for c in numeric:
        assert byte_level(tokenizers, f"!{c}", digits=True) == ["!", c]
    for code in DISPUTED:
        assert pretokenize(f"!{chr(code)}", "smollm") == [f"!{chr(code)}"]
        assert byte_level(tokenizers, f"!{chr(code)}") == [f"!{chr(code)}"]
        assert byte_level(tokenizers, f"!{chr(code)}", digits=True) == ["!", chr(code)]


SLIPS = {
    "white space keeps its last": (r"\s+(?!\S)|", ""),
    "contractions of capitals": ("'s|'t", "'[sS]|'t"),
    "no space before a number": (r" ?\p{N}+", r"\p{N}+"),
    "marks are letters": (r" ?\p{L}+", r" ?[\p{L}\p{M}]+"),
    "a letter is a word character": (r" ?\p{L}+", r" ?\w+"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_the_pattern_is_seen(oracle, slip):
    tokenizers = oracle("tokenizers")
    texts = list(strings(1000, seed=2))

    def differing(pattern):
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        found = ([piece for piece, _ in split.pre_tokenize_str(text)] for text in texts)
        return sum(pieces != pretokenize(text) for text, pieces in zip(texts, found, strict=True))

    assert differing(GPT2_PATTERN) == 0
    assert differing(GPT2_PATTERN.replace(*SLIPS[slip])) >= 10


def test_a_table_without_later_letters_would_be_seen(monkeypatch):
    later = "\u1c89"  # a letter since Unicode 16
    assert pretokenize(f"a{later}") == [f"a{later}"]
    monkeypatch.setattr(pretokenizers, "_LATER_LETTERS", "")
    monkeypatch.setattr(pretokenizers, "_STAND_INS", pretokenizers._StandIns())
    if sys.version_info < (3, 14):
        assert pretokenize(f"a{later}") == ["a", later]


def test_the_patterns_are_linear():
    for split in SPLITS.values():
        assert isinstance(split, re.Pattern)
    for text in (" " * 200_000, "a" * 200_000, "é " * 100_000, "'" * 200_000, "\n" * 200_000 + "x"):
        assert "".join(pretokenize(text)) == text
