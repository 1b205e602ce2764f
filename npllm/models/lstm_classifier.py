"""A classifier of texts that reads both ways, and weighs what it has read."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    linear_backward,
    linear_forward,
    lstm_backward,
    lstm_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)
from npllm.layers.arrays import Array, Ids
from npllm.layers.linear import LinearCache
from npllm.layers.lstm import LSTMCache
from npllm.layers.softmax import SoftmaxCache
from npllm.models.classifier import Classifier
from npllm.models.encoder import (
    real_places,
)
from npllm.models.language_model import check_sizes
from npllm.models.parameters import Parameters


class LSTMPoolCache(NamedTuple):
    """What the backward needs of the forward."""

    rnn: LSTMCache
    h: Array  # (B, T, 2H)
    hidden: LinearCache
    tanh: Array
    context: LinearCache
    softmax: SoftmaxCache
    weights: Array  # (B, T)


class LSTMClassifier(Classifier[LSTMPoolCache]):
    """An LSTM that reads both ways, its outputs weighed by attention.

    Yang et al., "Hierarchical Attention Networks for Document Classification" (2016), equations 5
    to 7, of a whole text::

        u_t = tanh(W h_t + b)
        a_t = exp(u_t . v) / sum_s exp(u_s . v)
        pooled = sum_t a_t h_t

    Args:
        vocab_size: V.
        classes: C.
        embed_size: E.
        hidden_size: H, of each direction, and the width of u.
        num_layers: L.
        dropout: probability of zeroing an element of an embedded word and of an LSTM layer's
            output on its way to the next.
        seed: see :class:`Classifier`.
        dtype: see there.

    >>> model = LSTMClassifier(vocab_size=5, classes=3, embed_size=4, hidden_size=6)
    >>> short, _ = model.forward([[1, 2]], [2])
    >>> filled, _ = model.forward([[1, 2, 0, 0]], [2])
    >>> bool(np.allclose(short, filled))
    True
    """

    CHOICES: ClassVar[tuple[str, ...]] = ("embed_size", "hidden_size", "num_layers", "dropout")
    AXIS = 1

    def __init__(
        self,
        vocab_size: int,
        classes: int,
        embed_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        *,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        sizes = {
            "vocab_size": vocab_size,
            "classes": classes,
            "embed_size": embed_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
        }
        sizes = check_sizes(sizes)
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(num_layers):
            width = embed_size if layer == 0 else 2 * hidden_size
            for suffix in (f"l{layer}", f"l{layer}_reverse"):
                shapes[f"rnn.weight_ih_{suffix}"] = (4 * hidden_size, width)
                shapes[f"rnn.weight_hh_{suffix}"] = (4 * hidden_size, hidden_size)
                shapes[f"rnn.bias_ih_{suffix}"] = (4 * hidden_size,)
                shapes[f"rnn.bias_hh_{suffix}"] = (4 * hidden_size,)
        shapes["attention.weight"] = (hidden_size, 2 * hidden_size)
        shapes["attention.bias"] = (hidden_size,)
        shapes["context.weight"] = (1, hidden_size)
        super().__init__(sizes, dropout, embed_size, shapes, 2 * hidden_size, seed, dtype)

    def pooled_forward(
        self, e: Array, lengths: Ids, rate: float, rng: np.random.Generator | None
    ) -> tuple[Array, LSTMPoolCache]:
        """Return what the LSTM makes of the words, weighed."""
        p = self.parameters
        rnn = {name[4:]: array for name, array in p.items() if name.startswith("rnn.")}
        (h, _), rnn_cache = lstm_forward(e, rnn, lengths=lengths, dropout=rate, rng=rng)
        h = h.swapaxes(0, 1)  # (B, T, 2H)
        u, hidden = linear_forward(h, p["attention.weight"], p["attention.bias"])  # (B, T, H)
        u, tanh = tanh_forward(u)
        s, context = linear_forward(u, p["context.weight"], None)  # (B, T, 1)
        real = real_places(lengths, len(e))
        scores = s[..., 0] if real is None else np.where(real, s[..., 0], -np.inf)
        weights, softmax = softmax_forward(scores)  # (B, T)
        pooled = np.einsum("bt,bth->bh", weights, h)
        return pooled, LSTMPoolCache(rnn_cache, h, hidden, tanh, context, softmax, weights)

    def pooled_backward(self, dy: Array, cache: LSTMPoolCache, gradients: Parameters) -> Array:
        """Return de, and add the gradients of the LSTM and of the attention."""
        # pooled = sum_t weights[t] h[t]
        dweights = np.einsum("bh,bth->bt", dy, cache.h)
        dh = cache.weights[..., None] * dy[:, None]
        # weights = softmax(where(real, s, -inf)): what is not real has a weight of 0, and ds = 0
        ds = softmax_backward(dweights, cache.softmax)
        # s = linear(u, context.weight)
        du, dcontext = linear_backward(ds[..., None], cache.context)
        gradients["context.weight"] += dcontext
        # u = tanh(linear(h, attention.weight, attention.bias))
        du = tanh_backward(du, cache.tanh)
        dh_u, dweight, dbias = linear_backward(du, cache.hidden)
        gradients["attention.weight"] += dweight
        gradients["attention.bias"] += dbias
        # h = lstm(e)
        de, drnn, *_ = lstm_backward(((dh + dh_u).swapaxes(0, 1), None), cache.rnn)
        for name, gradient in drnn.items():
            gradients[f"rnn.{name}"] += gradient
        return de
