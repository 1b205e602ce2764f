"""Evaluation: every token but the first is scored, once, by what stands before it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.layers import cross_entropy_forward, log_softmax_forward
from npllm.models import GPT, LSTMLanguageModel
from npllm.text import BytePairTokenizer, CharacterTokenizer, WordTokenizer
from npllm.training import Evaluation, evaluate
from npllm.training.workers import Workers

CHARACTERS = CharacterTokenizer(list("abcdefg"))


class Bigrams:
    """A model that sees one token back: its score does not depend on how the text is cut."""

    context = None

    def __init__(self, size):
        self.table = np.random.default_rng(0).normal(size=(size, size))

    def score(self, ids, targets, state=None):
        loss, _ = cross_entropy_forward(self.table[ids], targets, reduction="sum")
        return float(loss), state


class InTurns(Workers):
    """Workers that do their shares one after the other, in this process."""

    def __init__(self, model, count):
        super().__init__(model)
        self.count = count


@given(st.integers(2, 300), st.integers(1, 40), st.integers(1, 30), st.integers(1, 3))
def test_every_token_but_the_first_is_scored_once(n, streams, length, threads):
    model, ids = Bigrams(7), np.random.default_rng(n).integers(7, size=n)
    result = evaluate(InTurns(model, threads), CHARACTERS, ids, streams=streams, length=length)
    log_p, _ = log_softmax_forward(model.table)
    np.testing.assert_allclose(result.nats, -log_p[ids[:-1], ids[1:]].sum(), rtol=1e-12)
    assert (result.tokens, result.characters) == (n - 1, n - 1)


@pytest.fixture(scope="module")
def model():
    made = LSTMLanguageModel(7, 4, 5, num_layers=2, dtype=np.float64)
    made.parameters.vector *= 4
    return made


def score(model, ids):
    logits, _ = model.predict(ids[None, :-1])
    return float(cross_entropy_forward(logits, ids[None, 1:], reduction="sum")[0])


@pytest.mark.parametrize("length", [1, 7, 99, 100, 1000])
def test_one_stream_is_the_text_from_start_to_end(model, length):
    ids = np.random.default_rng(1).integers(7, size=101)
    result = evaluate(Workers(model), CHARACTERS, ids, streams=1, length=length)
    np.testing.assert_allclose(result.nats, score(model, ids), rtol=1e-12)
    assert result.tokens == 100


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_streams_are_texts_of_their_own(model, threads):
    ids = np.random.default_rng(1).integers(7, size=101)
    with Workers(model, count=threads).working() as workers:
        result = evaluate(workers, CHARACTERS, ids, streams=3, length=10)
    width = 34  # 100 tokens in 3 streams
    parts = [ids[start : start + width + 1] for start in (0, width, 2 * width)]
    expected = sum(score(model, part) for part in parts)
    np.testing.assert_allclose(result.nats, expected, rtol=1e-12)


def test_dropout_is_off():
    models = [LSTMLanguageModel(7, 4, 5, dropout=dropout) for dropout in (0.0, 0.5)]
    ids = np.random.default_rng(1).integers(7, size=50)
    one, other = (evaluate(Workers(model), CHARACTERS, ids) for model in models)
    assert one == other


def test_measures():
    words = WordTokenizer.train("to be to be to be", 10)
    ids = words.encode("to be to")

    def sixteen(_, ids, targets, state=None):
        return math.log(16) * np.count_nonzero(targets != -100), state

    uniform = type("Uniform", (), {"context": None, "score": sixteen})
    result = evaluate(Workers(uniform()), words, ids)
    assert result.tokens == len(ids) - 1
    assert result.characters == len("to be to") - len(words.vocabulary[ids[0]])
    assert result.loss == pytest.approx(math.log(16), rel=1e-12)
    assert result.perplexity == pytest.approx(16, rel=1e-12)
    bits = 4 * result.tokens / result.characters
    assert result.bits_per_character == pytest.approx(bits, rel=1e-12)


def test_a_huge_loss_has_an_infinite_perplexity():
    assert Evaluation(nats=1e6, tokens=10, characters=10).perplexity == math.inf


@pytest.mark.parametrize("n", [0, 1])
def test_a_text_needs_two_tokens(n):
    with pytest.raises(ValueError, match=f"at least 2 tokens .* got {n}"):
        evaluate(Workers(Bigrams(7)), CHARACTERS, np.zeros(n, np.int64))


@pytest.mark.parametrize(("length", "carried"), [(4, 8), (3, 6), (100, 8)])
def test_a_model_with_a_last_position_begins_anew(length, carried):
    gpt = GPT(7, 8, 6, 1, 2, dtype=np.float64)
    gpt.parameters.vector[:] = np.random.default_rng(0).normal(size=gpt.parameters.vector.size) / 2
    ids = np.random.default_rng(1).integers(7, size=31)
    result = evaluate(Workers(gpt), CHARACTERS, ids, streams=1, length=length)
    pieces = [ids[n : n + carried + 1] for n in range(0, 30, carried)]
    expected = sum(score(gpt, piece) for piece in pieces)
    np.testing.assert_allclose(result.nats, expected, rtol=1e-12)
    assert result.tokens == 30


def test_characters_are_counted_in_the_text_and_not_in_pieces_of_bytes():
    tokenizer = BytePairTokenizer.train("é" * 9 + "aé", 257)
    ids = tokenizer.encode("aééaé")
    result = evaluate(Workers(LSTMLanguageModel(257, 4, 5)), tokenizer, ids)
    assert result.characters == 4


def test_one_character_of_several_tokens_is_no_text_to_score():
    tokenizer = BytePairTokenizer.train("abc", 257)
    with pytest.raises(ValueError, match="at least 2 characters to be scored: use a longer"):
        evaluate(Workers(LSTMLanguageModel(257, 4, 5)), tokenizer, tokenizer.encode("😀"))
