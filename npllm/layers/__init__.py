"""The mathematics: one file an equation, a forward and its backward in each.

Every layer is a pair of pure functions::

    y, cache = name_forward(x, weight, ...)
    dx, dweight, ... = name_backward(dy, cache)

* ``dy`` has the structure of ``y``; the gradients come back in the order of the arguments, each
  with its argument's shape. An argument that was not given (no bias, say) has no gradient.
* Inputs and ``dy`` are never written to, and nothing that comes back shares memory with them.
  The cache keeps what the backward needs by reference: leave ``x`` and ``y`` as they are until
  the backward has run.
* The dtype of the input is the dtype of the output: float32, float64 or complex128. Forwards are
  analytic functions of their floating arguments, so the complex step proves their backwards.
  Arrays have at least one axis (NumPy before 2 turns a single float32 number into float64).
* Layouts, defaults and semantics are those of torch, unless a docstring says otherwise.
"""

from npllm.layers.activations import (
    gelu_backward,
    gelu_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    silu_backward,
    silu_forward,
    tanh_backward,
    tanh_forward,
)
from npllm.layers.attention import attention_backward, attention_forward
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.dropout import dropout_backward, dropout_forward
from npllm.layers.embedding import embedding_backward, embedding_forward, one_hot
from npllm.layers.linear import linear_backward, linear_forward
from npllm.layers.lstm import lstm_backward, lstm_forward
from npllm.layers.lstm_cell import lstm_cell_backward, lstm_cell_forward
from npllm.layers.softmax import (
    log_softmax_backward,
    log_softmax_forward,
    logsumexp_backward,
    logsumexp_forward,
    softmax_backward,
    softmax_forward,
)

__all__ = [
    "attention_backward",
    "attention_forward",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "embedding_forward",
    "gelu_backward",
    "gelu_forward",
    "linear_backward",
    "linear_forward",
    "log_softmax_backward",
    "log_softmax_forward",
    "logsumexp_backward",
    "logsumexp_forward",
    "lstm_backward",
    "lstm_cell_backward",
    "lstm_cell_forward",
    "lstm_forward",
    "one_hot",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softmax_backward",
    "softmax_forward",
    "tanh_backward",
    "tanh_forward",
]
