"""Scaled dot-product attention."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import HUGE, assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.source import Source, frozen
from npllm.layers import attention_backward, attention_forward, dropout_forward, softmax_forward

SHAPES = {
    "one head": ((5, 3), (7, 3), (7, 4)),
    "one token": ((1, 3), (1, 3), (1, 2)),
    "one feature": ((5, 1), (7, 1), (7, 1)),
    "batch and heads": ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)),
    "more queries than keys": ((2, 6, 4), (2, 3, 4), (2, 3, 4)),
    "broadcast": ((2, 1, 5, 4), (3, 7, 4), (1, 3, 7, 2)),
    "broadcast values": ((5, 4), (7, 4), (3, 7, 2)),
    "broadcast batch": ((3, 2, 5, 4), (1, 2, 7, 4), (2, 7, 4)),
}
# which of the scores' last axes a mask or a bias has of its own
OWN_AXES = {"keys": 1, "matrix": 2, "every head": 9}

every_shape = pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
seeds = st.integers(0, 99)
lengths = st.integers(1, 5)


def bound(*args, **options):
    """Bind the options; a fourth argument is the bias, and each call draws the same mask."""

    def forward(q, k, v, bias=None):
        rng = np.random.default_rng(5)
        return attention_forward(q, k, v, bias=bias, rng=rng, **options)

    return Bound(forward, attention_backward, args)


def drawn(source, shapes):
    return tuple(source.normal(*shape) for shape in shapes)


def scores_shape(q, k, _):
    return (*np.broadcast_shapes(q[:-2], k[:-2]), q[-2], k[-2])


def with_first_key(mask):
    """Let every query see key 0, so that none is left without."""
    return frozen(mask | (np.arange(mask.shape[-1]) == 0))


@every_shape
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"scale": 0.3}], ids=str)
def test_agrees_with_torch(torch, shapes, options):
    names = {"causal": "is_causal", "scale": "scale"}
    theirs = {names[key]: value for key, value in options.items()}
    reference = torch.nn.functional.scaled_dot_product_attention
    layer = bound(*drawn(Source(), shapes), **options)
    assert_agrees_with_torch(torch, layer, lambda *args: reference(*args, **theirs))


@every_shape
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("mask", "bias"), [pair for pair in product([None, *OWN_AXES], repeat=2) if any(pair)]
)
def test_masks_and_biases_agree_with_torch(torch, shapes, causal, mask, bias):
    source, full = Source(), scores_shape(*shapes)
    args = drawn(source, shapes if bias is None else [*shapes, full[-OWN_AXES[bias] :]])
    seen = None if mask is None else with_first_key(source.mask(*full[-OWN_AXES[mask] :]))

    def reference(q, k, v, bias=None):
        added = torch.zeros(full, dtype=q.dtype) if bias is None else bias.expand(full)
        if seen is not None:
            added = added.masked_fill(~torch.tensor(seen), -math.inf)
        if causal:
            added = added.masked_fill(~torch.ones(full[-2:], dtype=torch.bool).tril(), -math.inf)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=added)

    assert_agrees_with_torch(torch, bound(*args, mask=seen, causal=causal), reference)


@every_shape
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("return_weights", [False, True])
def test_dropout_and_returned_weights_agree_with_torch(torch, shapes, p, return_weights):
    q, k, v = drawn(Source(), shapes)
    ones = np.ones(scores_shape(*shapes))
    kept = torch.tensor(dropout_forward(ones, p=p, rng=np.random.default_rng(5))[0])

    def reference(q, k, v):
        weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
        y = (weights * kept) @ v
        return (y, weights) if return_weights else y

    layer = bound(q, k, v, dropout=p, return_weights=return_weights)
    assert_agrees_with_torch(torch, layer, reference)


@every_shape
@pytest.mark.parametrize("options", [{}, {"scale": 3.0}, {"causal": True}], ids=str)
@pytest.mark.parametrize(("mask", "bias"), list(product([None, "matrix"], [None, *OWN_AXES])))
def test_softcap_agrees_with_torch(torch, shapes, options, mask, bias):
    source, full, cap = Source(), scores_shape(*shapes), 0.8
    args = drawn(source, shapes if bias is None else [*shapes, full[-OWN_AXES[bias] :]])
    seen = None if mask is None else with_first_key(source.mask(*full[-OWN_AXES[mask] :]))

    def reference(q, k, v, bias=None):
        scores = q @ k.mT * options.get("scale", 1 / math.sqrt(q.shape[-1]))
        scores = cap * torch.tanh(scores / cap)
        scores = scores if bias is None else scores + bias
        visible = torch.ones(full[-2:], dtype=torch.bool)
        visible = visible.tril() if options.get("causal") else visible
        visible = visible if seen is None else visible & torch.tensor(seen)
        return torch.softmax(scores.masked_fill(~visible, -math.inf), -1) @ v

    layer = bound(*args, softcap=cap, mask=seen, **options)
    assert_agrees_with_torch(torch, layer, reference)


def test_a_softcap_far_above_the_scores_changes_nothing():
    layers = [bound(*drawn(Source(), SHAPES["one head"]), softcap=cap) for cap in (1e8, None)]
    assert_close(layers[0].run(), layers[1].run())


@given(seed=seeds, tq=lengths, tk=lengths, hidden=st.data(), by_bias=st.booleans())
def test_a_query_that_sees_nothing_gets_zeros(seed, tq, tk, hidden, by_bias):
    blind = hidden.draw(st.sets(st.integers(0, tq - 1)).map(sorted))
    source = Source(seed)
    q, k, v = drawn(source, [(2, tq, 3), (2, tk, 3), (2, tk, 2)])
    seen = np.ones((tq, tk), bool)
    seen[blind] = False
    bias = np.where(seen, 0.0, -np.inf)
    layer = bound(q, k, v, frozen(bias)) if by_bias else bound(q, k, v, mask=frozen(seen))
    y, dy, (dq, dk, dv, *dbias) = layer.run()
    for a in (y, dq, *dbias):
        assert (a[..., blind, :] == 0).all()
    # and for all others it is as if that query were not there
    sighted = np.setdiff1d(np.arange(tq), blind)
    y_rest, cache = attention_forward(q[:, sighted], k, v)
    dq_rest, dk_rest, dv_rest = attention_backward(dy[:, sighted], cache)
    assert_close((y[:, sighted], dq[:, sighted]), (y_rest, dq_rest), floor=1)
    assert_close((dk, dv), (dk_rest, dv_rest), floor=1)


@given(seed=seeds, tq=lengths, tk=lengths, t=st.integers(0, 4))
def test_a_later_token_moves_no_earlier_output(seed, tq, tk, t):
    source = Source(seed)
    q, k, v = drawn(source, [(tq, 3), (tk, 3), (tk, 2)])
    k_other, v_other = np.array(k), np.array(v)
    k_other[t + 1 :], v_other[t + 1 :] = HUGE, -HUGE
    y, cache = attention_forward(q, k, v, causal=True)
    y_other, _ = attention_forward(q, k_other, v_other, causal=True)
    assert_close(y_other[: t + 1], y[: t + 1], tolerance=0)
    # so a loss over the first t + 1 outputs has no gradient beyond
    dy = np.array(source.normal(tq, 2))
    dy[t + 1 :] = 0
    assert all((d[t + 1 :] == 0).all() for d in attention_backward(dy, cache))


@given(seed=seeds, lead=st.lists(st.integers(1, 3), min_size=1, max_size=2), tq=lengths, tk=lengths)
def test_heads_are_independent(seed, lead, tq, tk):
    q, k, v, bias = drawn(Source(seed), [(*lead, tq, 3), (*lead, tk, 3), (*lead, tk, 2), (tq, tk)])
    y, dy, (dq, dk, dv, dbias) = bound(q, k, v, bias).run()
    total = np.zeros_like(bias)
    for head in np.ndindex(*lead):
        y_head, cache = attention_forward(q[head], k[head], v[head], bias=bias)
        *gradients, dbias_head = attention_backward(dy[head], cache)
        assert_close((y[head], dq[head], dk[head], dv[head]), (y_head, *gradients), floor=1)
        total += dbias_head
    assert_close(dbias, total, floor=1)


@given(seed=seeds, tq=lengths, tk=lengths)
def test_the_weights_are_those_of_the_sum(seed, tq, tk):
    q, k, v = drawn(Source(seed), [(tq, 3), (tk, 3), (tk, 2)])
    (y, weights), _ = attention_forward(q, k, v, return_weights=True)
    assert_close(weights, softmax_forward(q @ k.T / math.sqrt(3))[0])
    assert_close(y, weights @ v, floor=1)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3,), (2, 3), (2, 3)), r"got \(3,\), \(2, 3\), \(2, 3\)"),
        (((2, 3), (3,), (2, 3)), r"got \(2, 3\), \(3,\), \(2, 3\)"),
        (((2, 3), (2, 3), (3,)), r"got \(2, 3\), \(2, 3\), \(3,\)"),
        (((2, 3), (2, 4), (2, 3)), r"got \(2, 3\), \(2, 4\), \(2, 3\)"),
        (((2, 3), (4, 3), (5, 3)), r"got \(2, 3\), \(4, 3\), \(5, 3\)"),
        (((2, 2, 3), (3, 2, 3), (2, 3)), r"got \(2, 2, 3\), \(3, 2, 3\), \(2, 3\)"),
        (((2, 2, 3), (2, 3), (3, 2, 3)), r"got \(2, 2, 3\), \(2, 3\), \(3, 2, 3\)"),
        (((2, 3), (2, 2, 3), (3, 2, 3)), r"got \(2, 3\), \(2, 2, 3\), \(3, 2, 3\)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    expected = (
        r"q, k, v must have shapes \(\.\.\., Tq, D\), \(\.\.\., Tk, D\), \(\.\.\., Tk, Dv\), "
    )
    with pytest.raises(ValueError, match=expected + message):
        attention_forward(*map(np.ones, shapes))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": np.ones((2, 4))}, TypeError, r"mask must be boolean .*, got float64"),
        ({"mask": np.ones((3, 4), bool)}, ValueError, r"mask must broadcast to \(2, 4\), got \(3"),
        ({"bias": np.ones((5, 2, 4))}, ValueError, r"bias must broadcast to \(2, 4\), got \(5, 2"),
        ({"softcap": 0.0}, ValueError, r"softcap must be positive and finite, got 0.0"),
        ({"softcap": -2.0}, ValueError, r"softcap must be positive and finite, got -2.0"),
        ({"softcap": math.inf}, ValueError, r"softcap must be positive and finite, got inf"),
        ({"softcap": math.nan}, ValueError, r"softcap must be positive and finite, got nan"),
        ({"dropout": 1.5}, ValueError, r"dropout must lie in \[0, 1\], got 1.5"),
        ({"dropout": 0.5}, ValueError, r"rng must be .*, got None"),
    ],
)
def test_refuses(options, error, message):
    with pytest.raises(error, match=message):
        attention_forward(np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 3)), **options)


def test_a_cotangent_of_another_shape():
    _, cache = attention_forward(np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 5)))
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 5\), got \(4, 5\)"):
        attention_backward(np.ones((4, 5)), cache)
    args = np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 5))
    (y, _), cache = attention_forward(*args, return_weights=True)
    with pytest.raises(ValueError, match=r"dweights must have shape \(2, 4\), got \(4,\)"):
        attention_backward((y, np.ones(4)), cache)


@pytest.mark.parametrize(("tq", "tk"), [(2, 0), (0, 3), (0, 0)])
def test_without_keys_or_queries_there_is_nothing_to_see(tq, tk):
    q, k, v = np.ones((tq, 3)), np.ones((tk, 3)), np.ones((tk, 5))
    y, cache = attention_forward(q, k, v, causal=True)
    assert y.tolist() == np.zeros((tq, 5)).tolist()
    for gradient, x in zip(attention_backward(np.ones((tq, 5)), cache), (q, k, v), strict=True):
        assert gradient.tolist() == np.zeros(x.shape).tolist()


def test_without_features_all_keys_are_alike():
    v = np.array([[1.0], [3.0], [8.0]])
    y, cache = attention_forward(np.ones((2, 0)), np.ones((3, 0)), v)
    assert_close(y, np.full((2, 1), 4.0))
    assert [g.shape for g in attention_backward(y, cache)] == [(2, 0), (3, 0), (3, 1)]


def test_a_numpy_number_among_the_options_keeps_float32():
    args = drawn(Source(dtype=np.float32), SHAPES["one head"])
    layer = bound(*args, scale=np.float64(0.5), softcap=np.float64(2))
    y, _, gradients = layer.run()
    assert {a.dtype for a in (y, *gradients)} == {np.dtype(np.float32)}


@given(
    seed=st.integers(0, 99),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    offset=st.integers(-3, 6),
    window=st.none() | st.integers(1, 5),
    causal=st.booleans(),
)
def test_offset_and_window_are_masks(seed, sizes, offset, window, causal):
    tq, tk = sizes
    source = Source(seed)
    args = source.normal(tq, 3), source.normal(tk, 3), source.normal(tk, 2)
    ahead = np.arange(tk) - (np.arange(tq)[:, None] + offset)
    seen = np.ones((tq, tk), bool)
    if causal:
        seen &= ahead <= 0
    if window is not None:
        seen &= np.abs(ahead) < window
    y, cache = attention_forward(*args, causal=causal, window=window, offset=offset)
    plain, plain_cache = attention_forward(*args, mask=seen)
    assert_close(y, plain, tolerance=0)
    dy = source.normal(tq, 2)
    assert_close(attention_backward(dy, cache), attention_backward(dy, plain_cache), tolerance=0)


def test_a_mask_may_have_the_axes_of_the_values_alone():
    source = Source()
    q, k, v = source.normal(3, 4), source.normal(3, 4), source.normal(5, 3, 2)
    mask = source.mask(5, 3, 3)
    layer = Bound(partial(attention_forward, mask=mask), attention_backward, (q, k, v))
    wide = Bound(
        partial(attention_forward, mask=mask),
        attention_backward,
        (np.broadcast_to(q, (5, 3, 4)), np.broadcast_to(k, (5, 3, 4)), v),
    )
    y, _, (dq, dk, dv) = layer.run()
    y_wide, _, (dq_wide, dk_wide, dv_wide) = wide.run()
    expected = (y_wide, dq_wide.sum(axis=0), dk_wide.sum(axis=0), dv_wide)
    assert_close((y, dq, dk, dv), expected, floor=1)
