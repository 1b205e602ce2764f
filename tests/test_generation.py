"""Generation: the distribution a token is drawn from, and the draws."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from npllm.generation import generate, next_token_probabilities
from npllm.models import LSTMLanguageModel

LOGITS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 9),
    elements=st.floats(-30, 30, width=32) | st.integers(-2, 2).map(float),  # ties too
)
TEMPERATURES = st.floats(1e-3, 1e3)


def softmax(logits, temperature=1.0):
    z = np.asarray(logits, np.float64)
    e = np.exp((z - z.max()) / temperature)
    return e / e.sum()


@given(
    LOGITS,
    st.just(0.0) | TEMPERATURES,
    st.none() | st.integers(1, 12),
    st.none() | st.floats(0.01, 1),
)
def test_what_comes_back_is_a_distribution(logits, temperature, top_k, top_p):
    kept = logits.copy()
    p = next_token_probabilities(logits, temperature, top_k, top_p)
    assert p.dtype == np.float64
    assert p.shape == logits.shape
    assert (p >= 0).all()
    assert abs(p.sum() - 1) < 1e-12
    assert p[logits.argmax()] == p.max()
    np.testing.assert_array_equal(logits, kept)


@given(LOGITS, TEMPERATURES)
def test_without_limits_it_is_the_softmax(logits, temperature):
    p = next_token_probabilities(logits, temperature)
    np.testing.assert_allclose(p, softmax(logits, temperature), rtol=1e-12, atol=0)


@given(LOGITS, st.none() | st.integers(1, 12), st.none() | st.floats(0.01, 1))
def test_temperature_zero_takes_the_likeliest(logits, top_k, top_p):
    p = next_token_probabilities(logits, 0, top_k, top_p)
    assert p[logits.argmax()] == 1
    assert p.sum() == 1


@given(LOGITS, st.integers(1, 12))
def test_top_k_keeps_the_k_likeliest(logits, top_k):
    p, whole = next_token_probabilities(logits, top_k=top_k), softmax(logits)
    kept = np.argsort(-logits.astype(np.float64), kind="stable")[:top_k]
    assert set(np.flatnonzero(p)) == set(kept)
    np.testing.assert_allclose(p[kept], whole[kept] / whole[kept].sum(), rtol=1e-12)


@given(LOGITS, st.floats(0.01, 1), st.none() | st.integers(1, 12))
@example(np.zeros(4), 0.5, None)
@example(np.log([0.5, 0.25, 0.25]), 0.5, None)
@example(np.log([0.5, 0.25, 0.25]), 1.0, 2)
def test_top_p_keeps_the_fewest_that_reach_it(logits, top_p, top_k):
    p = next_token_probabilities(logits, top_k=top_k, top_p=top_p)
    before = next_token_probabilities(logits, top_k=top_k)
    kept = p > 0
    mass = before[kept].sum()
    assert mass >= top_p - 1e-12
    assert mass - before[kept].min() < top_p + 1e-12  # one fewer would not do
    assert before[kept].min() >= before[~kept].max(initial=0)
    np.testing.assert_allclose(p[kept], before[kept] / mass, rtol=1e-12)


@given(LOGITS, TEMPERATURES, TEMPERATURES)
def test_a_lower_temperature_keeps_to_the_likely(logits, one, other):
    low, high = sorted((one, other))
    likeliest = logits.argmax()
    cold, warm = (next_token_probabilities(logits, t)[likeliest] for t in (low, high))
    assert cold >= warm - 1e-12


@pytest.mark.parametrize("temperature", [5e-324, 1e-309, 1e-300, 1e300])
def test_extreme_temperatures(temperature):
    p = next_token_probabilities(np.array([-1.0, 2.0, 0.5]), temperature)
    expected = [0, 1, 0] if temperature < 1 else [1 / 3] * 3
    np.testing.assert_allclose(p, expected, atol=1e-12)


def test_impossible_tokens_are_never_drawn():
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0])
    assert next_token_probabilities(logits).tolist() == [0, 0.5, 0, 0.5]
    assert next_token_probabilities(logits, top_k=3).tolist() == [0, 0.5, 0, 0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or more, got -0.1"),
        ({"temperature": np.inf}, "temperature"),
        ({"temperature": np.nan}, "temperature"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0}, r"top_p must lie in \(0, 1\], got 0"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": np.nan}, "top_p"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        next_token_probabilities(np.zeros(3), **options)
    with pytest.raises(ValueError, match=message):
        generate(None, np.array([0]), 5, np.random.default_rng(0), **options)


@pytest.mark.parametrize(("prompt", "tokens"), [([], 5), ([0], -1)])
def test_bad_requests_are_refused_before_anything_is_drawn(prompt, tokens):
    with pytest.raises(ValueError, match=r"prompt must hold|tokens must be 0 or more"):
        generate(None, np.array(prompt, np.int64), tokens, np.random.default_rng(0))


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_logits_are_refused(broken):
    with pytest.raises(ValueError, match="the model's weights are broken"):
        next_token_probabilities(np.array([0.0, broken, 1.0]))


class Recorder:
    """A model that notes what it is asked, and predicts from its state."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def predict(self, ids, state=None):
        self.calls.append((ids.tolist(), state))
        return self.model.predict(ids, state)


@pytest.fixture(scope="module")
def model():
    made = LSTMLanguageModel(9, 4, 5, num_layers=2, dtype=np.float64)
    made.parameters.vector *= 3
    return made


def test_the_carried_state_equals_the_whole_prefix(model):
    prompt = np.array([3, 1, 4])
    recorder = Recorder(model)
    drawn = list(generate(recorder, prompt, 12, np.random.default_rng(2)))
    assert [ids for ids, _ in recorder.calls] == [[[3, 1, 4]], *([[t]] for t in drawn[:-1])]
    rng, prefix = np.random.default_rng(2), list(prompt)
    for token in drawn:
        p = next_token_probabilities(model.predict(np.array([prefix]))[0][0, -1])
        assert token == np.searchsorted(np.cumsum(p), rng.random(), side="right")
        prefix.append(token)


def test_temperature_zero_is_the_same_for_every_seed(model):
    texts = {
        tuple(generate(model, np.array([2]), 20, np.random.default_rng(seed), temperature=0))
        for seed in range(3)
    }
    assert len(texts) == 1
    token, state = 2, None
    for drawn in texts.pop():
        logits, state = model.predict(np.array([[token]]), state)
        token = int(logits[0, -1].argmax())
        assert drawn == token


def test_the_seed_determines_the_draws(model):
    def write(seed, **options):
        return list(generate(model, np.array([2]), 40, np.random.default_rng(seed), **options))

    assert write(5) == write(5)
    assert write(5) != write(6)
    assert write(5)[:10] == list(generate(model, np.array([2]), 10, np.random.default_rng(5)))
    assert list(generate(model, np.array([2]), 0, np.random.default_rng(0))) == []


class Fixed:
    """A model of a fixed distribution."""

    def __init__(self, p):
        with np.errstate(divide="ignore"):
            self.logits = np.log(np.asarray(p))

    def predict(self, ids, state=None):
        return np.tile(self.logits, (*ids.shape, 1)), state


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.6}, {"top_k": 4, "top_p": 0.9}]
)
def test_tokens_come_as_often_as_they_should(options):
    fixed = Fixed([0.05, 0.4, 0.0, 0.25, 0.2, 0.1])
    n = 5_000
    drawn = list(generate(fixed, np.array([0]), n, np.random.default_rng(11), **options))
    counts, p = np.bincount(drawn, minlength=6), next_token_probabilities(fixed.logits, **options)
    assert not counts[p == 0].any()
    assert stats.chisquare(counts[p > 0], n * p[p > 0]).pvalue > 1e-3


class LastNumber:
    """A generator that draws the largest number below one."""

    def random(self):
        return np.nextafter(1.0, 0.0)


@given(LOGITS, st.none() | st.floats(0.01, 1))
def test_even_the_largest_number_draws_a_token_that_may_come(logits, top_p):
    assume(len(logits) > 1)
    fixed = Fixed(softmax(logits))
    p = next_token_probabilities(fixed.logits, top_p=top_p)
    (drawn,) = generate(fixed, np.array([0]), 1, LastNumber(), top_p=top_p)
    assert p[drawn] > 0
