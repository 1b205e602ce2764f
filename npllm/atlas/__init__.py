"""The atlas of mistakes: wrong backward passes, each one plausible slip in npllm's own source.

Since a mistake is a variation of the source, it cannot drift from it. The tests apply each and
demand that the checker rejects it, and that the diagnosis names the cause where there is one.
"""

from npllm.atlas.attention import ATTENTION
from npllm.atlas.blocks import GPT_BLOCK, LLAMA_BLOCK
from npllm.atlas.cross_entropy import CROSS_ENTROPY
from npllm.atlas.distributions import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from npllm.atlas.linear_cross_entropy import LINEAR_CROSS_ENTROPY
from npllm.atlas.lstm import LSTM
from npllm.atlas.lstm_cell import LSTM_CELL
from npllm.atlas.mistake import Mistake
from npllm.atlas.models import MODEL
from npllm.atlas.multi_head_attention import MULTI_HEAD_ATTENTION
from npllm.atlas.norms import LAYER_NORM, RMS_NORM
from npllm.atlas.pointwise import GELU, GELU_TANH, RELU, SIGMOID, SILU, TANH
from npllm.atlas.rotary import ROTARY
from npllm.atlas.swiglu import SWIGLU
from npllm.atlas.tables import DROPOUT, EMBEDDING, LINEAR
from npllm.atlas.tiled_attention import TILED_ATTENTION
from npllm.atlas.transformer import GPT, LLAMA
from npllm.atlas.trial import Trial, try_mistake

MISTAKES: tuple[Mistake, ...] = (
    *EMBEDDING,
    *LINEAR,
    *SIGMOID,
    *TANH,
    *RELU,
    *GELU,
    *GELU_TANH,
    *SILU,
    *SOFTMAX,
    *LOG_SOFTMAX,
    *LOGSUMEXP,
    *DROPOUT,
    *ATTENTION,
    *CROSS_ENTROPY,
    *LAYER_NORM,
    *RMS_NORM,
    *ROTARY,
    *SWIGLU,
    *MULTI_HEAD_ATTENTION,
    *TILED_ATTENTION,
    *LINEAR_CROSS_ENTROPY,
    *LSTM_CELL,
    *LSTM,
    *MODEL,
    *GPT_BLOCK,
    *LLAMA_BLOCK,
    *GPT,
    *LLAMA,
)

__all__ = ["MISTAKES", "Mistake", "Trial", "try_mistake"]
