"""Language models: one file a model, composed from layers, parameters in one flat vector."""

from typing import Any, TypeAlias

from npllm.models.bag_classifier import BagClassifier
from npllm.models.encoder_classifier import EncoderClassifier
from npllm.models.gpt import GPT
from npllm.models.language_model import LanguageModel
from npllm.models.llama import Llama
from npllm.models.lstm import LSTMLanguageModel
from npllm.models.lstm_classifier import LSTMClassifier
from npllm.models.lstm_translator import LSTMTranslator
from npllm.models.parameters import Parameters
from npllm.models.trainable import LossAndGradients, Trainable
from npllm.models.transformer_translator import TransformerTranslator

MODELS: dict[str, type[Any]] = {"lstm": LSTMLanguageModel, "gpt": GPT, "llama": Llama}
CLASSIFIERS: dict[str, type[Any]] = {
    "bag": BagClassifier,
    "bilstm": LSTMClassifier,
    "encoder": EncoderClassifier,
}
TRANSLATORS: dict[str, type[Any]] = {
    "transformer": TransformerTranslator,
    "lstm": LSTMTranslator,
}

AnyClassifier: TypeAlias = BagClassifier | LSTMClassifier | EncoderClassifier
AnyTranslator: TypeAlias = TransformerTranslator | LSTMTranslator

# all that are trained by gradients, by the names of their files: so checkpoints know them
KINDS: dict[str, type[Any]] = {
    model.__module__.rpartition(".")[2]: model
    for models in (MODELS, CLASSIFIERS, TRANSLATORS)
    for model in models.values()
}

__all__ = [
    "CLASSIFIERS",
    "GPT",
    "KINDS",
    "MODELS",
    "TRANSLATORS",
    "AnyClassifier",
    "AnyTranslator",
    "BagClassifier",
    "EncoderClassifier",
    "LSTMClassifier",
    "LSTMLanguageModel",
    "LSTMTranslator",
    "LanguageModel",
    "Llama",
    "LossAndGradients",
    "Parameters",
    "Trainable",
    "TransformerTranslator",
]
