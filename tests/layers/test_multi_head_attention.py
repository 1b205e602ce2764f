"""Multi-head attention: torch's, shared heads, positions, what is kept for the next step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.source import Source
from npllm.layers import (
    attention_backward,
    attention_forward,
    multi_head_attention_backward,
    multi_head_attention_forward,
    rotary_backward,
    rotary_forward,
    rotary_table,
)
from npllm.layers.arrays import unbroadcast
from npllm.layers.attention import Sight
from npllm.layers.multi_head_attention import Rotary, multi_head_attention_weights


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_agrees_with_torch(torch, heads, kv_heads, tiled, causal):
    source = Source()
    args = (
        source.normal(2, 5, heads * 3),
        source.normal(2, 5, kv_heads * 3),
        source.normal(2, 5, kv_heads * 3),
    )

    def forward(q, k, v):
        (y, _), cache = multi_head_attention_forward(
            q, k, v, heads, kv_heads=kv_heads, sight=Sight(causal=causal), tiled=tiled
        )
        return y, cache

    layer = Bound(forward, lambda dy, c: multi_head_attention_backward((dy, None), c), args)

    def reference(q, k, v):
        q, k, v = (x.unflatten(-1, (-1, 3)).transpose(1, 2) for x in (q, k, v))
        y = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=causal, enable_gqa=True
        )
        return y.transpose(1, 2).flatten(2)

    assert_agrees_with_torch(torch, layer, reference)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("options", [{"scale": 0.7}, {"softcap": 0.8}])
def test_each_head_has_the_options_of_attention(tiled, options):
    x = Source().normal(2, 5, 6)
    (y, _), cache = multi_head_attention_forward(x, x, x, 2, tiled=tiled, **options)
    dx = sum(multi_head_attention_backward((x, None), cache))
    for head in (slice(0, 3), slice(3, 6)):
        h = x[..., head]
        y_head, cache_head = attention_forward(h, h, h, **options)
        assert_close(y[..., head], y_head)
        assert_close(dx[..., head], sum(attention_backward(h, cache_head)))
        plain, _ = attention_forward(h, h, h)
        assert np.abs(plain - y_head).max() > 1e-3


def test_cross_attention_agrees_with_torch(torch):
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True, dtype=torch.float64)
    source = Source()
    x, memory = source.normal(2, 3, 8), source.normal(2, 5, 8)
    w_q, w_k, w_v = (w.detach().numpy() for w in module.in_proj_weight.chunk(3))
    (y, _), _ = multi_head_attention_forward(x @ w_q.T, memory @ w_k.T, memory @ w_v.T, 2)
    expected, _ = module(*(torch.tensor(a) for a in (x, memory, memory)), need_weights=False)
    assert_close(y @ module.out_proj.weight.detach().numpy().T, expected.detach().numpy())


@given(
    seed=st.integers(0, 99),
    cut=st.integers(1, 5),
    window=st.none() | st.integers(1, 4),
    tiled=st.booleans(),
)
def test_step_by_step_is_the_whole(seed, cut, window, tiled):
    source, heads, kv_heads = Source(seed), 4, 2
    q, k, v = source.normal(2, 6, 16), source.normal(2, 6, 8), source.normal(2, 6, 8)
    sight = Sight(causal=True, window=window)
    options = {"kv_heads": kv_heads, "sight": sight, "tiled": tiled}

    def run(piece, past):
        table = Rotary(*rotary_table(np.arange(6)[piece], 4), interleaved=True)
        (y, kept), _ = multi_head_attention_forward(
            *(a[:, piece] for a in (q, k, v)), heads, rotary=table, past=past, **options
        )
        return y, kept

    whole, kept = run(slice(0, 6), None)
    first, past = run(slice(0, cut), None)
    second, after = run(slice(cut, 6), past)
    assert_close(np.concatenate([first, second], axis=1), whole, floor=1)
    assert_close(after, kept, tolerance=0)
    # a later token moves nothing before it
    moved = v.copy()
    moved[:, cut:] += 1
    (y, _), _ = multi_head_attention_forward(q, k, moved, heads, **options)
    (plain, _), _ = multi_head_attention_forward(q, k, v, heads, **options)
    assert_close(y[:, :cut], plain[:, :cut], tolerance=0)


@pytest.mark.parametrize(
    ("shapes", "heads", "kv_heads", "message"),
    [
        (((1, 2, 6),) * 3, 4, None, r"q must have shape \(B, T, 4 D\), got \(1, 2, 6\)"),
        (((2, 6),) * 3, 2, None, r"q must have shape \(B, T, 2 D\)"),
        (((1, 2, 6),) * 3, 2, 4, "kv_heads must divide heads, 2, got 4"),
        (((1, 2, 6),) * 3, 2, 0, "kv_heads must divide heads, 2, got 0"),
        (((1, 2, 6), (1, 2, 5), (1, 2, 6)), 2, None, r"k must have shape \(B, T, 2 D\)"),
        (((1, 2, 6), (1, 2, 6), (1, 2, 5)), 2, None, r"v must have shape \(B, T, 2 D\)"),
        (((1, 2, 6), (1, 2, 4), (1, 2, 4)), 2, None, "q, k, v must have shapes"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, heads, kv_heads, message):
    with pytest.raises(ValueError, match=message):
        multi_head_attention_forward(
            *(np.zeros(shape) for shape in shapes), heads, kv_heads=kv_heads
        )


@pytest.mark.parametrize("interleaved", [False, True])
def test_every_head_turns_by_its_tokens_position(interleaved):
    source = Source()
    q, k, v, dy = (source.normal(2, 5, n * 4) for n in (4, 2, 2, 4))
    cos, sin = rotary_table(np.arange(5), 4)
    table = Rotary(cos, sin, interleaved)
    (y, (keys, _)), cache = multi_head_attention_forward(q, k, v, 4, kv_heads=2, rotary=table)
    turned, caches = [], []
    for x, heads in ((q, 4), (k, 2)):
        own, own_cache = rotary_forward(
            x.reshape(2, 5, heads, 4).swapaxes(1, 2), cos, sin, interleaved=interleaved
        )
        turned.append(own.swapaxes(1, 2).reshape(x.shape))
        caches.append(own_cache)
    (expected, (kept, _)), plain_cache = multi_head_attention_forward(*turned, v, 4, kv_heads=2)
    assert_close(y, expected)
    assert_close(keys, kept)
    got = multi_head_attention_backward((dy, None), cache)
    dturned = multi_head_attention_backward((dy, None), plain_cache)
    assert_close(got[2], dturned[2])
    for gradient, d, own_cache in zip(got[:2], dturned[:2], caches, strict=True):
        dx = rotary_backward(d.reshape(2, 5, -1, 4).swapaxes(1, 2), own_cache)
        assert_close(gradient, dx.swapaxes(1, 2).reshape(gradient.shape))
    assert not np.allclose(y, multi_head_attention_forward(q, k, v, 4, kv_heads=2)[0][0])


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(
    "shape", ["", "s", "ts", "1ts", "nts", "n1s", "111s", "b1ts", "1nts", "bnts"]
)
def test_what_is_added_to_the_scores_or_hides_them_is_each_heads_own(shape, tiled):
    sizes = {"b": 3, "n": 6, "t": 5, "s": 4, "1": 1}
    shape, source = tuple(sizes[axis] for axis in shape), Source()
    q, k, v = source.normal(3, 5, 12), source.normal(3, 4, 4), source.normal(3, 4, 4)
    mask, bias = source.mask(*shape), source.normal(*shape)
    (y, _), cache = multi_head_attention_forward(
        q, k, v, 6, kv_heads=2, sight=Sight(mask), bias=bias, tiled=tiled
    )
    *_, dbias = multi_head_attention_backward((np.ones_like(y), None), cache)
    assert dbias.shape == shape
    expected = np.zeros((3, 6, 5, 4))  # the gradient of the bias, before it was broadcast
    full_mask, full_bias = (np.broadcast_to(a, expected.shape) for a in (mask, bias))
    for b in range(3):
        for n in range(6):
            own, shared = slice(2 * n, 2 * n + 2), slice(2 * (n // 3), 2 * (n // 3) + 2)
            head, head_cache = attention_forward(
                q[b, :, own],
                k[b, :, shared],
                v[b, :, shared],
                mask=full_mask[b, n],
                bias=full_bias[b, n],
            )
            assert_close(y[b, :, own], head, floor=1)
            expected[b, n] = attention_backward(np.ones_like(head), head_cache)[3]
    assert_close(dbias, unbroadcast(expected, shape), floor=1)


def test_the_offset_is_that_of_the_past():
    x = np.zeros((1, 2, 4))
    with pytest.raises(
        ValueError, match=r"^the offset follows from the past, and must be 0, got 3$"
    ):
        multi_head_attention_forward(x, x, x, 2, sight=Sight(causal=True, offset=3))


def test_a_tile_has_no_dropout():
    x = np.zeros((1, 2, 4))
    with pytest.raises(ValueError, match=r"tiled attention has no dropout, got 0\.5"):
        multi_head_attention_forward(x, x, x, 2, dropout=0.5, tiled=True)
    (_, cache) = multi_head_attention_forward(x, x, x, 2)
    with pytest.raises(ValueError, match=r"dy must have shape \(1, 2, 4\), got \(1, 2, 3\)"):
        multi_head_attention_backward((x[..., :3], None), cache)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2)])
def test_the_weights_that_were_kept_make_the_output(heads, kv_heads):
    source = Source()
    q, k, v = (source.normal(2, 5, n * 3) for n in (heads, kv_heads, kv_heads))
    (y, _), cache = multi_head_attention_forward(
        q, k, v, heads, kv_heads=kv_heads, sight=Sight(causal=True, window=2)
    )
    weights = multi_head_attention_weights(cache)
    assert weights.shape == (2, heads, 5, 5)
    assert_close(weights.sum(axis=-1), np.ones((2, heads, 5)))
    group = heads // kv_heads
    for n in range(heads):
        own, shared = slice(3 * n, 3 * n + 3), slice(3 * (n // group), 3 * (n // group) + 3)
        scores = q[..., own] @ k[..., shared].swapaxes(1, 2) / np.sqrt(3)
        near = np.tri(5, dtype=bool) & ~np.tri(5, k=-2, dtype=bool)
        e = np.where(near, np.exp(scores), 0)
        assert_close(weights[:, n], e / e.sum(axis=-1, keepdims=True), floor=1)
        assert_close(y[..., own], weights[:, n] @ v[..., shared], floor=1)
    # they are the caller's own
    before = multi_head_attention_backward((np.ones_like(y), None), cache)
    weights[...] = 0
    assert_close(multi_head_attention_backward((np.ones_like(y), None), cache), before, tolerance=0)


def test_dropout_is_not_in_the_weights():
    x = Source().normal(1, 4, 6)
    dropout = {"dropout": 0.5, "rng": np.random.default_rng(0)}
    (y, _), cache = multi_head_attention_forward(x, x, x, 2, **dropout)
    heads = x.reshape(1, 4, 2, 1, 3).transpose(0, 2, 3, 1, 4)  # (B, K, G, T, D)
    dropout["rng"] = np.random.default_rng(0)
    expected, _ = attention_forward(heads, heads, heads, **dropout)
    assert_close(y, expected.transpose(0, 3, 1, 2, 4).reshape(1, 4, 6))
    _, plain = multi_head_attention_forward(x, x, x, 2)
    weights, expected = multi_head_attention_weights(cache), multi_head_attention_weights(plain)
    assert_close(weights, expected, tolerance=0)


def test_tiles_hold_no_weights():
    x = np.zeros((1, 2, 4))
    _, cache = multi_head_attention_forward(x, x, x, 2, tiled=True)
    with pytest.raises(ValueError, match=r"^tiled attention holds no weights to return$"):
        multi_head_attention_weights(cache)
