"""Training byte pair encoding: the pairs that counting anew gives, and that tokenizers learns."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.text import BytePairTokenizer, bpe_training, load_text
from npllm.text.bpe_training import learn_merges
from npllm.text.byte_letters import to_letters
from npllm.text.pretokenizers import pretokenize

PHRASES = st.lists(
    st.sampled_from(
        ["the", " the", "ab", "aaa", "😀", "é", " ", "\n\n", "7", "'s", "<|end|>", "\x00"]
    )
).map("".join)


def naive_merges(pieces, size):
    """Return merges by counting everything anew each time."""
    alphabet = sorted((bytes([byte]) for byte in range(256)), key=to_letters)
    tokens = list(alphabet)
    ids = {token: i for i, token in enumerate(tokens)}
    words = [[ids[bytes([byte])] for byte in piece.encode()] for piece in pieces]
    merges = []
    while len(tokens) < size:
        counts = Counter(pair for word in words for pair in zip(word, word[1:]))  # noqa: B905, RUF007
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == pair:
                    word[i : i + 2] = [len(tokens)]
                i += 1
        tokens.append(tokens[pair[0]] + tokens[pair[1]])
        merges.append(pair)
    return merges, tokens


@given(st.text("aab ", max_size=80) | PHRASES, st.integers(256, 300))
def test_training_is_what_counting_anew_gives(text, size):
    trained = BytePairTokenizer.train(text, size)
    merges, tokens = naive_merges(pretokenize(text), size)
    assert list(trained.merges) == merges
    assert list(trained.token_bytes) == tokens
    for i, token in enumerate(tokens):  # nothing is learned that is never used
        if trained.decode_bytes([i]).isascii() and pretokenize(token.decode()) == [token.decode()]:
            assert trained.encode_bytes(token).tolist() == [i]


@given(st.text("aab", min_size=1, max_size=80), st.integers(256, 300))
def test_long_pieces_are_learned_as_short_ones(text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe_training, "LONG", 1)
        trained = BytePairTokenizer.train(f"{text} {text}", size)
    assert trained.merges == BytePairTokenizer.train(f"{text} {text}", size).merges


def test_one_line_of_many_letters_is_learned_as_tokenizers_learns_it(oracle):
    tokenizers = oracle("tokenizers")
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 30_000))
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator([text], trainer)
    trained = BytePairTokenizer.train(text, 700)
    assert trained.encode(text).tolist() == learner.encode(text).ids


def test_a_small_example():
    tokenizer = BytePairTokenizer.train("aaabdaaabac", 259)
    joined = [tokenizer.token_bytes[i] for i in (256, 257, 258)]
    assert joined == [b"aa", b"ab", b"aaab"]
    assert tokenizer.vocabulary[256:] == ("aa", "ab", "aaab")
    assert [tokenizer.vocabulary[i] for i in tokenizer.encode("aaabdaaabac")] == [
        "aaab",
        "d",
        "aaab",
        "a",
        "c",
    ]


def test_training_stops_where_no_pair_is_left():
    tokenizer = BytePairTokenizer.train("ab ab", 1000)
    assert tokenizer.vocabulary[256:] == ("ab", " ab")


def test_a_vocabulary_must_hold_the_bytes():
    with pytest.raises(ValueError, match="a vocabulary of 256 cannot hold the 257 bytes"):
        BytePairTokenizer.train("a", 256, special=("<s>",))


@pytest.mark.parametrize("size", [700, 2000])
def test_merges_are_those_of_tokenizers(oracle, size):
    tokenizers = oracle("tokenizers")
    text = load_text()
    ours = BytePairTokenizer.train(text, size, special=("<|end|>",))
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    theirs.pre_tokenizer = byte_level(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=0,
        initial_alphabet=byte_level.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    theirs.train_from_iterator([text], trainer)
    model = json.loads(theirs.to_str())["model"]
    letters = [to_letters(token) for token in ours.token_bytes]
    assert len(letters) == size
    assert {token: i for i, token in enumerate(letters)} == model["vocab"]
    assert [[letters[i] for i in pair] for pair in ours.merges] == model["merges"]
    ids = ours.encode(text, special=True).tolist()
    assert ids == theirs.encode(text).ids


def test_learning_from_nothing():
    tokens = [bytes([byte]) for byte in range(256)]
    assert learn_merges([], tokens, 300) == []
    assert len(tokens) == 256


def test_a_special_token_may_be_learned():
    tokenizer = BytePairTokenizer.train("ab ab ab", 258, special=("ab",))
    a, b = tokenizer.encode_bytes(b"a")[0], tokenizer.encode_bytes(b"b")[0]
    assert tokenizer.merges[0] == (a, b)
    assert tokenizer.vocabulary[257:] == (" ab",)
    assert tokenizer.encode("ab").tolist() == [0]
