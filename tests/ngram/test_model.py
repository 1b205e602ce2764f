"""n-gram models: their smoothings against the formulas, and what every model answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from literal import MARK, Literal

from npllm.ngram import NgramLanguageModel
from npllm.ngram.counts import find
from npllm.ngram.smoothing import USUAL_DISCOUNTS, discounts

SMOOTHINGS = ["add-k", "witten-bell", "kneser-ney"]
# exact but for the logarithms and a sum for each order
CLOSE = 1e-12

texts = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def sentences_of(text, end):
    """Return a text in sentences, the end being a word of each."""
    if end is None:
        return [text]
    found = [[]]
    for word in text:
        found[-1].append(word)
        if word == end:
            found.append([])
    return [sentence for sentence in found if sentence]


def history_of(words, end):
    """Return the words of the last sentence, and the mark before it."""
    if end is None or end not in words:
        return tuple(words)
    last = len(words) - 1 - words[::-1].index(end)
    return (MARK, *words[last + 1 :])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("end", [None, 3])
@given(text=texts, histories=st.lists(texts, max_size=3), order=st.integers(1, 4), k=st.just(0.25))
def test_every_smoothing_is_its_formula_in_fractions(smoothing, end, text, histories, order, k):
    model = NgramLanguageModel.count(text, 5, order=order, smoothing=smoothing, k=k, end=end)
    literal = Literal(sentences_of(text, end), range(5), order, smoothing, k)
    for words in [text, *histories]:
        log_p, _ = model.predict([words])
        before = [] if end is None else [end]
        for place in range(len(words)):
            history = history_of([*before, *words[: place + 1]], end)
            expected = [float(literal.p(word, history)) for word in range(5)]
            assert np.exp(log_p[0, place]) == pytest.approx(expected, rel=CLOSE)
            assert np.exp(log_p[0, place]).sum() == pytest.approx(1, rel=CLOSE)


def zipf(words, size, seed=0):
    """Return a text in which some words are frequent and most are rare, with some order in it."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, words + 1)
    drawn = rng.choice(words, size, p=p / p.sum())
    again = rng.random(size) < 0.3  # what came three words ago comes once more
    drawn[3:][again[3:]] = drawn[:-3][again[3:]]
    return drawn


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_a_text_that_has_discounts_of_its_own(smoothing):
    text = zipf(30, 400)
    model = NgramLanguageModel.count(text, 30, order=3, smoothing=smoothing)
    literal = Literal([text.tolist()], range(30), 3, smoothing)
    if smoothing == "kneser-ney":
        assert USUAL_DISCOUNTS not in literal.discounts[1:]
    log_p, _ = model.predict([text[:40]])
    for place in range(40):
        history = tuple(text[: place + 1].tolist())
        expected = [float(literal.p(word, history)) for word in range(30)]
        assert np.exp(log_p[0, place]) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_probabilities_sum_to_one_after_ten_thousand_histories(smoothing):
    model = NgramLanguageModel.count(zipf(50, 5000), 50, order=4, smoothing=smoothing, end=7)
    histories = np.random.default_rng(1).integers(0, 50, (100, 100))
    log_p, _ = model.predict(histories)
    # V terms of a relative error of a few ulp
    assert np.exp(log_p).sum(axis=-1) == pytest.approx(np.ones((100, 100)), rel=CLOSE)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("end", [None, 2])
@given(seed=st.integers(0, 99), cut=st.integers(1, 8), order=st.integers(1, 4))
def test_what_is_scored_is_what_is_predicted_and_the_state_carries_it(
    smoothing, end, seed, cut, order
):
    model = NgramLanguageModel.count(zipf(6, 50), 6, order=order, smoothing=smoothing, end=end)
    ids = np.random.default_rng(seed).integers(0, 6, (3, 9))
    log_p, state = model.predict(ids)
    targets = np.roll(ids, -1, axis=1)
    taken = np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    found, after = model.log_probabilities(ids, targets)
    assert np.array_equal(found, taken)
    assert np.array_equal(after, state)
    first, middle = model.predict(ids[:, :cut])
    rest, last = model.predict(ids[:, cut:], middle) if cut < 9 else (log_p[:, 9:], middle)
    assert np.array_equal(np.concatenate([first, rest], axis=1), log_p)
    assert np.array_equal(last, state)
    targets[0, :5] = -100  # do not count
    nats, _ = model.score(ids, targets)
    assert nats == pytest.approx(-taken[targets != -100].sum())
    assert np.array_equal(model.forward(ids, state)[0], model.predict(ids, state)[0])
    again, _ = model.log_probabilities(ids, np.maximum(targets, 0), state)
    nats, _ = model.score(ids, targets, state)
    assert nats == pytest.approx(-again[targets != -100].sum())


def test_a_text_begins_behind_the_end_of_another():
    counted = {"ids": zipf(6, 50), "vocab_size": 6, "order": 4}
    one, other = (NgramLanguageModel.count(**counted, end=end) for end in (None, 2))
    assert one.initial_state(2).tolist() == [[-1, -1, -1]] * 2
    assert other.initial_state(2).tolist() == [[-1, -1, 2]] * 2
    for state in (one.initial_state(3), np.arange(9).reshape(3, 3)):
        for rows in (slice(1, 3), [1, 2], (1, 2), np.array([1, 2])):
            assert np.array_equal(one.rows_of_state(state, rows), state[1:])
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 6\), got 6"):
        one.log_probabilities([[0]], [[6]])


def test_rows_of_any_length_are_predicted_as_if_alone():
    model = NgramLanguageModel.count(zipf(6, 50), 6, order=3)
    ids, lengths = np.random.default_rng(0).integers(0, 6, (3, 5)), np.array([5, 1, 3])
    log_p, state = model.predict(ids, lengths=lengths, last=True)
    assert log_p.shape == (3, 1, 6)
    for n, length in enumerate(lengths):
        alone, after = model.predict(ids[n : n + 1, :length])
        assert np.array_equal(log_p[n], alone[0, -1:])
        assert np.array_equal(state[n], after[0])
    assert np.array_equal(model.rows_of_state(state, [2, 2, 0]), state[[2, 2, 0]])
    with pytest.raises(ValueError, match="each row must have a token"):
        model.predict(ids, lengths=[5, 0, 1], last=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 0}, "order must be at least 1, got 0"),
        ({"k": 0.0}, "k must be positive and finite, times the vocabulary too, got 0"),
        ({"k": 4e307, "smoothing": "add-k"}, "k must be positive and finite, times the vocab"),
        ({"k": np.inf}, "k must be positive and finite, times the vocabulary too, got inf"),
        ({"smoothing": "good-turing"}, "smoothing must be one of add-k, witten-bell, kneser-ney"),
        ({"ids": []}, "a text must have at least one word to be counted"),
        ({"ids": [0, 3]}, r"ids must lie in \[0, 3\), got 3"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),  # no \[ of a pattern
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"ids": np.array([0, 1, 2]), "vocab_size": 3, "order": 2} | change
    given["ids"] = np.array(given["ids"], int)
    with pytest.raises(ValueError, match=message):
        NgramLanguageModel.count(**given)


def test_a_k_above_all_counts_leaves_nothing_but_the_uniform():
    model = NgramLanguageModel.count([0, 1, 2], 3, order=2, smoothing="add-k", k=2.5e307)
    assert np.exp(model.predict([[0]])[0]) == pytest.approx(np.full((1, 1, 3), 1 / 3))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_arrays_make_the_same_model(smoothing):
    model = NgramLanguageModel.count(zipf(6, 50), 6, order=3, smoothing=smoothing, end=1)
    again = NgramLanguageModel.load(model.config, model.arrays)
    ids = zipf(6, 30, seed=1)[None]
    assert np.array_equal(again.predict(ids)[0], model.predict(ids)[0])
    assert again.config == model.config
    assert again.size == model.size


def test_what_lies_at_the_edge_of_a_model_is_loaded():
    arrays = {
        "1.codes": np.arange(3),
        "1.log_p": np.array([0.0, -1, -np.inf]),
        "1.log_b": np.zeros(3),
        "2.codes": np.array([0, 8]),
        "2.log_p": np.array([-1.0, 0]),
        "2.log_b": np.zeros(2),
        "3.codes": np.zeros(0, int),
        "3.log_p": np.zeros(0),
        "3.log_b": np.zeros(0),
    }
    config = {"vocab_size": 2, "order": 3, "smoothing": "arpa", "end": 1}
    model = NgramLanguageModel.load(config, arrays)
    assert [len(table.codes) for table in model.tables] == [3, 2, 0]
    assert model.config == config
    assert model.hands_on
    for name, wrong, message in [
        ("1.codes", [0, 1, 3], "not in order"),
        ("1.codes", [0, 2, 1], "not in order"),
        ("2.codes", [0, 9], "not in order"),
        ("2.codes", [-1, 8], "not in order"),
        ("2.codes", [3, 3], "not in order"),
        ("2.codes", [8, 0], "not in order"),
        ("2.log_p", [-1, 1e-9], "logarithms of no probabilities"),
        ("2.log_b", [0, np.inf], "logarithms of no probabilities"),
    ]:
        with pytest.raises(ValueError, match=message):
            NgramLanguageModel.load(config, arrays | {name: np.array(wrong)})
    with pytest.raises(ValueError, match="its 1-grams have the shapes"):
        NgramLanguageModel.load(config | {"vocab_size": 3}, arrays)
    assert NgramLanguageModel.load(config | {"order": 1}, arrays).order == 1


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        ("2.codes", lambda a: a[::-1], "the codes of its 2-grams are not in order"),
        ("2.codes", lambda a: a + 10**6, "the codes of its 2-grams are not in order"),
        ("2.codes", lambda a: a - 10**6, "the codes of its 2-grams are not in order"),
        ("2.codes", lambda a: a[1:], "its 2-grams have the shapes"),
        ("1.codes", lambda a: a[1:], "its 1-grams have the shapes"),
        ("3.log_p", lambda a: a[None], "its 3-grams have the shapes"),
        ("2.log_p", lambda a: a + 99, "its 2-grams have logarithms of no probabilities"),
        ("2.log_p", lambda a: a * np.nan, "its 2-grams have logarithms of no probabilities"),
        ("2.log_b", lambda a: a + np.inf, "its 2-grams have logarithms of no probabilities"),
    ],
)
def test_arrays_that_are_none_of_a_model_are_refused(name, broken, message):
    model = NgramLanguageModel.count(zipf(6, 50), 6, order=3)
    with pytest.raises(ValueError, match=message):
        NgramLanguageModel.load(model.config, model.arrays | {name: broken(model.arrays[name])})
    for change in (
        {"order": "3"},
        {"order": 0},
        {"order": -1},
        {"smoothing": "none"},
        {"end": 6},
        {"end": -1},
    ):
        with pytest.raises(ValueError, match="its config is"):
            NgramLanguageModel.load(model.config | change, model.arrays)
    del (arrays := model.arrays)[name]
    with pytest.raises(KeyError):
        NgramLanguageModel.load(model.config, arrays)


def test_the_rank_of_what_is_not_there():
    codes = np.array([2, 5])  # of three words
    prefixes, last = np.array([0, 1, 1, -1, -2, 0, 2]), np.array([2, 2, -1, 2, 2, 0, 0])
    assert find(codes, 3, prefixes, last).tolist() == [0, 1, -1, -1, -2, -2, -2]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_a_text_of_one_word(smoothing):
    model = NgramLanguageModel.count([0], 2, order=3, smoothing=smoothing, k=0.25, end=1)
    literal = Literal([[0]], range(2), 3, smoothing, 0.25)
    log_p, _ = model.predict([[0]])
    expected = [float(literal.p(word, (MARK, 0))) for word in range(2)]
    assert np.exp(log_p[0, 0]) == pytest.approx(expected, rel=CLOSE)
    assert NgramLanguageModel.count([0], 1, order=1).score([[0]], [[-100]])[0] == 0


def test_a_history_of_which_nothing_is_discounted():
    text = [0, 2, 2, 2, 3, 2, 2, 0, 2]  # n1 = 4, n2 = n3 = 1: D2 = 0, and after 0 came 2, twice
    model = NgramLanguageModel.count(text, 4, order=2)
    literal = Literal([text], range(4), 2, "kneser-ney")
    log_p, _ = model.predict([[0]])
    assert np.exp(log_p[0, 0]).tolist() == [0, 0, 1, 0]
    assert [literal.p(word, (0,)) for word in range(4)] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("occurring", "expected"),
    [
        ([4, 2, 1, 1], (0.5, 1.25, 1.0)),  # Y = 1 / 2
        ([4, 2, 1, 1, 7, 8], (0.5, 1.25, 1.0)),
        ([4, 2, 1, 0], (0.5, 1.25, 3.0)),
        ([4, 1, 1, 0], (2 / 3, 0.0, 3.0)),
        ([4, 4, 2, 2], (1 / 3, 1.5, 5 / 3)),  # Y = 1 / 3
        ([4, 2, 2, 9], USUAL_DISCOUNTS),  # D3 = -6
        ([9, 1, 9, 1], USUAL_DISCOUNTS),  # D2 = -20
        ([0, 2, 1, 1], USUAL_DISCOUNTS),
        ([4, 0, 1, 1], USUAL_DISCOUNTS),
        ([4, 2, 0, 1], USUAL_DISCOUNTS),
    ],
)
def test_discounts(occurring, expected):
    counts = np.repeat(np.arange(1, 1 + len(occurring)), np.array(occurring, int))
    assert discounts(counts) == pytest.approx(expected)
