"""The atlas of mistakes: wrong backward passes, each one plausible slip in npllm's own source.

Since a mistake is a variation of the source, it cannot drift from it. The tests apply each and
demand that the checker rejects it, and that the diagnosis names the cause where there is one.
"""

from npllm.atlas.attention import ATTENTION
from npllm.atlas.cross_entropy import CROSS_ENTROPY
from npllm.atlas.distributions import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from npllm.atlas.lstm import LSTM
from npllm.atlas.lstm_cell import LSTM_CELL
from npllm.atlas.mistake import Mistake
from npllm.atlas.models import MODEL
from npllm.atlas.pointwise import GELU, GELU_TANH, RELU, SIGMOID, SILU, TANH
from npllm.atlas.tables import DROPOUT, EMBEDDING, LINEAR
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
    *LSTM_CELL,
    *LSTM,
    *MODEL,
)

__all__ = ["MISTAKES", "Mistake", "Trial", "try_mistake"]
