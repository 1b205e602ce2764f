"""The mathematics: one file an equation, a forward and its backward in each.

Every layer is a pair of pure functions::

    y, cache = name_forward(x, weight, ...)
    dx, dweight, ... = name_backward(dy, cache)

* ``dy`` has the structure of ``y``; the gradients come back in the order of the arguments, each
  with its argument's shape. An argument that was not given (no bias, say) has no gradient.
* Inputs and ``dy`` are never written to, and nothing that comes back shares memory with them.
  The cache keeps what the backward needs by reference: leave ``x`` and ``y`` as they are until
  the backward has run.
* All floating arguments of a call have one dtype, float32 or float64 (or complex), which is that of
  the result; ``dy`` has it too. Integers, booleans, float16 and a mixture are a TypeError that
  names the argument; constants (masks, target distributions, class weights, the cosines of
  positions) are brought to it. Forwards are analytic functions of their floating arguments, so the
  complex step proves their backwards.
* What underflows is zero, whatever the caller's ``np.errstate``.
  Arrays have at least one axis (NumPy before 2 turns a single float32 number into float64).
* Layouts, defaults and semantics are those of torch, unless a docstring says otherwise.

"Section 4.2" and the like are those of the seed document, told in ``docs/en/sections.md``.
"""

import sys as _sys

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
from npllm.layers.arrays import underflowing as _underflowing
from npllm.layers.attention import attention_backward, attention_forward
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.dropout import dropout_backward, dropout_forward
from npllm.layers.embedding import embedding_backward, embedding_forward, one_hot
from npllm.layers.gru_cell import gru_cell_backward, gru_cell_forward
from npllm.layers.linear import linear_backward, linear_forward
from npllm.layers.linear_cross_entropy import (
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
    linear_cross_entropy_gradients,
)
from npllm.layers.lstm import lstm_backward, lstm_forward
from npllm.layers.lstm_cell import lstm_cell_backward, lstm_cell_forward
from npllm.layers.multi_head_attention import (
    multi_head_attention_backward,
    multi_head_attention_forward,
)
from npllm.layers.norm import (
    layer_norm_backward,
    layer_norm_forward,
    rms_norm_backward,
    rms_norm_forward,
)
from npllm.layers.positions import alibi_bias, alibi_slopes, sinusoidal_positions
from npllm.layers.projected_attention import (
    projected_attention_backward,
    projected_attention_forward,
)
from npllm.layers.rotary import (
    rotary_backward,
    rotary_forward,
    rotary_frequencies,
    rotary_table,
)
from npllm.layers.softmax import (
    log_softmax_backward,
    log_softmax_forward,
    logsumexp_backward,
    logsumexp_forward,
    softmax_backward,
    softmax_forward,
)
from npllm.layers.swiglu import swiglu_backward, swiglu_forward
from npllm.layers.tiled_attention import tiled_attention_backward, tiled_attention_forward
from npllm.layers.unrolled_lstm import unrolled_lstm_backward, unrolled_lstm_forward

__all__ = [
    "alibi_bias",
    "alibi_slopes",
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
    "gru_cell_backward",
    "gru_cell_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_backward",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_forward",
    "linear_cross_entropy_gradients",
    "linear_forward",
    "log_softmax_backward",
    "log_softmax_forward",
    "logsumexp_backward",
    "logsumexp_forward",
    "lstm_backward",
    "lstm_cell_backward",
    "lstm_cell_forward",
    "lstm_forward",
    "multi_head_attention_backward",
    "multi_head_attention_forward",
    "one_hot",
    "projected_attention_backward",
    "projected_attention_forward",
    "relu_backward",
    "relu_forward",
    "rms_norm_backward",
    "rms_norm_forward",
    "rotary_backward",
    "rotary_forward",
    "rotary_frequencies",
    "rotary_table",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "sinusoidal_positions",
    "softmax_backward",
    "softmax_forward",
    "swiglu_backward",
    "swiglu_forward",
    "tanh_backward",
    "tanh_forward",
    "tiled_attention_backward",
    "tiled_attention_forward",
    "unrolled_lstm_backward",
    "unrolled_lstm_forward",
]

# What is called from outside, here and in its own module: one function, which can be pickled. A
# layer that is made of others calls them as they are written.
for _name in __all__:
    _function = globals()[_name]
    if callable(_function) and not isinstance(_function, type):
        globals()[_name] = _underflowing(_function)
        setattr(_sys.modules[_function.__module__], _name, globals()[_name])
del _name, _function
