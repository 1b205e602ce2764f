"""Keys and values that grow in place: every pair stays what it was."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_close

from npllm.evidence.source import Source
from npllm.layers import multi_head_attention_forward
from npllm.layers.attention import Sight
from npllm.layers.growing import GrowingPair


def drawn(source, steps):
    return source.normal(2, 3, steps, 4), source.normal(2, 3, steps, 5)


@given(
    seed=st.integers(0, 99),
    moves=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), max_size=20),
)
def test_every_pair_stays_what_it_was(seed, moves):
    source = Source(seed)
    start = drawn(source, 2)
    pairs, expected = [GrowingPair.of(*start)], [start]
    for origin, steps in moves:  # go on from any pair that there is
        origin %= len(pairs)
        new = drawn(source, steps)
        pairs.append(pairs[origin].extended(*new))
        both = zip(expected[origin], new, strict=True)
        expected.append(tuple(np.concatenate(arrays, axis=2) for arrays in both))
    for pair, (keys, values) in zip(pairs, expected, strict=True):
        assert_close(tuple(pair), (keys, values), tolerance=0)


def test_the_newest_grows_in_place_and_an_older_one_does_not():
    source = Source()
    pair = GrowingPair.of(*drawn(source, 5)).extended(*drawn(source, 1))
    newest = pair
    for _ in range(4):
        newest = newest.extended(*drawn(source, 1))
        assert np.shares_memory(newest[0], pair[0])
    assert not np.shares_memory(pair.extended(*drawn(source, 1))[0], pair[0])
    # as seldom copied as the size doubles
    buffers = [newest._buffers[0]]
    for _ in range(1000):
        newest = newest.extended(*drawn(source, 1))
        if newest._buffers[0] is not buffers[-1]:
            buffers.append(newest._buffers[0])
    assert len(buffers) < 12


def test_one_of_many_threads_has_what_is_behind():
    source = Source()
    pair = GrowingPair.of(*drawn(source, 4)).extended(*drawn(source, 1))
    news = [drawn(source, 1) for _ in range(8)]
    together, found = threading.Barrier(8), [None] * 8

    def extend(n):
        together.wait(60)
        found[n] = pair.extended(*news[n])

    threads = [threading.Thread(target=extend, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for extended, (keys, _) in zip(found, news, strict=True):
        assert_close(extended[0][:, :, 5:], keys, tolerance=0)
    assert sum(np.shares_memory(extended[0], pair[0]) for extended in found) == 1


def test_what_does_not_fit_behind_is_refused():
    pair = GrowingPair.of(*drawn(Source(), 4)).extended(*drawn(Source(1), 1))
    keys, values = drawn(Source(2), 1)
    with pytest.raises(ValueError, match=r"keys must have shape \(2, 3, 1, 4\), got \(1"):
        pair.extended(keys[:1], values)
    with pytest.raises(ValueError, match=r"values must have shape \(2, 3, 1, 5\), got"):
        pair.extended(keys, values[:, :1])
    assert_close(pair.extended(keys, values)[0][:, :, 5:], keys, tolerance=0)


def test_room_is_made_for_as_many_again():
    pair = GrowingPair.of(*drawn(Source(), 5)).extended(*drawn(Source(1), 1))
    assert [buffer.shape[2] for buffer in pair._buffers] == [10, 10]
    pair = pair.extended(*drawn(Source(2), 90))
    assert [buffer.shape[2] for buffer in pair._buffers] == [96, 96]


def test_narrow_ones_behind_wide_ones_narrow_nothing():
    wide = GrowingPair.of(*drawn(Source(), 3))
    extended = wide.extended(*(a.astype(np.float32) for a in drawn(Source(1), 1)))
    assert [a.dtype for a in extended] == [np.float64, np.float64]
    assert_close(extended[0][:, :, :3], wide[0], tolerance=0)
    assert_close(extended[1][:, :, :3], wide[1], tolerance=0)


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_no_digit_is_lost_to_another_dtype(dtype):
    narrow = (a.astype(np.float32) for a in drawn(Source(), 3))
    pair = GrowingPair.of(*narrow).extended(*(a.astype(np.float32) for a in drawn(Source(1), 1)))
    keys, values = (a.astype(dtype) * dtype(1 + 1e-3) for a in drawn(Source(2), 1))
    extended = pair.extended(keys, values)
    assert_close(extended[0][:, :, 4:], keys.astype(extended[0].dtype), tolerance=0)
    assert extended[0].dtype == np.result_type(np.float32, dtype)


def test_copies_are_pairs_of_their_own():
    pair = GrowingPair.of(*drawn(Source(), 4)).extended(*drawn(Source(1), 1))
    for other in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        assert_close(tuple(other), tuple(pair), tolerance=0)
        assert_close(other.extended(*drawn(Source(2), 1))[0][:, :, :5], pair[0], tolerance=0)
        assert not np.shares_memory(other[0], pair[0])


def test_attention_over_it_is_that_over_arrays():
    source = Source()
    q, k, v = (source.normal(2, 3, 8) for _ in range(3))
    past = (source.normal(2, 2, 5, 4), source.normal(2, 2, 5, 4))
    sight = Sight(causal=True)
    (y, kept), _ = multi_head_attention_forward(q, k, v, 2, past=past, sight=sight)
    growing = GrowingPair.of(*(np.array(a) for a in past))
    (same, grown), _ = multi_head_attention_forward(q, k, v, 2, past=growing, sight=sight)
    assert isinstance(grown, GrowingPair)
    assert_close((same, tuple(grown)), (y, kept), tolerance=0)
