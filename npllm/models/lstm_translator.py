"""LSTMs as a translator, with attention.

Luong, Pham and Manning, "Effective Approaches to Attention-based Neural Machine Translation"
(2015).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    attention_backward,
    attention_forward,
    dropout_backward,
    dropout_forward,
    embedding_backward,
    embedding_forward,
    linear_backward,
    linear_forward,
    lstm_backward,
    lstm_forward,
    tanh_backward,
    tanh_forward,
)
from npllm.layers.arrays import Array, Mask, check_ids, split_last
from npllm.layers.attention import AttentionCache, attention_weights
from npllm.layers.dropout import DropoutCache, RowsOfDraws
from npllm.layers.embedding import EmbeddingCache
from npllm.layers.linear import LinearCache
from npllm.layers.lstm import LSTMCache
from npllm.layers.lstm_cell import State
from npllm.models.encoder import checked_rows, real_places
from npllm.models.language_model import Views, check_options, check_sizes
from npllm.models.parameters import Parameters
from npllm.models.translator import Translator, TranslatorCache


class ReadState(NamedTuple):
    """What the decoder keeps: of the source, and its own.

    Attributes:
        memory: (B, S, H), the encoder's outputs.
        real: (B, S), which of them are real; None where all are.
        lstm: (h, c) of the decoder, each (L, B, H).
    """

    memory: Array
    real: Mask | None
    lstm: State


class EncoderCache(NamedTuple):
    """What the backward needs of :meth:`LSTMTranslator.encode`."""

    words: EmbeddingCache
    dropout: DropoutCache
    rnn: LSTMCache


class HiddenCache(NamedTuple):
    """What the backward needs of the decoder below its head."""

    words: EmbeddingCache
    dropout: DropoutCache
    rnn: LSTMCache
    asked: LinearCache
    attention: AttentionCache
    joined: LinearCache
    tanh: Array
    output: DropoutCache


class LSTMTranslator(Translator[ReadState, tuple[Array, State], EncoderCache, HiddenCache]):
    """An LSTM reads the source, another begins where it ended and writes, asking the first back.

    Global attention with the general score, equations 5 to 8, h_t the decoder's output and m_s the
    encoder's::

        a_t = softmax_s(h_t . W m_s)
        c_t = sum_s a_ts m_s
        o_t = tanh(W_c [c_t; h_t])
        logits = head o_t

    Args:
        source_size: how many words the source has.
        vocab_size: V, how many the target has.
        embed_size: E.
        hidden_size: H.
        num_layers: L, of the encoder and of the decoder.
        dropout: probability of zeroing an element of an embedded word, of an LSTM layer's output
            and of o_t.
        label_smoothing: of the loss in training.
        seed: of the initial weights, or a Generator to draw them from: normal for the tables of
            words, uniform within 1 / sqrt(H) for the rest. None leaves all zero.
        dtype: float32, float64 or, for the complex step, complex128.

    Raises:
        ValueError: a number is out of its range.

    >>> model = LSTMTranslator(source_size=5, vocab_size=7, embed_size=3, hidden_size=4)
    >>> state, _ = model.encode([[1, 2, 3]], [3])
    >>> logits, _ = model.predict([[model.mark, 4]], state)
    >>> logits.shape
    (1, 2, 8)
    """

    CHOICES: ClassVar[tuple[str, ...]] = (
        *("embed_size", "hidden_size", "num_layers", "dropout", "label_smoothing"),
    )
    context = None  # an LSTM reads on without end

    def __init__(
        self,
        source_size: int,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        *,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        sizes = {
            "source_size": source_size,
            "vocab_size": vocab_size,
            "embed_size": embed_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
        }
        check_options(dropout, dtype)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.config = {
            **check_sizes(sizes),
            "dropout": float(dropout),
            "label_smoothing": float(label_smoothing),
        }
        shapes: dict[str, tuple[int, ...]] = {
            "source.weight": (source_size, embed_size),
            "target.weight": (vocab_size + 1, embed_size),
        }
        for part in ("encoder", "decoder"):
            for layer in range(num_layers):
                width = embed_size if layer == 0 else hidden_size
                shapes[f"{part}.weight_ih_l{layer}"] = (4 * hidden_size, width)
                shapes[f"{part}.weight_hh_l{layer}"] = (4 * hidden_size, hidden_size)
                shapes[f"{part}.bias_ih_l{layer}"] = (4 * hidden_size,)
                shapes[f"{part}.bias_hh_l{layer}"] = (4 * hidden_size,)
        shapes["score.weight"] = (hidden_size, hidden_size)
        shapes["joined.weight"] = (hidden_size, 2 * hidden_size)
        shapes["head.weight"] = (vocab_size + 1, hidden_size)
        shapes["head.bias"] = (vocab_size + 1,)
        self.parameters = Parameters(shapes, dtype)
        if seed is not None:
            self._draw(np.random.default_rng(seed))

    def _draw(self, rng: np.random.Generator) -> None:
        """Draw the weights: words of size 1, of smaller ones the cells see next to nothing."""
        bound = 1 / math.sqrt(self.config["hidden_size"])
        for name, array in self.parameters.items():
            if name in ("source.weight", "target.weight"):
                array[...] = rng.standard_normal(array.shape)
            else:
                array[...] = rng.uniform(-bound, bound, array.shape)

    def _rnn(self, part: str) -> dict[str, Array]:
        """Return the weights of the encoder's LSTM, or the decoder's."""
        start = len(part) + 1
        return {n[start:]: a for n, a in self.parameters.items() if n.startswith(f"{part}.")}

    def encode(
        self,
        source: npt.ArrayLike,
        lengths: npt.ArrayLike,
        *,
        rng: np.random.Generator | None = None,
    ) -> tuple[ReadState, EncoderCache]:
        """Return what the decoder begins with, and the cache of :meth:`encode_backward`.

        Args:
            source: (B, S) ids.
            lengths: (B,) how much of each row is real, 1 or more.
            rng: draws the dropout masks; None turns dropout off.

        Raises:
            TypeError: they are not integers.
            ValueError: one is out of range.
        """
        p, rate = self.parameters, self.config["dropout"] if rng is not None else 0.0
        rows, ends = checked_rows(source, lengths, self.config["source_size"])
        e, words = embedding_forward(rows.T, p["source.weight"])  # (S, B, E)
        e, dropped = dropout_forward(e, p=rate, rng=rng)
        (memory, final), rnn = lstm_forward(
            e, self._rnn("encoder"), lengths=ends, dropout=rate, rng=rng
        )
        state = ReadState(memory.swapaxes(0, 1), real_places(ends, rows.shape[1]), final)
        return state, EncoderCache(words, dropped, rnn)

    def encode_backward(
        self, dstate: tuple[Array, State], cache: EncoderCache, gradients: Parameters
    ) -> None:
        """Add the gradients of the encoder.

        Args:
            dstate: those of the state's memory and of its (h, c).
            cache: what :meth:`encode` returned.
            gradients: to be added to.
        """
        # memory, final = lstm(e)
        dmemory, dfinal = dstate
        de, drnn, *_ = lstm_backward((dmemory.swapaxes(0, 1), dfinal), cache.rnn)
        for name, gradient in drnn.items():
            gradients[f"encoder.{name}"] += gradient
        # e = dropout(embedding(source))
        de = dropout_backward(de, cache.dropout)
        embedding_backward(de, cache.words, gradients["source.weight"])

    def hidden(
        self,
        ids: npt.ArrayLike,
        state: ReadState,
        *,
        lengths: npt.ArrayLike | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, ReadState, HiddenCache]:
        """Return what the head sees: see :class:`Translator`."""
        p, rate = self.parameters, self.config["dropout"] if rng is not None else 0.0
        rows = check_ids(ids, self.mark + 1)
        e, words = embedding_forward(rows.T, p["target.weight"])  # (T, B, E)
        e, dropped = dropout_forward(e, p=rate, rng=rng)
        options: dict[str, Any] = {"lengths": lengths, "dropout": rate, "rng": rng}
        (h, final), rnn = lstm_forward(e, self._rnn("decoder"), state.lstm, **options)  # (T, B, H)
        # h W m^T = (h W) m^T: as many products as there are words to write
        q, asked = linear_forward(h, p["score.weight"], None)
        seen = None if state.real is None else state.real[:, None]  # (B, 1, S)
        memory = state.memory
        c, attention = attention_forward(q.swapaxes(0, 1), memory, memory, mask=seen, scale=1.0)
        both = np.concatenate([c.swapaxes(0, 1), h], axis=-1)  # (T, B, 2H)
        o, joined = linear_forward(both, p["joined.weight"], None)
        o, tanh = tanh_forward(o)
        o, output = dropout_forward(o, p=rate, rng=rng)
        after = ReadState(state.memory, state.real, final)
        cache = HiddenCache(words, dropped, rnn, asked, attention, joined, tanh, output)
        return o.swapaxes(0, 1), after, cache

    def hidden_backward(
        self, do: Array, cache: HiddenCache, gradients: Parameters
    ) -> tuple[Array, State]:
        """Return the gradients of the memory and of (h, c), and add those of the decoder."""
        # o = dropout(tanh(linear([c; h], joined.weight)))
        do = tanh_backward(dropout_backward(do.swapaxes(0, 1), cache.output), cache.tanh)
        dboth, dweight = linear_backward(do, cache.joined)
        gradients["joined.weight"] += dweight
        dc, dh = split_last(dboth, 2)
        # c = attention(linear(h, score.weight), memory, memory)
        dq, dkeys, dvalues = attention_backward(dc.swapaxes(0, 1), cache.attention)
        dh_q, dweight = linear_backward(dq.swapaxes(0, 1), cache.asked)
        gradients["score.weight"] += dweight
        # h, final = lstm(e, state)
        de, drnn, *dstates = lstm_backward((dh + dh_q, None), cache.rnn)
        for name, gradient in drnn.items():
            gradients[f"decoder.{name}"] += gradient
        # e = dropout(embedding(ids))
        de = dropout_backward(de, cache.dropout)
        embedding_backward(de, cache.words, gradients["target.weight"])
        return dkeys + dvalues, dstates[0]

    def rows_of_state(self, state: ReadState, rows: npt.ArrayLike | slice) -> ReadState:
        """Return the state of some of the batch's rows, in any order, repeated or not."""
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        h, c = state.lstm
        real = None if state.real is None else state.real[rows]
        return ReadState(state.memory[rows], real, (h[:, rows], c[:, rows]))

    def views(self, cache: TranslatorCache) -> Views:
        """Return how much each word written takes of each of the source: (B, 1, T, S)."""
        return Views(attention=(attention_weights(cache.hidden.attention)[:, None],))

    def activations(self, batch: int, _: int) -> int:
        """Return B max(4 H, V) / 4, as a language model's LSTM has it."""
        hidden, vocabulary = self.config["hidden_size"], self.config["vocab_size"]
        return batch * max(4 * int(hidden), int(vocabulary)) // 4

    def rows_of_draws(
        self, rng: np.random.Generator, batch: int, rows: slice
    ) -> np.random.Generator:
        """Return what draws for some of the batch's rows as ``rng`` would for all of them."""
        return RowsOfDraws(rng, batch, rows, axis=1)  # (S, B, E), (T, B, E) and (T, B, H)
