"""The LSTM over a batch of sequences: stacked layers, both directions, lengths, states in and out.

The equations are those of :mod:`npllm.layers.lstm_cell`. One layer in one direction is
:mod:`npllm.layers.batch_last_lstm` or, with peepholes or for a few positions,
:mod:`npllm.layers.unrolled_lstm`; here the layers and directions are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import (
    Array,
    Ids,
    Shape,
    check_floats,
    check_ids,
    check_last_axis,
    check_probability,
    check_shape,
    split_last,
)
from npllm.layers.batch_last_lstm import (
    BatchLastCache,
    batch_last_lstm_backward,
    batch_last_lstm_forward,
)
from npllm.layers.dropout import DropoutCache, dropout_backward, dropout_forward
from npllm.layers.embedding import (
    EmbeddingCache,
    embedding_backward,
    embedding_forward,
)
from npllm.layers.lstm_cell import State
from npllm.layers.unrolled_lstm import (
    UnrolledLSTMCache,
    unrolled_lstm_backward,
    unrolled_lstm_forward,
)

# Positions T B below which what batch_last_lstm prepares costs more than it saves.
FEW = 8
# A direction's weights, in the order of its arguments.
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch", "weight_hr")


class Words(NamedTuple):
    """A first layer that is given words: W_ih E^T stands in the place of its W_ih.

    W_ih (E^T x) = (W_ih E^T) x, and x is one-hot: the product comes once a word in the place of
    once a position, and dx is not needed.
    """

    embedding: Array  # (V, I)
    weights: dict[str, Array]  # each W_ih (4H, I) of the first layer, by name


class LSTMCache(NamedTuple):
    """What the backward needs of the forward."""

    layers: list[list[str]]  # the suffixes of each layer's directions
    names: list[str]  # of the weights that each direction has
    directions: list[BatchLastCache | UnrolledLSTMCache]  # in the order of the states
    dropouts: list[DropoutCache]  # below each layer but the first
    words: Words | EmbeddingCache | None  # where x were ids
    lengths: Ids | None
    single: bool
    batch_first: bool
    has_state: bool
    y_shape: Shape
    state_shapes: tuple[Shape, Shape]


def lstm_forward(
    x: npt.ArrayLike,
    weights: Mapping[str, Array],
    state: State | None = None,
    *,
    embedding: Array | None = None,
    lengths: npt.ArrayLike | None = None,
    batch_first: bool = False,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[tuple[Array, State], LSTMCache]:
    """Run an LSTM over a batch of sequences.

    Args:
        x: (T, B, I), or (B, T, I) with ``batch_first``, or (T, I) for a single sequence.
        weights: torch's parameters of an LSTM by torch's names. For layer k, ``weight_ih_lk``
            (4H, I), ``weight_hh_lk`` (4H, H), ``bias_ih_lk`` and ``bias_hh_lk`` (4H,), gates in
            the order i, f, g, o; the other direction's with ``_reverse`` behind. How many layers
            there are, and whether there are biases, a second direction or a projection
            (``weight_hr_lk`` (P, H): the output is W_hr h, and P stands for H in what follows),
            is read off the names. A deeper layer's I is the width of the output below it. Two
            things torch has no names for: ``weight_ch_lk`` (3H,) are peepholes, blocks i, f, o,
            see :func:`npllm.layers.lstm_cell_forward`; and weights whose names all end in
            ``_reverse`` run from the last step to the first only.
        state: (h0, c0), each (L, B, H), or (L, H) for a single sequence; with two directions the
            first axis is 2L, layer by layer, forward before reverse. Zeros where None.
        embedding: (V, I). With it x is integers in [0, V) without the last axis, and the input is
            ``embedding[x]``. That costs less where V is small, since the first layer's W_ih meets
            each word once; all of it must be finite, also rows that no id names.
        lengths: (B,) integers in [0, T]: how much of each sequence is real. The output is zero
            beyond, the state is that of the last real step, and the reverse direction starts
            there. As torch does with packed sequences, in any order of lengths.
        batch_first: the layout of x and y. States always have the batch second.
        dropout: probability of zeroing an element of a layer's output on its way to the next
            layer, see :func:`npllm.layers.dropout_forward`.
        rng: draws the dropout masks.

    Returns:
        (y, (h_n, c_n)) and the cache of :func:`lstm_backward`: y the last layer's output, x's
        shape but for its last axis, H wide (2H with two directions, forward then reverse), and
        the final state, shaped as ``state``.

    Raises:
        TypeError: the lengths, or x with an embedding, are not integers.
        ValueError: a name is missing or unknown, the shapes do not fit, a length is out of range.

    >>> names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    >>> weights = dict(zip(names, map(np.zeros, ((4, 2), (4, 1), 4, 4))))
    >>> weights["bias_ih_l0"][2] = np.inf  # g = 1 and the gates are 1/2: c_t = (c_{t-1} + 1) / 2
    >>> (y, (h, c)), _ = lstm_forward(np.zeros((3, 2)), weights)
    >>> c.tolist(), bool(np.isclose(y[2, 0], np.tanh(0.875) / 2))
    ([[0.875]], True)
    """
    x, layers = np.asarray(x), _layers(weights)
    check_probability(dropout, "dropout")
    given = {"x": x} if embedding is None else {"embedding": embedding}
    h0, c0 = (None, None) if state is None else state
    check_floats(**given, **weights, h0=h0, c0=c0)
    axes, shapes = (3, "(T, B, I) or (T, I)") if embedding is None else (2, "(T, B) or (T,)")
    single = x.ndim == axes - 1
    if not single and x.ndim != axes:
        raise ValueError(f"x must have shape {shapes}, got {x.shape}")
    if embedding is None:
        check_last_axis(x, weights[f"weight_ih_{layers[0][0]}"].shape[-1], "x")
    y = x[:, None] if single else x.swapaxes(0, 1) if batch_first else x  # (T, B, ...)
    steps, batch = y.shape[:2]
    if lengths is not None:
        lengths = check_ids(lengths, steps + 1, "lengths").astype(np.int64)
        check_shape(lengths, (batch,), "lengths")
        # whatever pads a sequence, NaN too, must not reach a product
        real = (np.arange(steps)[:, None] < lengths).reshape(steps, batch, *(1,) * (y.ndim - 2))
        y = np.where(real, y, np.zeros((), y.dtype))
    h0, c0 = _initial_state(state, layers, weights, batch, single)
    names = [name for name in NAMES if f"{name}_{layers[0][0]}" in weights]
    plain = "weight_ch" in names or steps * batch < FEW
    words: Words | EmbeddingCache | None = None
    if embedding is not None:
        # (T, B, I), or (T, B) as it is
        weights, y, words = _read(y, embedding, weights, layers[0], plain)
    directions: list[BatchLastCache | UnrolledLSTMCache] = []
    dropouts: list[DropoutCache] = []
    h_n, c_n = [], []
    for depth, suffixes in enumerate(layers):
        if depth > 0:
            y, dropped = dropout_forward(y, p=dropout, rng=rng)
            dropouts.append(dropped)
        width = len(words.embedding) if isinstance(words, Words) and depth == 0 else y.shape[-1]
        outputs = []
        for suffix in suffixes:
            k, reverse = len(directions), suffix.endswith("_reverse")
            own = _picked(weights, names, suffix, width, c0.shape[-1], h0.shape[-1])
            forward: Callable[..., Any] = batch_last_lstm_forward
            if plain:
                forward = unrolled_lstm_forward
            seen = _reversed(y, lengths) if reverse else y
            (out, (h, c)), direction = forward(seen, h0[k], c0[k], **own, lengths=lengths)
            outputs.append(_reversed(out, lengths) if reverse else out)
            h_n.append(h)
            c_n.append(c)
            directions.append(direction)
        y = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
    final = (np.stack(h_n), np.stack(c_n))
    if single:
        y, final = y[:, 0], (final[0][:, 0], final[1][:, 0])
    elif batch_first:
        y = y.swapaxes(0, 1)
    shapes_of_state = (final[0].shape, final[1].shape)
    layout = (lengths, single, batch_first, state is not None, y.shape, shapes_of_state)
    return (y, final), LSTMCache(layers, names, directions, dropouts, words, *layout)


def lstm_backward(
    dy: tuple[Array, State | None], cache: LSTMCache
) -> tuple[Array, dict[str, Array]] | tuple[Array, dict[str, Array], State]:
    """Return dx, dweights (by name) and, where a state was given, (dh0, dc0).

    Where an embedding was given, its gradient stands in the place of dx.

    Args:
        dy: (dy, (dh_n, dc_n)), shaped as the forward's result; None in place of the pair where
            the loss does not see the final state.
        cache: what :func:`lstm_forward` returned.
    """
    layers, names, directions, dropouts, words, lengths, single, batch_first, has_state, *_ = cache
    dout, dfinal = dy
    check_floats(dy=dout)
    check_shape(dout, cache.y_shape, "dy")
    if dfinal is not None:
        # (L, B, P) and (L, B, H), or without the batch
        dh_n, dc_n = dfinal
        check_floats(dy=dout, dh_n=dh_n, dc_n=dc_n)
        check_shape(dh_n, cache.state_shapes[0], "dh_n")
        check_shape(dc_n, cache.state_shapes[1], "dc_n")
    if single:
        dout = dout[:, None]
        dfinal = None if dfinal is None else (dfinal[0][:, None], dfinal[1][:, None])
    elif batch_first:
        dout = dout.swapaxes(0, 1)
    dh0: list[Array] = [np.zeros(())] * len(directions)
    dc0 = dh0.copy()
    dweights: dict[str, Array] = {}
    index = len(directions)
    for depth in reversed(range(len(layers))):
        suffixes = layers[depth]
        # y = concatenate(outputs)
        pieces = split_last(dout, len(suffixes))
        index -= len(suffixes)
        below: Any = None
        for offset, suffix in enumerate(suffixes):
            k = index + offset
            reverse = suffix.endswith("_reverse")
            piece = _reversed(pieces[offset], lengths) if reverse else pieces[offset]
            state = None if dfinal is None else (dfinal[0][k], dfinal[1][k])
            dseen, dh0[k], dc0[k], *own = _direction_backward((piece, state), directions[k])
            dweights.update(zip((f"{name}_{suffix}" for name in names), own, strict=True))
            if depth == 0 and isinstance(words, Words):
                continue  # there is no dx of words
            if reverse:
                dseen = _reversed(dseen, lengths)
            below = dseen if below is None else below + dseen
        # y = dropout(y)
        dout = below if depth == 0 else dropout_backward(below, dropouts[depth - 1])
    if isinstance(words, Words):
        # weights[name] = weight_ih @ embedding.T
        products = {name: dweights[name] for name in words.weights}
        dx = sum(d.T @ words.weights[name] for name, d in products.items())  # (V, I)
        dweights |= {name: d @ words.embedding for name, d in products.items()}  # (4H, I)
    elif words is not None:
        dx = embedding_backward(dout, words)
    else:
        dx = dout[:, 0] if single else dout.swapaxes(0, 1) if batch_first else dout
    if not has_state:
        return dx, dweights
    dstate = (np.stack(dh0), np.stack(dc0))
    return dx, dweights, (dstate[0][:, 0], dstate[1][:, 0]) if single else dstate


def _direction_backward(
    dy: tuple[Array, State | None], cache: BatchLastCache | UnrolledLSTMCache
) -> tuple[Any, ...]:
    """Return dx, dh0, dc0 and the gradients of a direction's weights."""
    if isinstance(cache, UnrolledLSTMCache):
        return unrolled_lstm_backward(dy, cache)
    return batch_last_lstm_backward(dy, cache)


def _read(
    ids: Ids,
    embedding: Array,
    weights: Mapping[str, Array],
    suffixes: list[str],
    plain: bool,
) -> tuple[Mapping[str, Array], Array, Words | EmbeddingCache]:
    """Return the weights, what the first layer is given, and what the backward needs of the words.

    A vocabulary not much larger than the embedding is wide stays ids: x is one-hot.
    """
    ids, (size, width) = check_ids(ids, len(embedding), "x"), embedding.shape
    if plain or size > 2 * width or size > ids.size:
        x, lookup = embedding_forward(ids, embedding)
        return weights, x, lookup
    first = {name: weights[name] for name in (f"weight_ih_{suffix}" for suffix in suffixes)}
    for name, weight in first.items():
        check_shape(weight, (len(weight), width), name)
    products = {name: weight @ embedding.T for name, weight in first.items()}  # (4H, V)
    return {**weights, **products}, ids, Words(embedding, first)


def lstm_gates(cache: LSTMCache) -> list[Array]:
    """Return i, f, g and o of each layer and direction, (T, B, 4, H), in the order of the states.

    Args:
        cache: what :func:`lstm_forward` returned.
    """
    return [direction.by_rows() for direction in cache.directions]


def _picked(
    weights: Mapping[str, Array],
    names: list[str],
    suffix: str,
    width: int,
    hidden: int,
    output_size: int,
) -> dict[str, Array]:
    """Return a direction's weights by name, their shapes checked."""
    shapes = {
        "weight_ih": (4 * hidden, width),
        "weight_hh": (4 * hidden, output_size),
        "bias_ih": (4 * hidden,),
        "bias_hh": (4 * hidden,),
        "weight_ch": (3 * hidden,),
        "weight_hr": (output_size, hidden),
    }
    for name in names:
        check_shape(weights[f"{name}_{suffix}"], shapes[name], f"{name}_{suffix}")
    return {name: weights[f"{name}_{suffix}"] for name in names}


def _layers(weights: Mapping[str, Array]) -> list[list[str]]:
    """Return the suffixes of each layer, read off the names: "l0", "l0_reverse" or both."""
    directions = [end for end in ("", "_reverse") if f"weight_ih_l0{end}" in weights] or [""]
    depth = sum(f"weight_ih_l{k}{directions[0]}" in weights for k in range(len(weights)))
    layers = [[f"l{k}{end}" for end in directions] for k in range(depth)]
    names = ["weight_ih", "weight_hh"]
    if f"bias_ih_l0{directions[0]}" in weights:
        names += ["bias_ih", "bias_hh"]
    names += [n for n in ("weight_hr", "weight_ch") if f"{n}_l0{directions[0]}" in weights]
    suffixes = [suffix for layer in layers for suffix in layer] or ["l0"]
    expected = {f"{name}_{suffix}" for suffix in suffixes for name in names}
    if missing := sorted(expected - set(weights)):
        raise ValueError(f"weights lacks {', '.join(missing)}")
    if unknown := sorted(set(weights) - expected):
        raise ValueError(f"weights has {', '.join(unknown)}, which fits no layer")
    return layers


def _initial_state(
    state: State | None,
    layers: list[list[str]],
    weights: Mapping[str, Array],
    batch: int,
    single: bool,
) -> State:
    """Return h0 and c0, (L, B, P) and (L, B, H): as given and checked, or zeros."""
    count = sum(map(len, layers))
    first = layers[0][0]
    hidden, hr = len(weights[f"weight_hh_{first}"]) // 4, weights.get(f"weight_hr_{first}")
    output_size = hidden if hr is None else len(hr)
    if state is None:
        dtype = weights[f"weight_hh_{first}"].dtype
        return np.zeros((count, batch, output_size), dtype), np.zeros((count, batch, hidden), dtype)
    h0, c0 = state
    middle = () if single else (batch,)
    check_shape(h0, (count, *middle, output_size), "h0")
    check_shape(c0, (count, *middle, hidden), "c0")
    return (h0[:, None], c0[:, None]) if single else (h0, c0)


def _reversed(x: Array, lengths: Ids | None) -> Array:
    """Reverse the steps of (T, B, ...), within each sequence's length; its own inverse."""
    if lengths is None:
        return x[::-1]
    steps = np.arange(len(x))[:, None]  # (T, 1)
    source = np.where(steps < lengths, lengths - 1 - steps, steps)  # (T, B)
    return x[source, np.arange(x.shape[1])]
