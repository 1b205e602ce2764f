"""Tiled attention equals the plain one, for every mask, and holds no weights."""

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_close

from npllm.evidence.source import Source
from npllm.layers import (
    attention_backward,
    attention_forward,
    tiled_attention_backward,
    tiled_attention_forward,
)
from npllm.layers import tiled_attention as module
from npllm.layers.attention import Sight, attention_cache
from npllm.layers.tiled_attention import _apart, _own, _tiles
from npllm.threads import blas_held


def configuration(seed):
    """Return random arguments and options of attention."""
    rng, source = np.random.default_rng(seed), Source(seed)
    d, dv, tq, tk = (int(n) for n in rng.integers(1, 9, size=4))
    b, h, g = (int(n) for n in rng.integers(1, 4, size=3))
    lead = [(b, h, 1), (h, 1), (1,), ()][rng.integers(4)]
    args = [
        source.normal(b, h, g, tq, d),
        source.normal(*lead, tk, d),
        source.normal(*lead, tk, dv),
    ]
    options = {}
    shapes = [(tq, tk), (b, 1, 1, tq, tk), (h, 1, 1, tk), (g, tq, 1), (tk,), ()]
    if rng.random() < 0.5:
        options["causal"] = True
    if rng.random() < 0.4:
        options["window"] = int(rng.integers(1, 6))
    if rng.random() < 0.3:
        options["offset"] = int(rng.integers(-3, 6))
    if rng.random() < 0.3:
        options["softcap"] = 0.7
    if rng.random() < 0.3:
        options["scale"] = 0.3
    if rng.random() < 0.5:
        options["mask"] = source.mask(*shapes[rng.integers(len(shapes))])
    if rng.random() < 0.5:
        args.append(source.normal(*shapes[rng.integers(len(shapes))]))
    return args, options, int(rng.integers(1, 40))


@pytest.mark.parametrize("first", range(0, 500, 10))
def test_it_is_the_plain_one(first):
    for seed in range(first, first + 10):
        (q, k, v, *bias), options, scores = configuration(seed)
        options["bias"] = bias[0] if bias else None
        y, cache = attention_forward(q, k, v, **options)
        dy = Source(seed + 1).normal(*y.shape)
        tiled, tiled_cache = tiled_attention_forward(q, k, v, scores=scores, **options)
        assert_close(tiled, y, floor=1)
        plain = attention_backward(dy, cache)
        assert_close(tiled_attention_backward(dy, tiled_cache), plain, floor=1)


@given(seed=st.integers(0, 999), scores=st.integers(1, 60))
def test_the_size_of_a_tile_is_irrelevant(seed, scores):
    (q, k, v, *_), options, _ = configuration(seed)
    one, _ = tiled_attention_forward(q, k, v, scores=scores, **options)
    assert_close(one, tiled_attention_forward(q, k, v, scores=999, **options)[0], floor=1)


def peak(steps):
    """Return the most memory that a causal forward and backward hold, in bytes."""
    x = Source(0, np.float32).normal(1, steps, 8)
    tracemalloc.start()
    y, cache = tiled_attention_forward(x, x, x, causal=True, scores=2**14)
    tiled_attention_backward(y, cache)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_is_linear_in_the_steps():
    # the weights alone would take 4 T^2 bytes: 67 MB for the longer
    short, long = peak(1024), peak(4096)
    assert long < 4.5 * short
    assert long < 4_000_000


def test_what_does_not_fit_is_refused():
    x = np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match="q, k, v must have shapes"):
        tiled_attention_forward(x, x[..., :2], x)
    with pytest.raises(ValueError, match=r"bias must broadcast to \(2, 3, 3\), got \(2, 2\)"):
        tiled_attention_forward(x, x, x, bias=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"mask must broadcast to \(2, 3, 3\), got \(2, 2\)"):
        tiled_attention_forward(x, x, x, mask=np.ones((2, 2), bool))
    with pytest.raises(TypeError, match="mask must be boolean"):
        tiled_attention_forward(x, x, x, mask=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="scores must be at least 1, got 0"):
        tiled_attention_forward(x, x, x, scores=0)
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        tiled_attention_forward(x, x, x, window=0)
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3, 4\)"):
        tiled_attention_backward(x[0], tiled_attention_forward(x, x, x)[1])


def test_no_query_and_no_key_are_no_error():
    y, cache = tiled_attention_forward(np.zeros((2, 0, 3)), np.zeros((2, 4, 3)), np.ones((2, 4, 1)))
    assert y.shape == (2, 0, 1)
    assert [g.shape for g in tiled_attention_backward(y, cache)] == [
        (2, 0, 3),
        (2, 4, 3),
        (2, 4, 1),
    ]
    y, _ = tiled_attention_forward(np.zeros((2, 3)), np.zeros((0, 3)), np.ones((0, 1)))
    assert y.tolist() == [[0], [0]]


def test_one_key_that_a_window_hides_stays_hidden():
    x = np.ones((1, 2))
    for offset in range(-3, 4):
        for causal in (False, True):
            options = {"window": 2, "offset": offset, "causal": causal}
            y, _ = attention_forward(x, x, x, **options)
            tiled, cache = tiled_attention_forward(x, x, x, **options)
            assert_close(tiled, y, tolerance=0)
            seen = abs(offset) < 2 and not (causal and offset < 0)
            assert tiled.any() == seen
            assert tiled_attention_backward(x, cache)[2].any() == seen


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(2, 6)] * 3),
        ({"causal": True}, [(2, 2), (2, 4), (2, 6)]),
        ({"causal": True, "offset": -1}, [(2, 1), (2, 3), (2, 5)]),
        ({"window": 1}, [(2, 2)] * 3),
        ({"window": 2}, [(2, 3), (2, 4), (2, 3)]),
        ({"window": 2, "causal": True}, [(2, 2), (2, 3), (2, 3)]),
        ({"window": 2, "offset": 9}, [(2, 0)] * 3),
    ],
)
def test_a_tile_has_the_keys_that_its_queries_may_see_and_no_others(monkeypatch, options, expected):
    module, seen = sys.modules["npllm.layers.tiled_attention"], []

    def noted(q, k, *others):
        seen.append((len(q), len(k)))
        return attention_cache(q, k, *others)

    monkeypatch.setattr(module, "attention_cache", noted)
    x = np.ones((6, 2))
    y, cache = tiled_attention_forward(x, x, x, scores=12, **options)
    assert seen == expected
    tiled_attention_backward(y, cache)
    assert seen == 2 * expected


@pytest.mark.parametrize(
    ("tq", "tk", "scores", "expected"),
    [
        (5, 4, 3, [1, 1, 1, 1, 1]),
        (5, 4, 8, [2, 2, 1]),
        (5, 1, 4, [4, 1]),
        (5, 0, 4, [4, 1]),
        (0, 3, 4, []),
    ],
)
def test_a_tile_has_as_many_queries_as_scores_may_be_held(tq, tk, scores, expected):
    tiles = _tiles((2,), tq, tk, Sight(), scores)
    assert [index for index, _, _ in tiles] == len(expected) * [(0,)] + len(expected) * [(1,)]
    assert [rows.stop - rows.start for _, rows, _ in tiles] == 2 * expected


@pytest.mark.parametrize(("cores", "expected"), [(1, 8), (2, 4), (3, 4)])
def test_a_tile_is_larger_where_threads_share_them(cores, expected, monkeypatch):
    monkeypatch.setattr(module, "SCORES", 1)
    monkeypatch.setattr(module, "QUERIES", 1)  # to each core
    x = Source().normal(8, 3)
    with blas_held(cores):
        _, cache = tiled_attention_forward(x, x, x)
    assert len(cache.tiles) == expected


@pytest.mark.parametrize("window", [None, 1, 16, 128, 2000])
@pytest.mark.parametrize("causal", [False, True])
def test_no_tile_holds_more_scores_than_it_may(window, causal):
    tiles = _tiles((), 4096, 4096, Sight(causal=causal, window=window), 2**16)
    largest = max((r.stop - r.start) * (k.stop - k.start) for _, r, k in tiles)
    assert largest <= 2**16
    assert largest > 2**14  # and not much less
    assert sum(r.stop - r.start for _, r, _ in tiles) == 4096


@pytest.mark.parametrize(
    ("q", "k", "v"),
    [
        ((4, 4), (4, 1), (4, 1)),
        ((4, 4), (4, 4), (4, 4)),
        ((), (16,), (16,)),
        ((4, 4), (4, 1), (1, 4)),
        ((4, 4), (), (4, 4)),
    ],
    ids=str,
)
def test_what_heads_share_adds_up_on_any_number_of_cores(q, k, v):
    source = Source()
    args = [source.normal(*lead, 64, 8) for lead in (q, k, v)]
    y, cache = tiled_attention_forward(*args, causal=True, scores=512)
    dy = Source(1).like(y)
    expected = tiled_attention_backward(dy, cache)
    with blas_held(4):
        for _ in range(8):
            again, cache = tiled_attention_forward(*args, causal=True, scores=512)
            assert_close(again, y, tolerance=0)
            assert_close(tiled_attention_backward(dy, cache), expected, tolerance=0)


@pytest.mark.parametrize(
    ("q", "k", "v", "bias", "expected"),
    [
        ((2, 3), (2, 3), (2, 3), False, 6),
        ((2, 3), (2, 1), (2, 1), False, 2),
        ((2, 3), (3,), (3,), False, 3),
        ((2, 3), (2, 1), (2, 3), False, 1),
        ((1, 3), (2, 3), (2, 3), False, 1),
        ((2, 3), (2, 3), (2, 3), True, 1),
        ((3,), (3,), (3,), False, 3),
        ((), (), (), False, 1),
    ],
    ids=str,
)
def test_what_runs_side_by_side_adds_to_different_heads(q, k, v, bias, expected):
    source = Source()
    args = [source.normal(*lead, 4, 2) for lead in (q, k, v)]
    options = {"bias": source.normal(4, 4)} if bias else {}
    _, cache = tiled_attention_forward(*args, scores=8, **options)
    groups = _apart(cache)
    assert len(groups) == expected
    assert sorted(tile.lead for group in groups for tile in group) == sorted(
        tile.lead for tile in cache.tiles
    )
    for array in args:
        owned = [{_own(array, tile.lead) for tile in group} for group in groups]
        assert len(set().union(*owned)) == sum(map(len, owned))  # no head is in two groups
