"""Attention with its linear maps: torch's module, to itself and to a memory, step by step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.source import Source
from npllm.layers import (
    linear_forward,
    multi_head_attention_forward,
    projected_attention_backward,
    projected_attention_forward,
)
from npllm.layers.attention import Sight

WIDTH, HEADS = 6, 2
NAMES = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
REAL = np.arange(5) < np.array([5, 2])[:, None]  # of a memory


def maps(source):
    """The maps of a layer, in its order."""
    shapes = ((3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,))
    return tuple(source.normal(*shape) for shape in shapes)


def bound(sequences, weights, sight):
    """The layer of one sequence, or of two, as assert_agrees_with_torch takes it."""

    def forward(*args):
        x, memory = args[0], args[1] if len(sequences) == 2 else None
        (y, _), cache = projected_attention_forward(x, memory, *args[-4:], HEADS, sight=sight)
        return y, cache

    return Bound(forward, projected_attention_backward, (*sequences, *weights))


@pytest.mark.parametrize(
    ("memory", "sight"),
    [
        (False, Sight()),
        (False, Sight(causal=True)),
        (True, Sight()),
        (True, Sight(REAL[:, None, None])),
    ],
    ids=["itself", "itself, causal", "memory", "memory, padding"],
)
def test_agrees_with_torch(torch, memory, sight):
    source = Source()
    sequences = [source.normal(2, 3, WIDTH), *([source.normal(2, 5, WIDTH)] if memory else [])]
    module = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)
    hidden = {}
    if sight.causal:  # torch's masks tell what is hidden
        hidden["attn_mask"] = torch.ones(3, 3, dtype=torch.bool).triu(1)
    if sight.mask is not None:
        hidden["key_padding_mask"] = torch.tensor(~REAL)

    def reference(*args):
        x, asked = args[0], args[1] if memory else args[0]
        weights = dict(zip(NAMES, args[-4:], strict=True))
        options = {"need_weights": False, **hidden}
        return torch.func.functional_call(module, weights, (x, asked, asked), options)[0]

    assert_agrees_with_torch(torch, bound(sequences, maps(source), sight), reference)
    if hidden:  # what is hidden matters
        with pytest.raises(AssertionError, match="off by"):
            assert_agrees_with_torch(torch, bound(sequences, maps(source), Sight()), reference)


@pytest.mark.parametrize("memory", [False, True])
def test_is_the_attention_of_what_its_maps_return(memory):
    source = Source()
    x, other = source.normal(2, 3, WIDTH), source.normal(2, 5, WIDTH) if memory else None
    weight, bias, out_weight, out_bias = maps(source)
    asked = other if memory else x
    thirds = zip((x, asked, asked), np.split(weight, 3), np.split(bias, 3), strict=True)
    q, k, v = (linear_forward(*each)[0] for each in thirds)
    (y, kept), _ = multi_head_attention_forward(q, k, v, HEADS)
    expected, _ = linear_forward(y, out_weight, out_bias)
    got, _ = projected_attention_forward(x, other, weight, bias, out_weight, out_bias, HEADS)
    assert_close(got, (expected, kept))


@given(seed=st.integers(0, 99), cut=st.integers(1, 4))
def test_step_by_step_is_the_whole(seed, cut):
    source = Source(seed)
    x, weights = source.normal(2, 5, WIDTH), maps(source)

    def run(piece, past):
        result, _ = projected_attention_forward(
            x[:, piece], None, *weights, HEADS, past=past, sight=Sight(causal=True)
        )
        return result

    whole, kept = run(slice(0, 5), None)
    first, past = run(slice(0, cut), None)
    second, after = run(slice(cut, 5), past)
    assert_close(np.concatenate([first, second], axis=1), whole, floor=1)
    assert_close(after, kept, floor=1)
    anew, _ = run(slice(cut, 5), None)  # without its past it is another
    assert np.abs(anew - second).max() > 1e-6


def test_the_keys_of_a_memory_stand_for_it():
    source = Source()
    x, memory, weights = source.normal(2, 3, WIDTH), source.normal(2, 5, WIDTH), maps(source)
    (expected, kept), _ = projected_attention_forward(x, memory, *weights, HEADS)
    got = projected_attention_forward(x, memory[:, :0], *weights, HEADS, past=kept)[0]
    assert_close(got, (expected, kept))
    assert [a.shape for a in kept] == [(2, HEADS, 5, WIDTH // HEADS)] * 2


def test_what_is_hidden_of_a_memory_has_no_effect_and_no_gradient():
    source = Source()
    x, memory, weights = source.normal(2, 3, WIDTH), source.normal(2, 5, WIDTH), maps(source)
    other = np.where(REAL[..., None], memory, 99.0)
    sight = Sight(REAL[:, None, None])
    (y, _), cache = projected_attention_forward(x, memory, *weights, HEADS, sight=sight)
    (same, _), _ = projected_attention_forward(x, other, *weights, HEADS, sight=sight)
    assert_close(same, y, tolerance=0)
    _, dmemory, *_ = projected_attention_backward(np.ones_like(y), cache)
    assert (dmemory[~REAL] == 0).all()
    assert (dmemory[REAL] != 0).all()
    (seen, _), _ = projected_attention_forward(x, other, *weights, HEADS)
    assert np.abs(seen - y).max() > 1e-3


def test_one_product_is_the_sum_of_three():
    """Asked about itself, x has the gradients of what asks and of what is asked."""
    source = Source()
    x, weights = source.normal(2, 3, WIDTH), maps(source)
    (y, _), cache = projected_attention_forward(x, None, *weights, HEADS)
    (same, _), other = projected_attention_forward(x, x, *weights, HEADS)
    assert_close(same, y)
    dx, *dmaps = projected_attention_backward(y, cache)
    asks, asked, *expected = projected_attention_backward(y, other)
    assert_close(dx, asks + asked)
    assert_close(dmaps, expected)
    assert np.abs(asked).max() > 1e-3


def test_dropout_is_attentions():
    source = Source()
    x, weights = source.normal(1, 4, WIDTH), maps(source)
    weight, bias, out_weight, out_bias = weights

    def run(seed):
        options = {"dropout": 0.5, "rng": np.random.default_rng(seed)}
        return projected_attention_forward(x, None, *weights, HEADS, **options)[0][0]

    qkv = np.split(linear_forward(x, weight, bias)[0], 3, axis=-1)
    options = {"dropout": 0.5, "rng": np.random.default_rng(0)}
    (y, _), _ = multi_head_attention_forward(*qkv, HEADS, **options)
    assert_close(run(0), linear_forward(y, out_weight, out_bias)[0])
    assert np.abs(run(0) - run(1)).max() > 1e-3
    with pytest.raises(ValueError, match=r"rng must be a numpy\.random\.Generator"):
        projected_attention_forward(x, None, *weights, HEADS, dropout=0.5)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (2, 3, 4), r"in_weight must have shape \(12, 4\), got \(18, 6\)"),
        ("memory", (2, 5, 4), r"x must have shape \(\.\.\., 6\), got \(2, 5, 4\)"),
        ("memory", (3, 5, 6), "q, k, v must have shapes"),
        ("in_weight", (12, 6), r"in_weight must have shape \(18, 6\), got \(12, 6\)"),
        ("in_bias", (17,), r"bias must have shape \(12,\), got \(11,\)"),
        ("out_weight", (6, 5), r"x must have shape \(\.\.\., 5\), got \(2, 3, 6\)"),
        ("out_bias", (5,), r"bias must have shape \(6,\), got \(5,\)"),
        ("heads", 4, r"q must have shape \(B, T, 4 D\), got \(2, 3, 6\)"),
    ],
)
def test_what_does_not_fit_is_refused(name, shape, message):
    names = ("in_weight", "in_bias", "out_weight", "out_bias")
    args = {"x": np.zeros((2, 3, WIDTH)), "memory": np.zeros((2, 5, WIDTH))}
    args |= {**dict(zip(names, maps(Source()), strict=True)), "heads": HEADS}
    projected_attention_forward(**args)
    with pytest.raises(ValueError, match=message):
        projected_attention_forward(**{**args, name: shape if name == "heads" else np.zeros(shape)})


def test_a_cotangent_that_does_not_fit_is_refused():
    x = np.zeros((2, 3, WIDTH))
    _, cache = projected_attention_forward(x, None, *maps(Source()), HEADS)
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3, 6\), got \(2, 3, 5\)"):
        projected_attention_backward(x[..., :5], cache)
