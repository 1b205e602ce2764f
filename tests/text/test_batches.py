"""Batches: which token is seen when, and with which one behind it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.text import ContiguousBatches, ShuffledWindows

KINDS = [ContiguousBatches, ShuffledWindows]


@st.composite
def sizes(draw):
    """A text's length, B and T, long enough for one batch at least."""
    batch_size, length = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    return batch_size * length + draw(st.integers(1, 60)), batch_size, length


def epoch(batches, number=0):
    steps = batches.steps_per_epoch
    return [batches[step] for step in range(number * steps, (number + 1) * steps)]


def seen(batches):
    return np.concatenate([batch.ids.ravel() for batch in batches])


@pytest.mark.parametrize("kind", KINDS)
@given(sizes(), st.integers(0, 3))
def test_targets_follow_and_no_token_is_seen_twice(kind, size, number):
    n, batch_size, length = size
    batches = epoch(kind(np.arange(n), batch_size, length), number)
    assert len(batches) >= 1
    for batch in batches:
        assert batch.ids.shape == batch.targets.shape == (batch_size, length)
        np.testing.assert_array_equal(batch.targets, batch.ids + 1)
        np.testing.assert_array_equal(np.diff(batch.ids, axis=1), 1)
    assert max(Counter(seen(batches).tolist()).values()) == 1
    assert seen(batches).max() < n - 1


@given(sizes())
def test_contiguous_batches_go_on_where_the_one_before_ended(size):
    n, batch_size, length = size
    batches = ContiguousBatches(np.arange(n), batch_size, length)
    steps = batches.steps_per_epoch
    for step in range(1, 2 * steps + 1):
        before, batch = batches[step - 1], batches[step]
        assert batch.continues == (step % steps > 0)
        if batch.continues:
            np.testing.assert_array_equal(batch.ids[:, 0], before.targets[:, -1])
    np.testing.assert_array_equal(batches[steps].ids, batches[0].ids)
    assert not batches[0].continues
    assert n - 1 - len(seen(epoch(batches))) < batch_size * length  # as promised: B T at most


@given(sizes(), st.integers(0, 2**32))
def test_shuffled_windows_are_shown_once_an_epoch(size, seed):
    n, batch_size, length = size
    batches = ShuffledWindows(np.arange(n), batch_size, length, seed)
    for number in range(3):
        starts = np.concatenate([batch.ids[:, 0] for batch in epoch(batches, number)])
        assert len(set(starts)) == len(starts)
        assert len(set(starts % length)) == 1  # one grid
        # what is left over does not fill another batch
        assert n - len(starts) * length <= (batch_size + 2) * length
    assert not any(batch.continues for batch in epoch(batches))


@given(sizes(), st.integers(0, 2**32), st.lists(st.integers(0, 40), max_size=8))
def test_the_seed_and_the_step_determine_a_batch(size, seed, order):
    n, batch_size, length = size
    ids = np.random.default_rng(0).integers(9, size=n)
    one, other = (ShuffledWindows(ids, batch_size, length, seed) for _ in range(2))
    sequential = [one[step] for step in range(41)]
    for step in order:
        np.testing.assert_array_equal(other[step].ids, sequential[step].ids)
        np.testing.assert_array_equal(other[step].targets, sequential[step].targets)


def test_epochs_and_seeds_differ():
    one, other = (ShuffledWindows(np.arange(400), 4, 5, seed) for seed in (0, 1))
    orders = [tuple(seen(epoch(b, number))) for b in (one, other) for number in range(3)]
    assert len(set(orders)) == len(orders)
    shifts = {epoch(one, number)[0].ids[0, 0] % 5 for number in range(40)}
    assert shifts == set(range(5))


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(1, 5), st.integers(1, 6))
def test_a_text_must_fill_a_batch(kind, batch_size, length):
    needed = batch_size * length + 1
    assert kind(np.arange(needed), batch_size, length).steps_per_epoch == 1
    with pytest.raises(ValueError, match=f"need {needed} tokens of text, got {needed - 1}: use"):
        kind(np.arange(needed - 1), batch_size, length)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["batch_size", "length"])
@pytest.mark.parametrize("size", [0, -1])
def test_sizes_are_at_least_one(kind, name, size):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {size}"):
        kind(np.arange(50), **{"batch_size": 2, "length": 3, name: size})
