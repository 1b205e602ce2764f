"""Language models: one file a model, composed from layers, parameters in one flat vector."""

from typing import Any

from npllm.models.gpt import GPT
from npllm.models.language_model import LanguageModel, LossAndGradients
from npllm.models.llama import Llama
from npllm.models.lstm import LSTMLanguageModel
from npllm.models.parameters import Parameters

MODELS: dict[str, type[Any]] = {"lstm": LSTMLanguageModel, "gpt": GPT, "llama": Llama}

__all__ = [
    "GPT",
    "MODELS",
    "LSTMLanguageModel",
    "LanguageModel",
    "Llama",
    "LossAndGradients",
    "Parameters",
]
