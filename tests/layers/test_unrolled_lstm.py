"""The LSTM over a sequence as it is read, and the faster form beside it."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_close

from npllm.evidence import Bound
from npllm.evidence.layers.unrolled_lstm import unrolled_lstm_arguments
from npllm.evidence.source import Source
from npllm.layers import batch_last_lstm as module
from npllm.layers import lstm_cell_forward, one_hot, unrolled_lstm_backward, unrolled_lstm_forward
from npllm.layers.batch_last_lstm import batch_last_lstm_backward, batch_last_lstm_forward

FORMS = (
    (unrolled_lstm_forward, unrolled_lstm_backward),
    (batch_last_lstm_forward, batch_last_lstm_backward),
)
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def drawn(source, steps, batch, width, hidden, *, bias=True, projected=0):
    """Return x, h0, c0 and the weights by name."""
    shown = projected or hidden
    shapes = [(4 * hidden, width), (4 * hidden, shown), *[(4 * hidden,)] * 2, (shown, hidden)]
    keep = [True, True, bias, bias, projected > 0]
    weights = {
        name: source.normal(*shape)
        for name, shape, kept in zip(NAMES, shapes, keep, strict=True)
        if kept
    }
    states = source.normal(batch, shown), source.normal(batch, hidden)
    return source.normal(steps, batch, width), *states, weights


def runs(args, weights, **options):
    """Return what the plain and the fast form make of the same arguments."""
    names = list(weights)

    def bound(forward, backward):
        def run(x, h0, c0, *values):
            return forward(x, h0, c0, **dict(zip(names, values, strict=True)), **options)

        return Bound(run, backward, (*args, *weights.values())).run()

    return (
        bound(unrolled_lstm_forward, unrolled_lstm_backward),
        bound(batch_last_lstm_forward, batch_last_lstm_backward),
    )


@given(
    seed=st.integers(0, 99),
    steps=st.integers(0, 5),
    batch=st.integers(0, 3),
    width=st.integers(1, 3),
    hidden=st.integers(1, 4),
    bias=st.booleans(),
    projected=st.integers(0, 3),
    padded=st.booleans(),
    piece=st.sampled_from([1, 40, 2**18]),
)
def test_the_fast_form_is_the_plain_one(
    seed, steps, batch, width, hidden, bias, projected, padded, piece
):
    source = Source(seed)
    *args, weights = drawn(source, steps, batch, width, hidden, bias=bias, projected=projected)
    lengths = source.ids(steps + 1, (batch,)) if padded else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        plain, fast = runs(args, weights, lengths=lengths)
    assert_close(fast, plain, floor=1)


def test_a_step_in_blocks_is_the_plain_one(monkeypatch):
    *args, weights = drawn(Source(), 3, 2, 5, 32)
    whole = runs(args, weights)
    monkeypatch.setattr(module, "PRODUCT", 2000)
    assert len(module.in_blocks(weights["weight_hh"], 2)) == 8
    assert len(module.in_blocks(weights["weight_hh"].T, 2)) == 1  # 32 rows are 2 blocks at most
    monkeypatch.setattr(module, "PRODUCT", 4096)
    assert len(module.in_blocks(weights["weight_hh"].T, 2)) == 2
    assert_close(runs(args, weights), whole, floor=1)


@pytest.mark.parametrize(
    ("rows", "depth", "columns", "blocks"),
    [
        (1000, 100, 10, 1),  # 10^6 multiplications are one block
        (1000, 100, 11, 2),
        (1024, 257, 32, 16),  # 9 at least, and as many as divide the rows
        (1000, 512, 20, 20),  # 11 at least
        (1000, 513, 20, 1),  # too deep
        (404, 500, 20, 1),  # 5 at least, and 101 are too small
        (32, 512, 100, 2),
        (31, 512, 100, 1),
        (24, 512, 100, 1),  # two blocks would have 12 rows
        (0, 5, 3, 1),
        (8, 5, 0, 1),
    ],
)
def test_into_how_many_blocks_a_product_is_cut(rows, depth, columns, blocks):
    weight = np.arange(float(rows * depth)).reshape(rows, depth)
    cut = module.in_blocks(weight, columns)
    assert cut.shape == (blocks, rows // blocks, depth)
    assert np.shares_memory(cut, weight) == (weight.size > 0)
    assert np.array_equal(cut.reshape(rows, depth), weight)


@pytest.mark.parametrize(("piece", "lengths"), [(72, [2, 3]), (1, [1] * 5)])
def test_the_backward_takes_some_steps_at_a_time(piece, lengths, monkeypatch):
    taken, slopes = [], module._slopes

    def seen(cache, piece):
        taken.append(piece.stop - piece.start)
        return slopes(cache, piece)

    monkeypatch.setattr(module, "_slopes", seen)
    monkeypatch.setattr(module, "PIECE", piece)  # of 24 numbers a step
    *args, weights = drawn(Source(), 5, 2, 3, 3)
    runs(args, weights)
    assert sorted(taken) == lengths


@pytest.mark.parametrize("projected", [0, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_kept_has_the_dtype_of_what_is_given(projected, dtype, monkeypatch):
    x, h0, c0, weights = drawn(Source(), 5, 2, 3, 4, projected=projected)
    cast, cut = (lambda a: a.astype(dtype)), []
    monkeypatch.setattr(
        module, "in_blocks", lambda weight, n: cut.append(weight.dtype) or weight[None]
    )
    ids = np.zeros(x.shape[:2], int)
    for seen in (cast(x), ids):
        states, own = (cast(h0), cast(c0)), {name: cast(w) for name, w in weights.items()}
        (y, final), cache = batch_last_lstm_forward(seen, *states, **own)
        assert module._rows(cache, slice(1, 3)).dtype == dtype
        assert (cache.unprojected is None) == (not projected)
        batch_last_lstm_backward((y, final), cache)
    assert cut == [dtype] * 4


def test_a_slip_in_the_fast_form_would_show():
    *args, weights = drawn(Source(), 4, 2, 3, 3)
    plain, fast = runs(args, weights)
    weights["weight_hh"] = 1.001 * weights["weight_hh"]
    _, other = runs(args, weights)
    assert_close(fast, plain, floor=1)
    with pytest.raises(AssertionError, match="off by"):
        assert_close(other, plain, floor=1)


@given(
    seed=st.integers(0, 99),
    steps=st.integers(0, 4),
    batch=st.integers(0, 3),
    bias=st.booleans(),
    padded=st.booleans(),
)
def test_ids_stand_for_what_is_one_hot(seed, steps, batch, bias, padded):
    source = Source(seed)
    _, h0, c0, weights = drawn(source, steps, batch, 5, 3, bias=bias)
    ids = source.ids(5, (steps, batch))
    lengths = source.ids(steps + 1, (batch,)) if padded else None
    results = []
    for x in (one_hot(ids, 5), ids):
        (y, final), cache = batch_last_lstm_forward(x, h0, c0, **weights, lengths=lengths)
        dy = (Source(seed + 1).like(y), Source(seed + 2).like(final))
        dx, *others = batch_last_lstm_backward(dy, cache)
        results.append((y, final, others))
    assert dx is None
    assert_close(results[1], results[0], floor=1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("peepholes", [True, False])
def test_one_step_is_the_cell(bias, peepholes):
    source = Source()
    x, h, c = source.normal(2, 3), source.normal(2, 4), source.normal(2, 4)
    weights = {"weight_ih": source.normal(16, 3), "weight_hh": source.normal(16, 4)}
    if bias:
        weights |= {"bias_ih": source.normal(16), "bias_hh": source.normal(16)}
    if peepholes:
        weights["weight_ch"] = source.normal(12)
    (h_next, c_next), _ = lstm_cell_forward(x, h, c, **weights)
    (y, final), _ = unrolled_lstm_forward(x[None], h, c, **weights)
    assert_close((y[0], final), (h_next, (h_next, c_next)), tolerance=0)


def test_beyond_its_length_a_sequence_stands_still():
    *args, weights = drawn(Source(), 5, 3, 2, 4)
    lengths = np.array([5, 2, 0])
    (y, (h, c)), _ = unrolled_lstm_forward(*args, **weights, lengths=lengths)
    x, h0, c0 = args
    (short, (h_2, c_2)), _ = unrolled_lstm_forward(x[:2], h0, c0, **weights)
    assert_close((y[:2, 1], h[1], c[1]), (short[:, 1], h_2[1], c_2[1]), tolerance=0)
    assert not y[2:, 1].any()
    assert not y[:, 2].any()
    assert_close((h[2], c[2]), (h0[2], c0[2]), tolerance=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradients_are_of_the_layers_dtype(dtype):
    *args, weights = drawn(Source(), 5, 2, 3, 4)
    args, weights = (
        [a.astype(dtype) for a in args],
        {n: w.astype(dtype) for n, w in weights.items()},
    )
    for forward, backward in FORMS:
        (y, (h, c)), cache = forward(*args, **weights)
        for dy in ((y, None), (y, (h, c))):
            gradients = backward(dy, cache)
            assert {gradient.dtype for gradient in gradients} == {np.dtype(dtype)}
        for name, dy in {
            "dy": (y + 1j, (h, c)),
            "dh_n": (y, (h + 1j, c)),
            "dc_n": (y, (h, c + 1j)),
        }.items():
            with pytest.raises(TypeError, match=f"^{name} must be {np.dtype(dtype)} as the result"):
                backward(dy, cache)


def test_lengths_that_change_afterwards_change_nothing():
    *args, weights = drawn(Source(), 5, 2, 3, 4)
    for forward, backward in FORMS:
        lengths = np.array([3, 1])
        (y, _), cache = forward(*args, **weights, lengths=lengths)
        before = backward((np.ones_like(y), None), cache)
        lengths[:] = 5
        assert_close(backward((np.ones_like(y), None), cache), before, tolerance=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones((4, 3))}, ValueError, "x must have shape (T, B, I), got (4, 3)"),
        ({"h0": np.ones((2, 5))}, ValueError, "weight_hh must have shape (16, 5), got (16, 4)"),
        ({"h0": np.ones(4)}, ValueError, "h0 must have shape (2, 4), got (4,)"),
        ({"c0": np.ones((2, 5))}, ValueError, "c must have shape (2, 4), got (2, 5)"),
        ({"lengths": [1, 6]}, ValueError, "lengths must lie in [0, 6), got 6"),
        ({"lengths": [1]}, ValueError, "lengths must have shape (2,), got (1,)"),
        ({"lengths": [1.0, 2.0]}, TypeError, "lengths must be integers, got float64"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    x, h0, c0, weights = drawn(Source(), 5, 2, 3, 4)
    with pytest.raises(error, match=re.escape(message)):
        unrolled_lstm_forward(**{"x": x, "h0": h0, "c0": c0, **weights, **change})


@pytest.mark.parametrize("backward", [unrolled_lstm_backward, batch_last_lstm_backward])
def test_cotangents_of_another_shape(backward):
    x, h0, c0, weights = drawn(Source(), 5, 2, 3, 4)
    forward = unrolled_lstm_forward
    if backward is batch_last_lstm_backward:
        forward = batch_last_lstm_forward
    (y, final), cache = forward(x, h0, c0, **weights)
    for dy, name in [
        ((y[1:], final), "dy must have shape (5, 2, 4), got (4, 2, 4)"),
        ((y, (h0[1:], c0)), "dh_n must have shape (2, 4), got (1, 4)"),
        ((y, (h0, c0[1:])), "dc_n must have shape (2, 4), got (1, 4)"),
    ]:
        with pytest.raises(ValueError, match=re.escape(name)):
            backward(dy, cache)


def test_an_unseen_final_state_has_no_gradient():
    layer = unrolled_lstm_arguments(Source(), (2,), 3, 4, full=True)
    (y, final), cache = layer.forward(*layer.args)
    dy = Source(1).like(y)
    zeros = tuple(map(np.zeros_like, final))
    expected = layer.backward((dy, zeros), cache)
    assert_close(layer.backward((dy, None), cache), expected, tolerance=0)
