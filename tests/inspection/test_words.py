"""Words as vectors: neighbours, principal axes, and a word in its sentences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.inspection.words import (
    agreement,
    cosines,
    embedding_of,
    ids_of_word,
    neighbours,
    place_of_word,
    principal_components,
    word_in_context,
)
from npllm.layers import linear_forward
from npllm.models import MODELS
from npllm.text import BytePairTokenizer, CharacterTokenizer, WordTokenizer

TEXT = "the bank of the river, the bank of money; a river bank. 河岸和银行。" * 4


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(2, 8))
def test_neighbours_are_the_largest_cosines(seed, size, width):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(size, width)).astype(np.float32)
    asked = int(rng.integers(size))
    found = neighbours(table, table[asked], size, [asked])
    wide = table.astype(np.float64)
    expected = wide @ wide[asked]
    expected /= np.sqrt((wide**2).sum(axis=1) * (wide[asked] ** 2).sum())
    np.testing.assert_allclose(
        [n.cosine for n in found], np.sort(np.delete(expected, asked))[::-1], atol=1e-12
    )
    assert {n.id for n in found} == set(range(size)) - {asked}
    assert [n.id for n in neighbours(table, 7 * table[asked], 1)] == [asked]


def test_a_zero_vector_is_near_to_nothing():
    assert cosines(np.zeros((2, 3)), np.ones(3)).tolist() == [0.0, 0.0]


@given(st.integers(0, 10**6), st.integers(2, 20), st.integers(1, 6))
def test_principal_axes_are_the_covariance_s(seed, size, width):
    x = np.random.default_rng(seed).normal(size=(size, width)) + 5
    count = min(2, width, size)
    y, shares = principal_components(x, count)
    values, axes = np.linalg.eigh((size - 1) * np.cov(x.T).reshape(width, width))
    expected = (x - x.mean(axis=0)) @ axes[:, ::-1][:, :count]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.abs(y), np.abs(expected), atol=1e-6 * scale)
    np.testing.assert_allclose(shares, values[::-1][:count] / values.sum(), atol=1e-9)
    assert all(column[np.abs(column).argmax()] >= 0 for column in y.T)
    if size > 4 < width:  # the negative control: without the mean they are others
        u, s, _ = np.linalg.svd(x, full_matrices=False)
        assert not np.allclose(np.abs(u * s)[:, 0], np.abs(y[:, 0]))


def test_words_that_do_not_differ():
    y, shares = principal_components(np.ones((3, 4)))
    assert not y.any()
    assert not shares.any()


TOKENIZERS = {
    "character": CharacterTokenizer.train(TEXT),
    "word": WordTokenizer.train(TEXT),
    "bpe": BytePairTokenizer.train(TEXT, 300),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_token_that_ends_a_word_is_found(kind):
    tokenizer = TOKENIZERS[kind]
    for text, word, before in [
        ("the bank of the river", "bank", "the bank"),
        ("the river bank", "bank", "the river bank"),
        ("banks, a bank", "bank", "banks, a bank") if kind == "character" else ("a", "a", "a"),
        ("河岸和银行。", "银行", "河岸和银行"),
    ]:
        if kind == "character" and "s" not in tokenizer.vocabulary and "banks" in text:
            continue
        ids = tokenizer.encode(text)
        place = place_of_word(tokenizer, ids, text, word)
        assert len(tokenizer.decode(ids[: place + 1].tolist())) >= len(before)
        assert len(tokenizer.decode(ids[:place].tolist())) < len(before)
    with pytest.raises(ValueError, match="does not stand in"):
        place_of_word(tokenizer, tokenizer.encode("the"), "the", "bank")


def test_the_ids_of_a_word():
    tokenizer = TOKENIZERS["word"]
    assert ids_of_word(tokenizer, "bank").tolist() == tokenizer.encode(" bank").tolist()
    assert len(ids_of_word(TOKENIZERS["character"], "bank")) == 4
    for word, message in [("", "is empty"), (" ", "is empty"), ("X", "not in the vocabulary")]:
        with pytest.raises(ValueError, match=message):
            ids_of_word(tokenizer, word)
    table = np.arange(12.0).reshape(4, 3)
    assert embedding_of(table, np.array([0, 2])).tolist() == [3.0, 4.0, 5.0]


SIZES = {
    "lstm": {"embed_size": 4, "hidden_size": 5, "num_layers": 2},
    "gpt": {"context": 40, "width": 8, "num_layers": 2, "heads": 2},
    "llama": {"context": 40, "width": 8, "num_layers": 2, "heads": 2},
}


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_lead_to_the_logits(name):
    model = MODELS[name](vocab_size=9, **SIZES[name], seed=1, dtype=np.float64)
    ids = np.random.default_rng(0).integers(9, size=(2, 6))
    logits, _ = model.forward(ids)
    first, *_, last = layers = model.layers(ids)
    assert len(layers) == 3
    if name == "lstm":
        np.testing.assert_array_equal(first, model.parameters["embedding.weight"][ids])
        p = model.parameters
        found, _ = linear_forward(last, p["fc.weight"], p["fc.bias"])
    else:
        found, _ = linear_forward(model.norm_forward(last)[0], model.parameters[model.HEAD])
    np.testing.assert_allclose(found, logits, rtol=1e-12, atol=1e-13)
    assert not np.allclose(layers[1], layers[2][..., : layers[1].shape[-1]])


@pytest.mark.parametrize("name", MODELS)
def test_a_word_is_the_same_below_and_another_above(name):
    tokenizer = TOKENIZERS["word"]
    model = MODELS[name](len(tokenizer.vocabulary), **SIZES[name], seed=1, dtype=np.float64)
    texts = ["the bank of the river", "a river bank", "the bank of money"]
    below, *above = word_in_context(model, tokenizer, "bank", texts)
    if name != "gpt":  # which adds a vector for the place
        np.testing.assert_allclose(cosines(below, below[0]), 1.0, rtol=1e-12)
    for layer in above:
        np.testing.assert_allclose(layer[0], layer[2], rtol=1e-12)  # the same words before it
        assert cosines(layer[0], layer[1]) < 0.9999


def test_agreement_by_hand():
    layer = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    same, other, hits = agreement(layer, ["x", "x", "y", "y"])
    assert same == pytest.approx(1 / np.sqrt(1.01), rel=1e-12)
    assert hits == 1.0
    assert other < 0.2
    assert agreement(layer, ["x", "y", "x", "y"])[2] == 0.0
    for labels in (["x"] * 4, [*"wxyz"]):
        with pytest.raises(ValueError, match="two texts at least must have one label"):
            agreement(layer, labels)


def test_a_picture_of_vectors_of_one_number():
    y, shares = principal_components(np.array([[1.0], [3.0], [2.0]]))
    np.testing.assert_allclose(y, [[-1, 0], [1, 0], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(shares, [1, 0], atol=1e-12)


def test_a_word_whose_tokens_are_parts_of_characters():
    tokenizer = BytePairTokenizer.train("a", 256)  # bytes, three a character
    text, word = "\u4e2d\u9b51\u9b45", "\u9b51\u9b45"
    ids = tokenizer.encode(text)
    assert len(ids) == 9
    assert place_of_word(tokenizer, ids, text, word) == 8
    assert place_of_word(tokenizer, ids, text, text[0]) == 2
