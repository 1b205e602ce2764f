"""Mistakes with attention in several heads: splitting, sharing, turning, going on from a past."""

from npllm import layers
from npllm.atlas.mistake import Mistake

_backward = layers.multi_head_attention_backward
_attention = layers.attention_backward
_heads = "dy.reshape(batch, steps, kv_heads, group, width).transpose(0, 2, 3, 1, 4)"
_new = "new = slice(past_steps, None)"
_turned = "dq, dk = rotary_backward(dq, q_cache), rotary_backward(dk, k_cache)"

MULTI_HEAD_ATTENTION = [
    Mistake(
        "multi_head_attention",
        "grouped, causal, rotary",
        "a key head gets the gradient of the first query head that shares it",
        "A slice has the shape that the sum over the group would have.",
        "Only dk is wrong, and only where heads are shared.",
        _attention,
        "unbroadcast(dk, k.shape)",
        "dk[:, :, :1]",
    ),
    Mistake(
        "multi_head_attention",
        "multi-query",
        "a value head gets the mean of the query heads that share it",
        "mean and sum over the group have one shape.",
        "Attention's share is off by exactly the size of the group; what later steps add is right.",
        _attention,
        "unbroadcast(dv, v.shape)",
        "dv.mean(axis=2, keepdims=True)",
    ),
    Mistake(
        "multi_head_attention",
        "grouped, causal, rotary",
        "query head n led to key head n mod K instead of n // (N / K)",
        "np.tile for np.repeat: either way each key head is shared by N / K heads.",
        "dk and dv are wrong; dq is right in the first and the last head, where both orders agree.",
        _backward,
        _heads,
        "dy.reshape(batch, steps, group, kv_heads, width).transpose(0, 3, 2, 1, 4)",
    ),
    Mistake(
        "multi_head_attention",
        "own heads, causal",
        "dy split into heads by a reshape alone",
        "(B, T, N Dv) and (B, N, T, Dv) hold as many numbers; only a transpose moves them rightly.",
        "Heads and steps are mixed; right for one head, and for one step.",
        _backward,
        _heads,
        "dy.reshape(batch, kv_heads, group, steps, width)",
    ),
    Mistake(
        "multi_head_attention",
        "grouped, causal, rotary",
        "the heads' gradients joined by a reshape alone",
        "As above, on the way out.",
        "The right numbers in the wrong places.",
        _backward,
        "_joined(dq), _joined(dk), _joined(dv)",
        "*(d.reshape(batch, d.shape[2], -1) for d in (dq, dk, dv))",
    ),
    Mistake(
        "multi_head_attention",
        "past, causal, interleaved rotary",
        "the past not cut off: the first keys' gradients taken for the new ones'",
        "[:T] has as many steps as [P:].",
        "dk and dv belong to constants; dq is right. Without a past, so are they.",
        _backward,
        _new,
        "new = slice(None, dk.shape[3] - past_steps)",
    ),
    Mistake(
        "multi_head_attention",
        "past, causal, window",
        "the past cut off one step too early",
        "A slice shifted by one is as long.",
        "dk and dv are shifted by one along the steps; dq is right.",
        _backward,
        _new,
        "new = slice(past_steps - 1, -1)",
        cause="permuted",
    ),
    Mistake(
        "multi_head_attention",
        "own heads, causal",
        "the gradient of the keys and values that are kept forgotten",
        "In training nothing is made of them.",
        "dq is right; dk and dv are wrong once a loss sees what later steps make of them.",
        _backward,
        "if dkept is not None:",
        "if False:",
    ),
    Mistake(
        "multi_head_attention",
        "grouped, causal, rotary",
        "only the queries turned back",
        "A gradient that was turned has the shape of one that was not.",
        "dk is right at position 0, where nothing turns, and at no other.",
        _backward,
        _turned,
        "dq = rotary_backward(dq, q_cache)",
        cause="first_step",
    ),
    Mistake(
        "multi_head_attention",
        "past, causal, interleaved rotary",
        "only the keys turned back",
        "As above, the other way round.",
        "dk and dv are right, dq is wrong in the features that turn.",
        _backward,
        _turned,
        "dk = rotary_backward(dk, k_cache)",
    ),
    Mistake(
        "multi_head_attention",
        "past, causal, interleaved rotary",
        "the kept keys' gradient added after the turn back",
        "Both have the keys' shape, and without rotary positions the order does not matter.",
        "What is kept are turned keys: dk alone is wrong, in the features that turn.",
        _backward,
        _turned,
        "kept = 0 if dkept is None else dkept[0][:, :, new]\n"
        "        dq = rotary_backward(dq, q_cache)\n"
        "        dk = rotary_backward(dk - kept, k_cache) + kept",
    ),
    Mistake(
        "multi_head_attention",
        "bias",
        "the bias's heads joined in the order of the group",
        "(K, G) and (G, K) hold as many heads.",
        "The right slices in the wrong order.",
        _backward,
        "d.reshape(bias_shape)",
        "d.swapaxes(-4, -3).reshape(bias_shape)",
        cause="permuted",
    ),
]
