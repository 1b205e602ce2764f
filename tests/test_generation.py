"""Generation: one way for every model, with what it keeps and without, alone and in a batch."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from npllm.generation import beam_search, generate, generate_batch, largest
from npllm.models import GPT, Llama, LSTMLanguageModel
from npllm.sampling import Sampling


@pytest.mark.parametrize(("prompt", "tokens"), [([], 5), ([0], -1)])
def test_bad_requests_are_refused_before_anything_is_drawn(prompt, tokens):
    with pytest.raises(ValueError, match=r"prompt must hold|tokens must be 0 or more"):
        generate(None, np.array(prompt, np.int64), tokens, np.random.default_rng(0))


class Recorder:
    """A model that notes what it is asked, and predicts from its state."""

    def __init__(self, model):
        self.model, self.calls = model, []

    context = None

    def predict(self, ids, state=None, **options):
        self.calls.append((ids.tolist(), state))
        return self.model.predict(ids, state, **options)


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
        p = Sampling().probabilities(model.predict(np.array([prefix]))[0][0, -1])
        assert token == np.searchsorted(np.cumsum(p), rng.random(), side="right")
        prefix.append(token)


def test_temperature_zero_is_the_same_for_every_seed(model):
    texts = {
        tuple(generate(model, np.array([2]), 20, np.random.default_rng(seed), Sampling(0)))
        for seed in range(3)
    }
    assert len(texts) == 1
    token, state = 2, None
    for drawn in texts.pop():
        logits, state = model.predict(np.array([[token]]), state)
        token = int(logits[0, -1].argmax())
        assert drawn == token


def test_the_seed_determines_the_draws(model):
    def write(seed):
        return list(generate(model, np.array([2]), 40, np.random.default_rng(seed)))

    assert write(5) == write(5)
    assert write(5) != write(6)
    assert write(5)[:10] == list(generate(model, np.array([2]), 10, np.random.default_rng(5)))
    assert list(generate(model, np.array([2]), 0, np.random.default_rng(0))) == []


class Fixed:
    """A model of a fixed distribution."""

    def __init__(self, p):
        with np.errstate(divide="ignore"):
            self.logits = np.log(np.asarray(p))

    context = None

    def predict(self, ids, state=None, **options):
        return np.tile(self.logits, (len(ids), 1, 1)), state

    def rows_of_state(self, state, rows):
        return state


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.6}, {"top_k": 4, "top_p": 0.9}]
)
def test_tokens_come_as_often_as_they_should(options):
    fixed = Fixed([0.05, 0.4, 0.0, 0.25, 0.2, 0.1])
    n = 2_000
    sampling = Sampling(**options)
    drawn = list(generate(fixed, np.array([0]), n, np.random.default_rng(11), sampling))
    counts, p = np.bincount(drawn, minlength=6), sampling.probabilities(fixed.logits)
    assert not counts[p == 0].any()
    assert stats.chisquare(counts[p > 0], n * p[p > 0]).pvalue > 1e-3


class LastNumber:
    """A generator that draws the largest number below one."""

    def random(self):
        return np.nextafter(1.0, 0.0)


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=9), st.none() | st.floats(0.01, 1))
def test_even_the_largest_number_draws_a_token_that_may_come(logits, top_p):
    sampling = Sampling(top_p=top_p)
    p = sampling.probabilities(np.array(logits))
    assert p[sampling.draw(np.array(logits), LastNumber())] > 0


MODELS = {
    "lstm": LSTMLanguageModel(9, 4, 5, num_layers=2, dtype=np.float64),
    "gpt": GPT(9, 8, 12, 2, 3, dtype=np.float64),
    "llama": Llama(9, 8, 12, 2, 6, 2, head_size=4, dtype=np.float64),
    "llama, window": Llama(9, 8, 12, 2, 6, 2, head_size=4, window=3, dtype=np.float64),
}
for made in MODELS.values():  # so that what was read matters
    made.parameters.vector += np.random.default_rng(1).normal(size=made.parameters.vector.size) / 2
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@every_model
def test_what_is_kept_changes_no_token(model):
    def write(cached):
        rng = np.random.default_rng(3)
        return list(generate(model, np.array([3, 1, 4]), 30, rng, cached=cached))

    assert write(True) == write(False)
    assert len(set(write(True))) > 2


@every_model
def test_a_batch_of_prompts_is_each_of_them_alone(model):
    prompts = [np.array(p) for p in ([3, 1, 4, 1, 5], [2], [7, 1, 8])]

    def rngs():
        return [np.random.default_rng(seed) for seed in range(3)]

    together = list(generate_batch(model, prompts, 20, rngs()))
    alone = [list(generate(model, p, 20, r)) for p, r in zip(prompts, rngs(), strict=True)]
    assert [list(row) for row in zip(*together, strict=True)] == alone
    assert list(generate_batch(model, prompts, 20, rngs(), cached=False)) == together


@every_model
def test_a_stop_token_ends_its_row_and_is_not_told(model):
    prompts = [np.array([3, 1]), np.array([4, 1])]

    def write(stop):
        rngs = [np.random.default_rng(seed) for seed in (5, 6)]
        return list(zip(*generate_batch(model, prompts, 30, rngs, stop=stop), strict=True))

    free = write(())
    stop = {free[0][4]}
    for whole, row in zip(free, write(stop), strict=True):
        end = next((n for n, token in enumerate(whole) if token in stop), len(whole))
        told = [token for token in row if token is not None]
        assert told == list(whole[: min(end, len(row))])
        assert all(token is None for token in row[end:])
    single = list(generate(model, prompts[0], 30, np.random.default_rng(5), stop=stop))
    assert single == [token for token in write(stop)[0] if token is not None]


def log_probability(model, prompt, continuation):
    logits, _ = model.predict(np.array([[*prompt, *continuation]]))
    p = [Sampling().probabilities(row) for row in logits[0, len(prompt) - 1 : -1]]
    return float(np.sum(np.log([p[n][t] for n, t in enumerate(continuation)])))


@given(
    numbers=st.lists(st.sampled_from([-np.inf, -2.0, -1.0, -0.5]), min_size=1, max_size=20),
    most=st.integers(1, 25),
)
def test_the_largest_are_those_of_a_stable_sort(numbers, most):
    found = largest(np.array([numbers, numbers[::-1]]), most)
    expected = np.argsort(-np.array(numbers + numbers[::-1]), kind="stable")[:most]
    assert found.tolist() == expected.tolist()


@every_model
def test_a_wide_beam_finds_the_likeliest(model):
    prompt, tokens = [3, 1], 3
    every = itertools.product(range(9), repeat=tokens)
    ranked = sorted(((log_probability(model, prompt, c), c) for c in every), reverse=True)
    found = beam_search(model, np.array(prompt), tokens, 81)
    assert [tuple(beam.ids) for beam in found[:5]] == [c for _, c in ranked[:5]]
    for beam, (expected, _) in zip(found[:5], ranked, strict=False):
        assert beam.log_probability == pytest.approx(expected, rel=1e-12)


@every_model
def test_a_beam_of_one_takes_the_likeliest_token_each_time(model):
    prompt = np.array([3, 1])
    (beam,) = beam_search(model, prompt, 5, 1)
    assert beam.ids == list(generate(model, prompt, 5, np.random.default_rng(0), Sampling(0)))
    assert beam.log_probability == pytest.approx(log_probability(model, [3, 1], beam.ids))


@every_model
def test_a_finished_beam_counts_its_stop_token(model):
    prompt, stop = [3, 1], 2
    found = beam_search(model, np.array(prompt), 4, 400, stop={stop})
    ended = [beam for beam in found if len(beam.ids) < 4]
    assert ended
    for beam in ended:
        assert stop not in beam.ids
        expected = log_probability(model, prompt, [*beam.ids, stop])
        assert beam.log_probability == pytest.approx(expected, rel=1e-12)
    assert [b.log_probability for b in found] == sorted(b.log_probability for b in found)[::-1]


def test_a_length_penalty_prefers_the_long():
    model = Fixed([0.4, 0.35, 0.25])
    short = beam_search(model, np.array([0]), 6, 3, stop={2})
    long = beam_search(model, np.array([0]), 6, 3, stop={2}, length_penalty=2.0)
    assert len(short[0].ids) == 0
    assert len(long[0].ids) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 3, 2), "prompt must hold at least one token"),
        (([1], 3, 0), "beams must be 1 or more"),
        (([1], -1, 2), "tokens 0 or more"),
        (([1] * 6, 3, 2), "the model has 8 positions, too few for 6 and 3 more"),
    ],
)
def test_a_search_that_cannot_be_is_refused(arguments, message):
    prompt, tokens, beams = arguments
    with pytest.raises(ValueError, match=message):
        beam_search(MODELS["gpt"], np.array(prompt, np.int64), tokens, beams)


def test_there_is_a_generator_for_each_prompt():
    with pytest.raises(ValueError, match="a Generator for each prompt, got 1"):
        generate_batch(MODELS["gpt"], [np.array([1])] * 2, 3, [np.random.default_rng(0)])


def test_broken_weights_are_told_by_a_search_too():
    broken = GPT(9, 8, 12, 1, 3)
    broken.parameters.vector[:] = np.nan
    with pytest.raises(ValueError, match="the model's weights are broken"):
        beam_search(broken, np.array([1]), 3, 2)
