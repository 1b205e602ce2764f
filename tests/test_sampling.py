"""Sampling: the distribution a token is drawn from, and the draw."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npllm.sampling import Sampling

LOGITS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 9),
    elements=st.floats(-30, 30, width=32) | st.integers(-2, 2).map(float),  # ties too
)
TEMPERATURES = st.floats(1e-3, 1e3)


def next_token_probabilities(logits, *numbers, **options):
    return Sampling(*numbers, **options).probabilities(logits)


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
        ({"temperature": -0.1}, "temperature must be 0 or more, and finite, got -0.1"),
        ({"temperature": np.inf}, "temperature"),
        ({"temperature": np.nan}, "temperature"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0}, r"top_p must lie in \(0, 1\], got 0"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": np.nan}, "top_p"),
        ({"min_p": -0.1}, r"min_p must lie in \[0, 1\], got -0.1"),
        ({"min_p": np.nan}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty must be positive and finite, got 0"),
        ({"repetition_penalty": np.inf}, "repetition_penalty"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**options)


def test_a_penalty_that_leaves_no_numbers_is_refused():
    logits = np.array([1.0, -2.0])
    with pytest.raises(ValueError, match=r"^repetition_penalty 1e-320 leaves no finite logit"):
        Sampling(repetition_penalty=1e-320).probabilities(logits, [0])
    with pytest.raises(ValueError, match=r"^repetition_penalty 1e\+308 leaves no finite logit"):
        Sampling(repetition_penalty=1e308).probabilities(logits - 9, [0, 1])
    assert Sampling(repetition_penalty=1e308).probabilities(1e9 * logits, [1]).tolist() == [1, 0]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_logits_are_refused(broken):
    with pytest.raises(ValueError, match="the model's weights are broken"):
        next_token_probabilities(np.array([0.0, broken, 1.0]))


@given(LOGITS, st.floats(0, 1), st.none() | st.integers(1, 12))
@example(np.log([0.5, 0.25, 0.25]), 0.5, None)
@example(np.log([0.5, 0.25, 0.25]), 0.5001, None)
def test_min_p_keeps_what_is_near_the_likeliest(logits, min_p, top_k):
    p = next_token_probabilities(logits, top_k=top_k, min_p=min_p)
    before = next_token_probabilities(logits, top_k=top_k)
    kept = p > 0
    assert before[kept].min() >= min_p * before.max() - 1e-12
    dropped = before[~kept]
    assert dropped.max(initial=0) <= min_p * before.max() + 1e-12


def test_top_p_comes_before_min_p():
    # the five reach 0.85 with three: of those, min-p lets none go
    logits = np.log([0.5, 0.3, 0.1, 0.06, 0.04])
    p = next_token_probabilities(logits, top_p=0.85, min_p=0.15)
    np.testing.assert_allclose(p, np.array([5, 3, 1, 0, 0]) / 9, rtol=1e-12)


def test_the_order_is_that_of_transformers(transformers, torch):
    rng = np.random.default_rng(0)
    processors = transformers.generation.logits_process
    for _ in range(200):
        logits = rng.normal(size=12) * rng.uniform(0.5, 4)
        top_k, top_p, min_p = int(rng.integers(1, 13)), rng.uniform(0.05, 1), rng.uniform(0, 0.5)
        scores = torch.tensor(logits[None])
        for processor in (
            processors.TopKLogitsWarper(top_k),
            processors.TopPLogitsWarper(top_p),
            processors.MinPLogitsWarper(min_p),
        ):
            scores = processor(None, scores)
        right = scores.softmax(-1).numpy()[0]
        ours = next_token_probabilities(logits, top_k=top_k, top_p=top_p, min_p=min_p)
        np.testing.assert_allclose(ours, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("occurred", [[0, 2], [2, 0, 0, 2], np.array([0, 2])])
def test_a_repetition_penalty_pushes_down_what_has_occurred(occurred):
    logits = np.array([1.0, 0.5, -1.0, -2.0])
    kept = logits.copy()
    p = Sampling(repetition_penalty=2.0).probabilities(logits, occurred)
    np.testing.assert_allclose(p, softmax([0.5, 0.5, -2.0, -2.0]), rtol=1e-12)
    np.testing.assert_array_equal(logits, kept)
    p = Sampling(repetition_penalty=2.0, temperature=0).probabilities(logits, [0, 0])
    assert p.tolist() == [1, 0, 0, 0]  # of equals the lower id
    assert Sampling(repetition_penalty=2.1, temperature=0).probabilities(logits, [0])[1] == 1
