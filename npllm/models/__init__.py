"""Language models: one file a model, composed from layers, parameters in one flat vector."""

from npllm.models.lstm import LossAndGradients, LSTMLanguageModel
from npllm.models.parameters import Parameters

MODELS = {"lstm": LSTMLanguageModel}

__all__ = ["MODELS", "LSTMLanguageModel", "LossAndGradients", "Parameters"]
