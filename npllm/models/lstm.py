"""The language model of section 5: Embedding, LSTM, Linear."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    dropout_backward,
    dropout_forward,
    embedding_backward,
    embedding_forward,
    linear_backward,
    linear_cross_entropy_forward,
    linear_cross_entropy_gradients,
    linear_forward,
    lstm_backward,
    lstm_forward,
)
from npllm.layers.arrays import Array, check_ids
from npllm.layers.dropout import DropoutCache, RowsOfDraws
from npllm.layers.embedding import EmbeddingCache
from npllm.layers.linear import LinearCache
from npllm.layers.lstm import LSTMCache, lstm_gates
from npllm.layers.lstm_cell import State
from npllm.models.language_model import (
    Views,
    check_options,
    check_sizes,
    last_tokens,
)
from npllm.models.parameters import Parameters
from npllm.models.trainable import LossAndGradients


class InputCache(NamedTuple):
    """Of the embedding and its dropout."""

    embedding: EmbeddingCache
    dropout: DropoutCache


class ForwardCache(NamedTuple):
    """What the backward needs of the forward, and the final state."""

    state: State
    input: InputCache | None  # None where the LSTM reads the words itself
    rnn: LSTMCache
    output: DropoutCache
    fc: LinearCache


class LSTMLanguageModel:
    """Section 5's model: logits = fc(rnn(embedding(ids))).

    ``parameters`` is its state dict: the names and shapes of the torch module in section 5
    (``embedding.weight``, ``rnn.weight_ih_l0``, ..., ``fc.bias``), so weights move both ways.

    Args:
        vocab_size: V.
        embed_size: E.
        hidden_size: H.
        num_layers: L, LSTM layers on top of one another.
        dropout: probability of zeroing an element of the embedding's output and of each LSTM
            layer's (Zaremba, Sutskever and Vinyals, "Recurrent Neural Network Regularization"
            (2014)); in effect where a Generator is passed.
        tie_weights: ``fc.weight`` is ``embedding.weight``, which needs E = H.
        seed: of the initial weights, or a Generator to draw them from. They follow torch's
            defaults: normal for the embedding, uniform within 1 / sqrt(H) for the rest; a tied
            matrix is uniform. None leaves all of them zero, for those that are to be loaded.
        dtype: float32, float64 or, for the complex step, complex128.

    Raises:
        ValueError: a size is not a positive integer, dropout is not in [0, 1), tied sizes
            differ, or the dtype is another.

    >>> model = LSTMLanguageModel(vocab_size=7, embed_size=4, hidden_size=5)
    >>> logits, _ = model.forward(np.array([[1, 2, 3], [4, 5, 6]]))
    >>> logits.shape
    (2, 3, 7)
    >>> model.parameters["fc.weight"] = model.parameters["fc.bias"] = 0
    >>> result = model.loss_and_gradients(np.array([[1, 2]]), np.array([[2, 3]]))
    >>> bool(np.isclose(result.loss, 2 * np.log(7)))  # 2 targets, equal scores
    True
    """

    CHOICES: ClassVar[tuple[str, ...]] = (
        "embed_size",
        "hidden_size",
        "num_layers",
        "dropout",
        "tie_weights",
    )
    TOKENS: ClassVar[str] = "embedding.weight"

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        tie_weights: bool = False,
        *,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        sizes = {
            "vocab_size": vocab_size,
            "embed_size": embed_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
        }
        config: dict[str, Any] = dict(check_sizes(sizes))
        check_options(dropout, dtype)
        if tie_weights and embed_size != hidden_size:
            raise ValueError(
                f"tie_weights needs embed_size = hidden_size, got {embed_size} and {hidden_size}"
            )
        self.config = {**config, "dropout": float(dropout), "tie_weights": bool(tie_weights)}
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocab_size, embed_size)}
        for layer in range(num_layers):
            width = embed_size if layer == 0 else hidden_size
            shapes[f"rnn.weight_ih_l{layer}"] = (4 * hidden_size, width)
            shapes[f"rnn.weight_hh_l{layer}"] = (4 * hidden_size, hidden_size)
            shapes[f"rnn.bias_ih_l{layer}"] = (4 * hidden_size,)
            shapes[f"rnn.bias_hh_l{layer}"] = (4 * hidden_size,)
        tied = {"fc.weight": "embedding.weight"} if tie_weights else {}
        if not tie_weights:
            shapes["fc.weight"] = (vocab_size, hidden_size)
        shapes["fc.bias"] = (vocab_size,)
        self.parameters = Parameters(shapes, dtype, tied)
        if seed is not None:
            self._initialize(np.random.default_rng(seed))

    @property
    def context(self) -> None:
        """None: an LSTM reads on without end."""
        return None

    def _initialize(self, rng: np.random.Generator) -> None:
        bound = 1 / math.sqrt(self.config["hidden_size"])
        for name in self.parameters.shapes:
            array = self.parameters[name]
            if name == "embedding.weight" and not self.config["tie_weights"]:
                array[...] = rng.standard_normal(array.shape)
            else:
                array[...] = rng.uniform(-bound, bound, array.shape)

    def forward(
        self,
        ids: npt.ArrayLike,
        state: State | None = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, ForwardCache]:
        """Return the logits of the next token at every position, and the backward's cache.

        Args:
            ids: (B, T) integers in [0, V).
            state: (h, c), each (L, B, H), to go on from; zeros where None.
            rng: draws the dropout masks; None turns dropout off.

        Returns:
            logits (B, T, V), and the cache of :meth:`backward`, whose ``state`` is the final one.

        Raises:
            TypeError: the ids are not integers.
            ValueError: an id is out of range, or ``ids`` is not (B, T).
        """
        (output, final), (inputs, rnn), rate = self._hidden(ids, state, rng, None)
        h, output_cache = dropout_forward(output, p=rate, rng=rng)
        p = self.parameters
        logits, fc_cache = linear_forward(h, p["fc.weight"], p["fc.bias"])  # (T, B, V)
        return logits.swapaxes(0, 1), ForwardCache(final, inputs, rnn, output_cache, fc_cache)

    def _hidden(
        self,
        ids: npt.ArrayLike,
        state: State | None,
        rng: np.random.Generator | None,
        lengths: npt.ArrayLike | None,
    ) -> tuple[tuple[Array, State], tuple[InputCache | None, LSTMCache], float]:
        """Return the LSTM's output (T, B, H) and state, the caches, and the dropout's rate."""
        p, rate = self.parameters, self.config["dropout"] if rng is not None else 0.0
        ids = check_ids(ids, self.config["vocab_size"])
        if ids.ndim != 2:
            raise ValueError(f"ids must have shape (B, T), got {ids.shape}")
        rnn = {name[4:]: array for name, array in p.items() if name.startswith("rnn.")}
        options: dict[str, Any] = {
            "state": state,
            "lengths": lengths,
            "dropout": rate,
            "rng": rng,
        }
        if rate == 0:
            # the same function, for less: the LSTM reads the words itself
            result, rnn_cache = lstm_forward(ids.T, rnn, embedding=p["embedding.weight"], **options)
            return result, (None, rnn_cache), rate
        e, embedding_cache = embedding_forward(ids.T, p["embedding.weight"])  # (T, B, E)
        x, dropout_cache = dropout_forward(e, p=rate, rng=rng)
        result, rnn_cache = lstm_forward(x, rnn, **options)
        return result, (InputCache(embedding_cache, dropout_cache), rnn_cache), rate

    def backward(self, dlogits: Array, cache: ForwardCache) -> Parameters:
        """Return the gradients of all parameters, by the parameters' names.

        The gradient stops at the initial and final state: backpropagation through time is truncated
        to the positions of this batch.

        Args:
            dlogits: (B, T, V).
            cache: what :meth:`forward` returned.
        """
        # logits = linear(h, fc.weight, fc.bias)
        dh, dweight, dbias = linear_backward(dlogits.swapaxes(0, 1), cache.fc)
        gradients = self.parameters.zeros_like()
        gradients["fc.weight"] += dweight
        gradients["fc.bias"] += dbias
        self._add_gradients(gradients, dh, cache.output, cache.rnn, cache.input)
        return gradients

    def _add_gradients(
        self,
        gradients: Parameters,
        dh: Array,
        output_cache: DropoutCache,
        rnn_cache: LSTMCache,
        inputs: InputCache | None,
    ) -> None:
        """Add those of all parameters but fc's, given that of fc's input (T, B, H)."""
        # h = dropout(output)
        doutput = dropout_backward(dh, output_cache)
        # output, final = lstm(x, rnn, state)
        dx, drnn, *_ = lstm_backward((doutput, None), rnn_cache)
        for name, gradient in drnn.items():
            gradients[f"rnn.{name}"] += gradient
        # a tied matrix adds to what fc gave it
        table = gradients["embedding.weight"]
        if inputs is None:  # the LSTM read the words itself
            table += dx
        else:  # x = dropout(embedding(ids, embedding.weight))
            dx = dropout_backward(dx, inputs.dropout)
            embedding_backward(dx, inputs.embedding, table)

    def layers(self, ids: npt.ArrayLike) -> list[Array]:
        """Return the embedded tokens (B, T, E), and what each layer makes of them, (B, T, H) each.

        Args:
            ids: as for :meth:`forward`.
        """
        p = self.parameters
        x, _ = embedding_forward(check_ids(ids, self.config["vocab_size"]), p[self.TOKENS])
        found = [x]
        for n in range(self.config["num_layers"]):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            own = {f"{name}_l0": p[f"rnn.{name}_l{n}"] for name in names}
            (x, _), _ = lstm_forward(x, own, batch_first=True)
            found.append(x)
        return found

    def views(self, cache: ForwardCache) -> Views:
        """Return each layer's gates i, f, g and o, (B, T, 4, H).

        Args:
            cache: what :meth:`forward` returned.
        """
        return Views(gates=tuple(gates.swapaxes(0, 1) for gates in lstm_gates(cache.rnn)))

    def loss_and_gradients(
        self,
        ids: npt.ArrayLike,
        targets: npt.ArrayLike,
        state: State | None = None,
        *,
        rng: np.random.Generator | None = None,
        gradients: Parameters | None = None,
    ) -> LossAndGradients:
        """Return the summed cross-entropy of the targets, its gradients, number and final state.

        Args:
            ids: (B, T) integers in [0, V).
            targets: (B, T): the token that follows each; -100 where none counts.
            state: as for :meth:`forward`.
            rng: as for :meth:`forward`.
            gradients: to be added to, and returned; new ones where None.
        """
        targets = np.asarray(targets)
        (output, final), (inputs, rnn_cache), rate = self._hidden(ids, state, rng, None)
        h, output_cache = dropout_forward(output, p=rate, rng=rng)  # (T, B, H)
        weight, bias = self.parameters["fc.weight"], self.parameters["fc.bias"]
        gradients = self.parameters.zeros_like() if gradients is None else gradients
        dfc = gradients["fc.weight"], gradients["fc.bias"]
        loss, (dh, *_) = linear_cross_entropy_gradients(h, weight, targets.T, bias, onto=dfc)
        self._add_gradients(gradients, dh, output_cache, rnn_cache, inputs)
        tokens = int(np.count_nonzero(targets != -100))
        return LossAndGradients(loss.item(), gradients, tokens, final)

    def predict(
        self,
        ids: npt.ArrayLike,
        state: State | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        last: bool = False,
    ) -> tuple[Array, State]:
        """Return the logits and the final state, without dropout.

        Args:
            ids: as for :meth:`forward`.
            state: as for :meth:`forward`.
            lengths: (B,) how much of each row is real, where it is filled up at its end.
            last: return the logits (B, 1, V) of each row's last real token alone.
        """
        (output, final), _, _ = self._hidden(ids, state, None, lengths)  # (T, B, H)
        if last:
            end = last_tokens(len(output), lengths)
            output = output[end, np.arange(output.shape[1])][None]
        logits, _ = linear_forward(output, self.parameters["fc.weight"], self.parameters["fc.bias"])
        return logits.swapaxes(0, 1), final

    def score(
        self, ids: npt.ArrayLike, targets: npt.ArrayLike, state: State | None = None
    ) -> tuple[float, State]:
        """Return the summed cross-entropy of the targets and the final state; no logits are kept.

        Args:
            ids: as for :meth:`forward`.
            targets: (B, T): the token that follows each; -100 where none counts.
            state: as for :meth:`forward`.
        """
        (output, final), _, _ = self._hidden(ids, state, None, None)  # (T, B, H)
        weight, bias = self.parameters["fc.weight"], self.parameters["fc.bias"]
        loss, _ = linear_cross_entropy_forward(output, weight, np.asarray(targets).T, bias)
        return loss.item(), final

    def initial_state(self, batch: int) -> State:
        """Return h and c of the first step, zeros, each (L, B, H)."""
        size = (self.config["num_layers"], batch, self.config["hidden_size"])
        dtype = self.parameters.vector.dtype
        return np.zeros(size, dtype), np.zeros(size, dtype)

    def activations(self, batch: int, _: int) -> int:
        """Return B max(4 H, V) / 4: a step of it has four gates, and one of the output V logits."""
        hidden, vocabulary = self.config["hidden_size"], self.config["vocab_size"]
        return batch * max(4 * int(hidden), int(vocabulary)) // 4

    def rows_of_state(self, state: State, rows: npt.ArrayLike | slice) -> State:
        """Return the state of some of the batch's rows, in any order, repeated or not."""
        h, c = state
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        return h[:, rows], c[:, rows]

    def rows_of_draws(
        self, rng: np.random.Generator, batch: int, rows: slice
    ) -> np.random.Generator:
        """Return what draws for some of the batch's rows as ``rng`` would for all of them."""
        return RowsOfDraws(rng, batch, rows, axis=1)  # (T, B, E) and (T, B, H)
