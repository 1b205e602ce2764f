"""Scaled dot-product attention, section 4.2: softmax(Q K^T / sqrt(d_k)) V."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from npllm.layers.arrays import (
    Array,
    Mask,
    Shape,
    check_dy,
    check_floats,
    check_probability,
    unbroadcast,
)
from npllm.layers.dropout import DropoutCache, dropout_backward, dropout_forward
from npllm.layers.softmax import SoftmaxCache, softmax_backward, softmax_forward


class Sight(NamedTuple):
    """Which keys a query may see.

    Attributes:
        mask: booleans that broadcast to the scores; True where a query may see a key.
        causal: query t sees the keys 0..t + offset only.
        window: how many positions away a key is out of sight; None where none is.
        offset: the position of the first query, that of the first key being 0.
    """

    mask: Mask | None = None
    causal: bool = False
    window: int | None = None
    offset: int = 0

    def hide(self, scores: Array) -> Array:
        """Return the scores, -inf where a query may not see a key: in place, if that has room."""
        mask, causal, window, offset = self
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        if mask is not None:
            shape = np.broadcast_shapes(scores.shape, np.shape(mask))
            if shape != scores.shape:
                scores = np.broadcast_to(scores, shape).copy()
            np.copyto(scores, -np.inf, where=~np.asarray(mask))
        tq, tk = scores.shape[-2:]
        if causal:
            late = min(max(offset + 1, 0), tk)  # the keys before are seen by every query
            hidden = ~np.tri(tq, tk - late, offset - late, dtype=np.bool_)
            np.copyto(scores[..., late:], -np.inf, where=hidden)
        if window is not None:
            far = np.tri(tq, tk, offset - window, dtype=np.bool_)
            far |= ~np.tri(tq, tk, offset + window - 1, dtype=np.bool_)
            np.copyto(scores, -np.inf, where=far)
        return scores


class AttentionCache(NamedTuple):
    """What the backward needs of the forward."""

    q: Array
    k: Array
    v: Array
    bias_shape: Shape | None
    scale: float
    tanh: Array | None  # (..., Tq, Tk), where there is a soft cap
    weights: Array  # (..., Tq, Tk)
    softmax: SoftmaxCache
    dropped: Array  # (..., Tq, Tk), the weights after dropout
    dropout: DropoutCache | None
    y_shape: Shape
    return_weights: bool


def attention_forward(
    q: Array,
    k: Array,
    v: Array,
    *,
    mask: Mask | None = None,
    bias: Array | None = None,
    causal: bool = False,
    window: int | None = None,
    offset: int = 0,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    return_weights: bool = False,
) -> tuple[Any, AttentionCache]:
    """Apply y = softmax(scale Q K^T + bias) V, each query over the keys it may see.

    Vaswani et al., "Attention Is All You Need" (2017), equation 1; section 4.2 of the seed.

    Args:
        q: (..., Tq, D). The leading axes of q, k and v broadcast against one another.
        k: (..., Tk, D).
        v: (..., Tk, Dv).
        mask: booleans that broadcast to (..., Tq, Tk); True where a query may see a key.
        bias: added to the scores; broadcasts to (..., Tq, Tk). -inf hides a key.
        causal: query t sees the keys 0..t + offset only (counted from the start, as in torch, also
            where Tq != Tk).
        window: where given, a query sees only keys less than so many positions away: with
            ``causal`` itself and the window - 1 before it.
        offset: the position of the first query, that of the first key being 0: how many keys of
            earlier steps are kept in front.
        scale: the factor of the scores; 1 / sqrt(D) where None.
        softcap: where given, a positive s that bounds the scaled scores by s tanh(scores / s),
            before the bias and the mask (Gemma Team, "Gemma 2" (2024), section 2).
        dropout: probability of zeroing a weight, see :func:`npllm.layers.dropout_forward`.
        rng: draws the dropout mask.
        return_weights: also return the softmax, before dropout.

    Returns:
        y of shape (..., Tq, Dv), or (y, weights) with weights of shape (..., Tq, Tk); and the
        cache of :func:`attention_backward`. A query that may see no key gets zeros, and so do its
        gradients (in torch too, but not in its versions that gave NaN).

    Raises:
        TypeError: ``mask`` is not boolean.
        ValueError: the shapes do not fit, ``softcap`` is not positive and finite, or ``window`` is
            not positive.

    >>> q = np.zeros((2, 4))  # equal scores: every query takes the mean of the values it sees
    >>> v = np.array([[1.0], [3.0]])
    >>> attention_forward(q, q, v)[0].tolist()
    [[2.0], [2.0]]
    >>> attention_forward(q, q, v, causal=True)[0].tolist()
    [[1.0], [2.0]]

    Capped at s, scores of +-infinity differ by 2 s:

    >>> k = np.array([[np.inf], [-np.inf]])
    >>> y, _ = attention_forward(np.ones((1, 1)), k, v, softcap=np.log(3.0) / 2)
    >>> y.round(12).tolist()  # the weights are 3/4 and 1/4
    [[1.5]]
    """
    check_attention(q, k, v, mask, bias)
    check_probability(dropout, "dropout")
    sight = Sight(mask, causal, window, offset)
    cache = attention_cache(q, k, v, sight, bias, scale, softcap, dropout, rng, return_weights)
    y = weighed(cache.dropped, v)  # (..., Tq, Dv)
    return ((y, cache.weights) if return_weights else y), cache


def attention_cache(
    q: Array,
    k: Array,
    v: Array,
    sight: Sight,
    bias: Array | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    return_weights: bool = False,
) -> AttentionCache:
    """Return the cache of :func:`attention_forward`, which has all but the product with v."""
    # a Python float: a NumPy one would turn float32 into float64
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else float(scale)
    with np.errstate(invalid="ignore", over="ignore"):  # of a key that is hidden, say
        scores = q @ k.swapaxes(-1, -2)  # (..., Tq, Tk)
        scores *= scale
    tanh = None
    if softcap is not None:
        softcap = float(softcap)
        if not 0 < softcap < math.inf:
            raise ValueError(f"softcap must be positive and finite, got {softcap}")
        tanh = np.tanh(scores / softcap)
        scores = softcap * tanh
    if bias is not None:
        scores = scores + bias
        np.copyto(scores, -np.inf, where=np.isneginf(bias.real))  # of NaN, too
    weights, softmax_cache = softmax_forward(sight.hide(scores))
    dropped: Array = weights
    dropout_cache: DropoutCache | None = None
    if dropout:
        dropped, dropout_cache = dropout_forward(weights, p=dropout, rng=rng)
    lead = np.broadcast_shapes(weights.shape[:-2], v.shape[:-2])
    return AttentionCache(
        q,
        k,
        v,
        None if bias is None else bias.shape,
        scale,
        tanh,
        weights,
        softmax_cache,
        dropped,
        dropout_cache,
        (*lead, q.shape[-2], v.shape[-1]),
        return_weights,
    )


def attention_backward(dy: Any, cache: AttentionCache) -> tuple[Array, ...]:
    """Return dq, dk, dv and, where there was a bias, dbias.

    Args:
        dy: (..., Tq, Dv); where the weights were returned, the pair (dy, dweights).
        cache: what :func:`attention_forward` returned.
    """
    q, k, v, bias_shape, scale, tanh, _, softmax_cache, dropped, dropout_cache, *_ = cache
    dy, dweights_returned = dy if cache.return_weights else (dy, None)
    check_dy(dy, cache.y_shape, v.dtype)
    # y = dropped @ v
    with np.errstate(invalid="ignore", over="ignore"):
        ddropped = dy @ v.swapaxes(-1, -2)  # (..., Tq, Tk)
    if not np.isfinite(ddropped).all():  # what has no weight would have added nothing
        ddropped = np.where(dropped == 0, np.zeros((), dy.dtype), ddropped)
    dv = dropped.swapaxes(-1, -2) @ dy  # (..., Tk, Dv)
    # dropped = dropout(weights)
    dweights = unbroadcast(ddropped, dropped.shape)
    if dropout_cache is not None:
        dweights = dropout_backward(dweights, dropout_cache)
    if dweights_returned is not None:
        check_dy(dweights_returned, dweights.shape, v.dtype, "dweights")
        dweights += dweights_returned
    # weights = softmax(scores); a hidden key has weight zero, so its score gets no gradient
    dscores = softmax_backward(dweights, softmax_cache)
    # scores = scores + bias
    dbias = () if bias_shape is None else (unbroadcast(dscores, bias_shape),)
    # scores = softcap * tanh(scores / softcap)
    if tanh is not None:
        # of a hidden score it may be no number
        slope = np.where(dscores == 0, 0, 1 - tanh * tanh)
        dscores = dscores * slope  # not in place: dbias may be the same array
    # scores = q @ k.T * scale
    dproduct = dscores * scale
    dq = weighed(dproduct, k)  # (..., Tq, D)
    dk = dproduct.swapaxes(-1, -2) @ q  # (..., Tk, D)
    return (
        unbroadcast(dq, q.shape),
        unbroadcast(dk, k.shape),
        unbroadcast(dv, v.shape),
        *dbias,
    )


def attention_weights(cache: AttentionCache) -> Array:
    """Return the softmax of :func:`attention_forward`, (..., Tq, Tk), before dropout.

    >>> _, cache = attention_forward(np.zeros((2, 4)), np.zeros((2, 4)), np.ones((2, 1)))
    >>> attention_weights(cache).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    return cache.weights.copy()


def weighed(weights: Array, rows: Array) -> Array:
    """Return weights @ rows, where a row of weight zero adds nothing, not even NaN.

    >>> weighed(np.array([[1.0, 0.0]]), np.array([[2.0], [np.nan]])).tolist()
    [[2.0]]
    """
    with np.errstate(invalid="ignore", over="ignore"):
        product = weights @ rows
        if np.isfinite(product).all():
            return product
        broken = ~np.isfinite(rows)
        seen = (weights != 0).astype(rows.real.dtype) @ broken.astype(rows.real.dtype)
        finite = weights @ np.where(broken, np.zeros((), rows.dtype), rows)
    return np.where(seen > 0, product, finite)


def check_attention(q: Array, k: Array, v: Array, mask: Mask | None, bias: Array | None) -> Shape:
    """Return the leading axes of the scores of attention.

    Raises:
        TypeError: ``mask`` is not boolean, or the others are not floats of one dtype.
        ValueError: the shapes do not fit.
    """
    check_floats(q=q, k=k, v=v, bias=bias)
    try:
        (_, d), (tk, kd), (vk, _) = (array.shape[-2:] for array in (q, k, v))
        if (d, tk) != (kd, vk):
            raise ValueError
        lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError:
        raise ValueError(
            "q, k, v must have shapes (..., Tq, D), (..., Tk, D), (..., Tk, Dv), "
            f"got {q.shape}, {k.shape}, {v.shape}"
        ) from None
    if mask is not None and np.asarray(mask).dtype != np.bool_:
        raise TypeError(f"mask must be boolean (True: may be seen), got {np.asarray(mask).dtype}")
    shape = (*lead, q.shape[-2], k.shape[-2])
    for name, array in {"mask": mask, "bias": bias}.items():
        if array is not None:
            try:
                np.broadcast_to(np.asarray(array), shape)
            except ValueError:
                got = np.asarray(array).shape
                raise ValueError(f"{name} must broadcast to {shape}, got {got}") from None
    return lead
