"""ONNX's operators by npllm's functions: the names and layouts are theirs, the mathematics ours.

Each function here takes an operator's inputs in ONNX's order, None where one is absent, and its
attributes by name, and returns the outputs in ONNX's order. An attribute that no case uses is no
argument, so that a case that does use it fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npllm import layers
from npllm.optim import SGD, Adam

Array = np.ndarray[Any, Any]
Outputs = tuple[Array, ...]


def elementwise(forward: Callable[..., tuple[Array, Any]]) -> Callable[..., Outputs]:
    """Return the operator of a layer that maps one array to one, options included."""

    def operator(x: Array, **attributes: Any) -> Outputs:
        return (forward(x, **attributes)[0],)

    return operator


def gather(data: Array, indices: Array, *, axis: int = 0) -> Outputs:
    """Look words up along any axis: the slices along it are the rows of the table."""
    table = np.moveaxis(data, axis, 0)  # (V, ...)
    rows, _ = layers.embedding_forward(indices % len(table), table.reshape(len(table), -1))
    y = rows.reshape(indices.shape + table.shape[1:])
    looked_up = tuple(range(indices.ndim))
    return (np.moveaxis(y, looked_up, tuple(axis + n for n in looked_up)),)


class LegacyGenerator:
    """The generator that ONNX's reference draws from, with the method that dropout calls."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.RandomState(seed).uniform

    def random(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return uniform numbers, in float64 as the reference does."""
        return self.draw(size=shape)


def dropout(data: Array, ratio: Any = 0.5, training_mode: Any = False, *, seed: int = 0) -> Outputs:
    """Drop elements; the mask is where the gradient passes."""
    rng: Any = LegacyGenerator(seed)
    y, cache = layers.dropout_forward(data, p=float(ratio), rng=rng, training=bool(training_mode))
    return y, layers.dropout_backward(np.ones_like(data), cache) != 0


def classes_last(x: Array) -> Array:
    """Turn (N, C, d1, ..., dk) to (N, d1, ..., dk, C)."""
    return np.moveaxis(x, 1, -1)


def cross_entropy(
    scores: Array,
    labels: Array,
    weights: Array | None = None,
    *,
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Outputs:
    """Return the loss and the log-probabilities of the scores."""
    loss, _ = layers.cross_entropy_forward(
        classes_last(scores),
        labels,
        weight=weights,
        reduction=reduction,  # type: ignore[arg-type]
        ignore_index=ignore_index,
    )
    return loss, layers.log_softmax_forward(scores, axis=1)[0]


def negative_log_likelihood(
    log_p: Array, target: Array, weight: Array | None = None, **attributes: Any
) -> Outputs:
    """Return the loss of log-probabilities that are none: their exponentials sum to anything.

    npllm's loss takes the logarithm of the sum off, which is zero for log-probabilities. Lowered by
    a large enough s, and with a class added that takes what is missing to one, these are some.
    Their loss is the wanted one plus s for each row that counts; two values of s lead back to
    s = 0, in float64, since their difference cancels.
    """
    dtype, log_p = log_p.dtype, log_p.astype(np.float64)
    total, _ = layers.logsumexp_forward(log_p, axis=1)
    weight = None if weight is None else np.append(weight, 1)  # that class is nobody's target

    def lowered_by(s: Any) -> Array:
        missing = np.log1p(-np.exp(total - s))
        lowered = np.concatenate([log_p - s, missing[:, None]], axis=1)
        return cross_entropy(lowered, target, weight, **attributes)[0]

    s = total.max() + 1
    return ((2 * lowered_by(s) - lowered_by(2 * s)).astype(dtype),)


GATES = [0, 2, 3, 1]  # npllm's i, f, g, o among ONNX's i, o, f, c
PEEPHOLES = [0, 2, 1]  # npllm's i, f, o among ONNX's i, o, f
GRU_GATES = [1, 0, 2]  # npllm's r, z, n among ONNX's z, r, h


def ours(blocks: Array, order: list[int]) -> Array:
    """Return the gates' blocks of rows in npllm's order."""
    return np.concatenate([np.split(blocks, len(order))[k] for k in order])


def lstm(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    P: Array | None = None,
    *,
    hidden_size: int,
    direction: str = "forward",
    layout: int = 0,
) -> Outputs:
    """Run one layer in one direction or both; ``layout`` 1 has the batch first, states too."""
    ends = {"forward": [""], "reverse": ["_reverse"], "bidirectional": ["", "_reverse"]}[direction]
    weights = {}
    for d, end in enumerate(ends):
        weights[f"weight_ih_l0{end}"] = ours(W[d], GATES)
        weights[f"weight_hh_l0{end}"] = ours(R[d], GATES)
        if B is not None:
            for name, bias in zip(("bias_ih", "bias_hh"), np.split(B[d], 2), strict=True):
                weights[f"{name}_l0{end}"] = ours(bias, GATES)
        if P is not None:
            weights[f"weight_ch_l0{end}"] = ours(P[d], PEEPHOLES)
    given = [s for s in (initial_h, initial_c) if s is not None]
    state: Any = [s.swapaxes(0, 1) if layout else s for s in given] or None
    (y, final), _ = layers.lstm_forward(
        X, weights, state, lengths=sequence_lens, batch_first=bool(layout)
    )
    y = y.reshape(*y.shape[:2], len(ends), hidden_size)  # the directions side by side
    return (
        y if layout else y.swapaxes(1, 2),
        *(s.swapaxes(0, 1) if layout else s for s in final),
    )


def gru(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    *,
    hidden_size: int,
    direction: str = "forward",
    layout: int = 0,
    linear_before_reset: int = 0,
) -> Outputs:
    """Repeat the cell in one direction or both; ``layout`` 1 has the batch first, states too."""
    x = X.swapaxes(0, 1) if layout else X  # (T, B, I)
    y, final = [], []
    for d, by in enumerate({"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}[direction]):
        biases = () if B is None else np.split(B[d], 2)
        weights = [ours(blocks, GRU_GATES) for blocks in (W[d], R[d], *biases)]
        h, states = np.zeros((x.shape[1], hidden_size), x.dtype), []
        for x_t in x[::by]:
            h, _ = layers.gru_cell_forward(x_t, h, *weights, reset_after=bool(linear_before_reset))
            states.append(h)
        y.append(states[::by])
        final.append(h)
    ys, finals = np.stack(y, axis=1), np.stack(final)  # (T, directions, B, H), (directions, B, H)
    return (ys.transpose(2, 0, 1, 3), finals.swapaxes(0, 1)) if layout else (ys, finals)


def attention(
    Q: Array,
    K: Array,
    V: Array,
    attn_mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    nonpad_kv_seqlen: Array | None = None,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
    is_causal: int = 0,
    left_window_size: int = -1,
    right_window_size: int = -1,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    softmax_precision: int | None = None,  # a choice of dtype: npllm keeps that of its inputs
) -> Outputs:
    """Attend with heads in groups, a past, masks of every kind; return the scores as well."""
    packed = Q.ndim == 3
    if packed:  # (B, T, N D) to (B, N, T, D)
        Q, K, V = (
            x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)
            for x, heads in ((Q, q_num_heads), (K, kv_num_heads), (V, kv_num_heads))
        )
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        K, V = np.concatenate([past_key, K], axis=2), np.concatenate([past_value, V], axis=2)
    (batch, heads, tq, _), (_, kv_heads, tk, _) = Q.shape, K.shape

    def grouped(x: Array) -> Array:  # (B, N, ...) to (B, N_kv, G, ...): G query heads to a key's
        return x.reshape(batch, kv_heads, -1, *x.shape[2:])

    def broadcast(mask: Array, fill: Any) -> Array:  # a mask may stop short of the last keys
        short = [(0, 0)] * (mask.ndim - 1) + [(0, tk - mask.shape[-1])]
        mask = np.pad(mask, short, constant_values=fill)
        return grouped(np.broadcast_to(mask, (batch, heads, tq, tk)))

    real = np.full(batch, tk) if nonpad_kv_seqlen is None else nonpad_kv_seqlen
    offset = np.full(batch, past) if nonpad_kv_seqlen is None else nonpad_kv_seqlen - tq
    key = np.arange(tk)
    ahead = key - (np.arange(tq)[:, None] + offset[:, None, None])  # (B, Tq, Tk)
    visible = key < real[:, None, None]
    if is_causal:
        visible = visible & (ahead <= 0)
    if left_window_size >= 0:
        visible = visible & (-ahead <= left_window_size)
    if right_window_size >= 0:
        visible = visible & (ahead <= right_window_size)
    mask, bias = broadcast(visible[:, None], False), None
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        mask = mask & broadcast(attn_mask, False)
    elif attn_mask is not None:
        bias = broadcast(attn_mask, -math.inf)

    q, k, v = grouped(Q), grouped(K), grouped(V)
    scaled: dict[str, Any] = {"scale": scale}
    capped = scaled | {"softcap": softcap or None}
    full = capped | {"mask": mask, "bias": bias}
    (y, weights), _ = layers.attention_forward(q, k, v, return_weights=True, **full)
    if qk_matmul_output_mode < 3:
        weights = scores(q, k, **(scaled, capped, full)[qk_matmul_output_mode])
    y = y.reshape(batch, heads, tq, -1)
    if packed:
        y = y.swapaxes(1, 2).reshape(batch, tq, -1)
    return y, K, V, weights.reshape(batch, heads, tq, tk)


def scores(
    q: Array, k: Array, mask: Array | None = None, bias: Array | None = None, **options: Any
) -> Array:
    """Return what attention's softmax is of, read off its weights.

    A key of zeros has the score zero, capped or not. Beside it, seen by every query and without
    a bias, any other key's score is the logarithm of how much more weight that key gets.
    """

    def beside(x: Array, fill: Any) -> Array:
        return np.concatenate([x, np.full((*x.shape[:-1], 1), fill, x.dtype)], axis=-1)

    k = np.concatenate([k, np.zeros_like(k[..., :1, :])], axis=-2)
    (_, weights), _ = layers.attention_forward(
        q,
        k,
        k,
        mask=None if mask is None else beside(mask, True),
        bias=None if bias is None else beside(bias, 0),
        return_weights=True,
        **options,
    )
    with np.errstate(divide="ignore"):  # a hidden key's score is -inf
        return np.log(weights[..., :-1]) - np.log(weights[..., -1:])


def adam(
    R: Array,
    T: Array,
    *tensors: Array,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 0.0,
    norm_coefficient: float = 0.0,
) -> Outputs:
    """Take one step. Epsilon comes before the bias correction; at T = 0 nothing is corrected."""
    x, g, v, h = joined(tensors, 4)
    steps = max(int(T), 1)
    root = math.sqrt(1 - beta**steps)
    lr = float(R) if T > 0 else float(R) * (1 - alpha**steps) / root
    rule = Adam(x, lr, (alpha, beta), epsilon / root, norm_coefficient)
    rule.load(steps - 1, {"mean": v, "mean_square": h})
    rule.step(g)
    return split_like(tensors, 4, x, rule.state["mean"], rule.state["mean_square"])


def momentum(
    R: Array,
    T: Array,
    *tensors: Array,
    alpha: float,
    beta: float,
    mode: str,
    norm_coefficient: float,
) -> Outputs:
    """Take one step; beta is what the dampening leaves of the gradient."""
    x, g, v = joined(tensors, 3)
    rule = SGD(x, float(R), alpha, 1 - beta, norm_coefficient, nesterov=mode == "nesterov")
    rule.load(int(T), {"momentum": v})
    rule.step(g)
    return split_like(tensors, 3, x, rule.state["momentum"])


def joined(tensors: Outputs, kinds: int) -> list[Array]:
    """Return one vector a kind of tensor, as npllm's rules have it: x1, x2, g1, g2 to x, g."""
    count = len(tensors) // kinds
    return [np.concatenate(tensors[n : n + count]) for n in range(0, len(tensors), count)]


def split_like(tensors: Outputs, kinds: int, *vectors: Array) -> Outputs:
    """Cut each vector into pieces of the lengths of the first tensors."""
    ends = np.cumsum([len(t) for t in tensors[: len(tensors) // kinds]])[:-1]
    return tuple(piece for vector in vectors for piece in np.split(vector, ends))


def layer_normalization(
    X: Array, Scale: Array, B: Array | None = None, *, axis: int = -1, epsilon: float = 1e-5
) -> Outputs:
    """Normalize over all axes from ``axis`` on, which are one axis of npllm's."""
    rows, (weight, bias) = (
        flat_from(X, axis),
        (None if a is None else a.ravel() for a in (Scale, B)),
    )
    y, (_, mean, scale, *_) = layers.layer_norm_forward(rows, weight, bias, eps=epsilon)
    kept = (*X.shape[: axis % X.ndim], *[1] * (X.ndim - axis % X.ndim))
    return y.reshape(X.shape), mean.reshape(kept), scale.reshape(kept)


def rms_normalization(X: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5) -> Outputs:
    """Normalize over all axes from ``axis`` on, without a shift."""
    y, _ = layers.rms_norm_forward(flat_from(X, axis), scale.ravel(), eps=epsilon)
    return (y.reshape(X.shape),)


def flat_from(x: Array, axis: int) -> Array:
    """Make one axis of all from ``axis`` on."""
    return x.reshape(*x.shape[: axis % x.ndim], -1)


def rotary_embedding(
    X: Array,
    cos_cache: Array,
    sin_cache: Array,
    position_ids: Array | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Outputs:
    """Turn the first features of each head; a cache may be looked up by position."""
    packed = X.ndim == 3
    x = X.reshape(*X.shape[:2], num_heads, -1).swapaxes(1, 2) if packed else X  # (B, N, T, D)
    width = rotary_embedding_dim or x.shape[-1]
    tables = [c if position_ids is None else c[position_ids] for c in (cos_cache, sin_cache)]
    cos, sin = (c[:, None, :, : width // 2] for c in tables)  # (B, 1, T, R / 2)
    y, _ = layers.rotary_forward(x, cos, sin, interleaved=bool(interleaved))
    return (y.swapaxes(1, 2).reshape(X.shape) if packed else y,)


OPERATORS: dict[str, Callable[..., Outputs]] = {
    "Adam": adam,
    "Attention": attention,
    "Dropout": dropout,
    "Gather": gather,
    "Gelu": elementwise(layers.gelu_forward),
    "GRU": gru,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": elementwise(layers.log_softmax_forward),
    "LSTM": lstm,
    "Momentum": momentum,
    "NegativeLogLikelihoodLoss": negative_log_likelihood,
    "Relu": elementwise(layers.relu_forward),
    "RMSNormalization": rms_normalization,
    "RotaryEmbedding": rotary_embedding,
    "Sigmoid": elementwise(layers.sigmoid_forward),
    "Softmax": elementwise(layers.softmax_forward),
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "Tanh": elementwise(layers.tanh_forward),
}
