"""Wrong backward passes, each npllm's own source with one slip in it.

A mutant names a function, a piece of its source that occurs there once, and what a tired person
might have written instead. The first group are the mistakes found in public code; each says so.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from npllm import layers
from npllm.layers import lstm, lstm_direction
from npllm.models import LSTMLanguageModel


class Mutant(NamedTuple):
    """One slip, and the case of ``npllm.proofs`` that must catch it."""

    slip: str
    layer: str
    label: str
    function: Callable[..., Any]
    source: str
    replacement: str

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run the function with the slip in it, wherever it is called from."""
        text = textwrap.dedent(inspect.getsource(self.function))
        assert text.count(self.source) == 1, f"{self.source!r} must occur once in the source"
        scope = dict(self.function.__globals__)
        exec(compile(text.replace(self.source, self.replacement), "mutant", "exec"), scope)
        original = self.function.__code__
        self.function.__code__ = scope[self.function.__name__].__code__
        try:
            yield
        finally:
            self.function.__code__ = original


_lstm_step = lstm_direction.lstm_direction_backward
_cross_entropy = layers.cross_entropy_backward
_model = LSTMLanguageModel.backward

IN_THE_WILD = [
    Mutant(
        "gradient of K computed as (D, T), then reshaped as if it were (T, D)",
        "attention",
        "plain",
        layers.attention_backward,
        "dproduct.swapaxes(-1, -2) @ q",
        "(q.swapaxes(-1, -2) @ dproduct).reshape(k.shape)",
    ),
    Mutant(
        "the weights before dropout used in the backward: right at p = 0 only",
        "attention",
        "dropout",
        layers.attention_forward,
        "caches, dropped, y.shape",
        "caches, weights, y.shape",
    ),
    Mutant(
        "the backward returns what came in",
        "attention",
        "plain",
        layers.attention_backward,
        "dq = dproduct @ k",
        "dq = dy[..., : q.shape[-1]]",
    ),
    Mutant(
        "the derivative of sigmoid applied to the gate's output",
        "lstm",
        "one layer",
        lstm_direction._factors,
        "factors = 1 - gates\n    factors *= gates",
        "factors = np.exp(-gates) / (1 + np.exp(-gates)) ** 2",
    ),
    Mutant(
        "no path through the recurrent weights",
        "lstm",
        "one layer",
        _lstm_step,
        "da[t] @ weights.hh, dc_t *",
        "np.zeros_like(h0), dc_t *",
    ),
    Mutant(
        "gates of step t paired with the hidden state of t instead of t - 1",
        "lstm",
        "one layer",
        _lstm_step,
        "as_rows(h[:-1])",
        "as_rows(h[1:])",
    ),
    Mutant(
        "the first step skipped",
        "lstm",
        "one layer",
        _lstm_step,
        "    # gates = shares[ids]",
        "    da[0] = 0",
    ),
    Mutant(
        "the parameter added to its gradient",
        "lstm",
        "one layer",
        _lstm_step,
        "dshares.T @ as_rows(x)",
        "dshares.T @ as_rows(x) + weights.ih",
    ),
    Mutant(
        "the gradient clipped inside the layer",
        "lstm",
        "one layer",
        _lstm_step,
        "    # gates = shares[ids]",
        "    da = np.clip(da, -0.1, 0.1)",
    ),
    Mutant(
        "the folded weights used in the backward",
        "lstm",
        "one layer",
        _lstm_step,
        "dshares @ weights.ih",
        "dshares @ (weights.ih * _gate_constants(h0.shape[1], x.dtype)[0][:, None])",
    ),
    Mutant(
        "dW[ids] += dy drops repeated ids",
        "embedding",
        "repeated ids",
        layers.embedding_backward,
        "dweight = x.T @ dy",
        "dweight = np.zeros((vocabulary, width), dtype)\n    dweight[ids.ravel()] += dy",
    ),
    Mutant(
        "the loss a mean, its derivative a sum",
        "cross_entropy",
        "ids, mean",
        _cross_entropy,
        "dy / divisor",
        "dy * 1",
    ),
    Mutant(
        "dropout's backward multiplies by the output instead of the mask",
        "dropout",
        "p = 0.3",
        layers.dropout_forward,
        "x * mask, (mask, x.shape)",
        "x * mask, (x * mask, x.shape)",
    ),
]

PLAUSIBLE = [
    Mutant(
        "the row of padding_idx trained",
        "embedding",
        "padding_idx",
        layers.embedding_backward,
        "dweight[padding_idx] = 0",
        "pass",
    ),
    Mutant(
        "the weight's gradient transposed, then reshaped",
        "linear",
        "bias",
        layers.linear_backward,
        "dy.T @ rows",
        "(rows.T @ dy).reshape(weight.shape)",
    ),
    Mutant(
        "the bias averaged over the rows",
        "linear",
        "bias",
        layers.linear_backward,
        "dy.sum(axis=0)",
        "dy.mean(axis=0)",
    ),
    Mutant(
        "sigmoid's derivative without 1 - y",
        "sigmoid",
        "small",
        layers.sigmoid_backward,
        "dy * y * (1 - y)",
        "dy * y",
    ),
    Mutant(
        "sigmoid applied once more",
        "sigmoid",
        "small",
        layers.sigmoid_backward,
        "y = cache",
        "y = sigmoid(cache)",
    ),
    Mutant(
        "1 - y in place of 1 - y^2",
        "tanh",
        "small",
        layers.tanh_backward,
        "1 - y * y",
        "1 - y",
    ),
    Mutant(
        "tanh applied once more",
        "tanh",
        "small",
        layers.tanh_backward,
        "y = cache",
        "y = np.tanh(cache)",
    ),
    Mutant(
        "the gradient let through everywhere",
        "relu",
        "small",
        layers.relu_backward,
        "positive = cache",
        "positive = np.ones_like(cache)",
    ),
    Mutant(
        "the sign of the gradient tested instead of the input's",
        "relu",
        "small",
        layers.relu_backward,
        "positive = cache",
        "positive = dy > 0",
    ),
    Mutant(
        "the term x Phi'(x) dropped",
        "gelu",
        "small",
        layers.gelu_backward,
        "(phi + x * slope)",
        "phi",
    ),
    Mutant(
        "the density without its 1 / sqrt(2 pi)",
        "gelu",
        "small",
        layers.gelu_backward,
        "* (1 / math.sqrt(2 * math.pi))",
        "* 1",
    ),
    Mutant(
        "the 3 of the cube's derivative lost",
        "gelu_tanh",
        "small",
        layers.gelu_backward,
        "3 * 0.044715",
        "0.044715",
    ),
    Mutant(
        "the 2 of 2 Phi (1 - Phi) lost",
        "gelu_tanh",
        "small",
        layers.gelu_backward,
        "2 * phi * (1 - phi)",
        "phi * (1 - phi)",
    ),
    Mutant(
        "x forgotten in x s (1 - s)",
        "silu",
        "small",
        layers.silu_backward,
        "s + x * s * (1 - s)",
        "s + s * (1 - s)",
    ),
    Mutant(
        "sigmoid's derivative for silu's",
        "silu",
        "small",
        layers.silu_backward,
        "s + x * s * (1 - s)",
        "s * (1 - s)",
    ),
    Mutant(
        "softmax's coupling term dropped",
        "softmax",
        "axis -1",
        layers.softmax_backward,
        "(dy - (y * dy).sum(axis=axis, keepdims=True))",
        "dy * (1 - y)",
    ),
    Mutant(
        "the mean in place of the sum",
        "softmax",
        "axis -1",
        layers.softmax_backward,
        "(y * dy).sum(",
        "(y * dy).mean(",
    ),
    Mutant(
        "the sum always over the last axis",
        "softmax",
        "axis 0",
        layers.softmax_backward,
        "axis=axis",
        "axis=-1",
    ),
    Mutant(
        "the term p sum(dy) dropped",
        "log_softmax",
        "axis -1",
        layers.log_softmax_backward,
        "dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)",
        "dy * 1",
    ),
    Mutant(
        "log p in place of p",
        "log_softmax",
        "axis -1",
        layers.log_softmax_backward,
        "np.exp(y)",
        "y",
    ),
    Mutant(
        "the probabilities not normalized",
        "logsumexp",
        "axis -1",
        layers.logsumexp_forward,
        "p /= total",
        "pass",
    ),
    Mutant(
        "the gradient handed to every score alike",
        "logsumexp",
        "axis -1",
        layers.logsumexp_backward,
        "p * np",
        "np.ones_like(p) * np",
    ),
    Mutant(
        "1 / (1 - p) forgotten in the backward",
        "dropout",
        "p = 0.3",
        layers.dropout_backward,
        "dy * mask",
        "dy * (mask != 0)",
    ),
    Mutant(
        "dropout forgotten in the backward",
        "dropout",
        "p = 0.3",
        layers.dropout_backward,
        "dy * mask",
        "dy.copy()",
    ),
    Mutant(
        "1 / sqrt(D) lost in the backward",
        "attention",
        "plain",
        layers.attention_backward,
        "dscores * scale",
        "dscores * 1",
    ),
    Mutant(
        "1 / sqrt(D) applied twice",
        "attention",
        "plain",
        layers.attention_backward,
        "dq = dproduct @ k",
        "dq = dproduct @ k * scale",
    ),
    Mutant(
        "the dropout of the weights forgotten on the way back",
        "attention",
        "dropout",
        layers.attention_backward,
        "dropout_backward(unbroadcast(ddropped, dropped.shape), dropout_cache)",
        "unbroadcast(ddropped, dropped.shape)",
    ),
    Mutant(
        "the bias scaled like the scores",
        "attention",
        "bias",
        layers.attention_backward,
        "unbroadcast(dscores, bias_shape)",
        "unbroadcast(dscores * scale, bias_shape)",
    ),
    Mutant(
        "the gradient of the returned weights forgotten",
        "attention",
        "weights returned",
        layers.attention_backward,
        "dweights += dweights_returned",
        "pass",
    ),
    Mutant(
        "a key shared by the heads gets the gradient of the first head only",
        "attention",
        "broadcast",
        layers.attention_backward,
        "unbroadcast(dk, k.shape)",
        "dk[:, :1]",
    ),
    Mutant(
        "the weight of the class forgotten",
        "cross_entropy",
        "ids, class weights",
        _cross_entropy,
        "dlogits *= row_weight[..., None]",
        "pass",
    ),
    Mutant(
        "ignored rows trained",
        "cross_entropy",
        "ids, mean",
        _cross_entropy,
        "dlogits *= row_weight[..., None]",
        "dlogits *= np.ones_like(row_weight)[..., None]",
    ),
    Mutant(
        "p - y although the weighted y does not sum to one",
        "cross_entropy",
        "distribution, class weights",
        _cross_entropy,
        "dlogits *= q.sum(axis=-1, keepdims=True)",
        "pass",
    ),
    Mutant(
        "the smoothing forgotten in the gradient of the targets",
        "cross_entropy",
        "distribution, label smoothing",
        _cross_entropy,
        "(-factor * dloss)",
        "(-1 * dloss)",
    ),
    Mutant(
        "the cell reached through c' only, not through h'",
        "lstm_cell",
        "bias",
        layers.lstm_cell_backward,
        "dc_next + dh_next * o * (1 - tanh_c * tanh_c)",
        "dc_next * 1",
    ),
    Mutant(
        "the candidate's tanh differentiated as a sigmoid",
        "lstm_cell",
        "bias",
        layers.lstm_cell_backward,
        "dg * (1 - g * g)",
        "dg * g * (1 - g)",
    ),
    Mutant(
        "input and forget gate exchanged",
        "lstm_cell",
        "bias",
        layers.lstm_cell_backward,
        "di * i * (1 - i), df * f * (1 - f)",
        "df * f * (1 - f), di * i * (1 - i)",
    ),
    Mutant(
        "the cell's gradient not carried from step to step",
        "lstm",
        "one layer",
        _lstm_step,
        "dc_t += dc",
        "pass",
    ),
    Mutant(
        "the forget gate paired with the cell of its own step",
        "lstm",
        "one layer",
        _lstm_step,
        "_factors(gates, cells[:-1], tanh_cells)",
        "_factors(gates, cells[1:], tanh_cells)",
    ),
    Mutant(
        "tanh(c) used where its derivative is due",
        "lstm",
        "one layer",
        lstm_direction._factors,
        "tanh_cells * tanh_cells",
        "tanh_cells * 1",
    ),
    Mutant(
        "the cell's gradient handed on without the forget gate",
        "lstm",
        "one layer",
        _lstm_step,
        "dc_t * _four(gates[t])[1]",
        "dc_t * 1",
    ),
    Mutant(
        "the gradient of the final state forgotten",
        "lstm",
        "one layer",
        lstm.lstm_backward,
        "(None, None) if dfinal is None",
        "(None, None) if True",
    ),
    Mutant(
        "the state's gradient lost beyond a sequence's end",
        "lstm",
        "lengths",
        _lstm_step,
        "dc_previous += np.where(real[t], np.zeros((), dc.dtype), dc)",
        "pass",
    ),
    Mutant(
        "padding steps trained",
        "lstm",
        "lengths",
        _lstm_step,
        "dh_t *= real[t]",
        "pass",
    ),
    Mutant(
        "the reverse direction's gradient not turned round",
        "lstm",
        "bidirectional",
        lstm.lstm_backward,
        "if reverse and caches[k].lookup is None:",
        "if False:",
    ),
    Mutant(
        "one direction's gradient overwrites the other's",
        "lstm",
        "bidirectional",
        lstm.lstm_backward,
        "dseen if below is None else below + dseen",
        "dseen",
    ),
    Mutant(
        "the dropout between layers forgotten on the way back",
        "lstm",
        "two layers, dropout",
        lstm.lstm_backward,
        "dropout_backward(below, dropout_caches[depth - 1]) if depth > 0 else below",
        "below",
    ),
    Mutant(
        "the projection's gradient from the last step only",
        "lstm",
        "projection",
        _lstm_step,
        "dhr += dh_t.T @ shown[t]",
        "dhr = dh_t.T @ shown[t]",
    ),
    Mutant(
        "a tied matrix keeps the embedding's share only",
        "LSTMLanguageModel",
        "tied weights",
        _model,
        'gradients["embedding.weight"] +=',
        'gradients["embedding.weight"] =',
    ),
    Mutant(
        "the dropout of the embedding forgotten on the way back",
        "LSTMLanguageModel",
        "two layers, dropout",
        _model,
        "dropout_backward(dx, dropout_cache)",
        "dx",
    ),
    Mutant(
        "the logits' gradient not turned to time-major",
        "LSTMLanguageModel",
        "section 5",
        _model,
        "dlogits.swapaxes(0, 1)",
        "dlogits.reshape(dlogits.shape[1], dlogits.shape[0], -1)",
    ),
]

MUTANTS = IN_THE_WILD + PLAUSIBLE
