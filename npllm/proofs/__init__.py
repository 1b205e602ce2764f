"""What ``npllm gradcheck`` proves: every layer and every model, in many configurations.

A case is a forward, its backward and arguments for :func:`npllm.checking.gradcheck`. Sizes are odd
and differ from one another, no parameter is trivial, ids repeat, and a layer that draws at random
draws the same mask each time.
"""

from __future__ import annotations

from functools import partial

from npllm import layers
from npllm.proofs.basic import (
    along_axis,
    attention,
    cross_entropy,
    dropout,
    elementwise,
    embedding,
    linear,
)
from npllm.proofs.case import Case, Cases
from npllm.proofs.lstm import language_model, lstm, lstm_cell
from npllm.proofs.transformer import (
    gpt,
    gpt_block,
    layer_norm,
    linear_cross_entropy,
    llama,
    llama_block,
    multi_head_attention,
    rms_norm,
    rotary,
    swiglu,
    tiled_attention,
)

__all__ = ["CASES", "Case", "Cases"]

CASES: dict[str, Cases] = {
    "embedding": embedding,
    "linear": linear,
    "sigmoid": partial(elementwise, layers.sigmoid_forward, layers.sigmoid_backward),
    "tanh": partial(elementwise, layers.tanh_forward, layers.tanh_backward),
    "relu": partial(elementwise, layers.relu_forward, layers.relu_backward),
    "gelu": partial(elementwise, layers.gelu_forward, layers.gelu_backward),
    "gelu_tanh": partial(
        elementwise, layers.gelu_forward, layers.gelu_backward, approximate="tanh"
    ),
    "silu": partial(elementwise, layers.silu_forward, layers.silu_backward),
    "softmax": partial(along_axis, layers.softmax_forward, layers.softmax_backward),
    "log_softmax": partial(along_axis, layers.log_softmax_forward, layers.log_softmax_backward),
    "logsumexp": partial(along_axis, layers.logsumexp_forward, layers.logsumexp_backward),
    "dropout": dropout,
    "attention": attention,
    "cross_entropy": cross_entropy,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "rotary": rotary,
    "swiglu": swiglu,
    "multi_head_attention": multi_head_attention,
    "tiled_attention": tiled_attention,
    "linear_cross_entropy": linear_cross_entropy,
    "lstm_cell": lstm_cell,
    "lstm": lstm,
    "LSTMLanguageModel": language_model,
    "gpt_block": gpt_block,
    "llama_block": llama_block,
    "GPT": gpt,
    "Llama": llama,
}
