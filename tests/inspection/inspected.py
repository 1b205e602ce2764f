"""Small models with large weights, and a text, for what the tests look at."""

import numpy as np
import pytest

from npllm.models import GPT, Llama, LSTMLanguageModel
from npllm.text import CharacterTokenizer

TEXT = "to be, or\n\tnot to be <i>"
CHARACTERS = CharacterTokenizer.train(TEXT)
V = len(CHARACTERS.vocabulary)
SIZES = {"context": 30, "width": 12, "num_layers": 2}
GROUPED = {**SIZES, "heads": 6, "kv_heads": 2, "head_size": 4}


def filled(model, scale=0.3, seed=0):
    rng = np.random.default_rng(seed)
    model.parameters.vector[:] = scale * rng.normal(size=model.parameters.vector.size)
    return model


def gpt(vocabulary=V):
    return filled(GPT(vocabulary, **SIZES, heads=3, dtype=np.float64))


def llama(window=3, **changes):
    return filled(Llama(V, **GROUPED, window=window, dtype=np.float64, **changes))


def lstm(vocabulary=V, **changes):
    return filled(LSTMLanguageModel(vocabulary, 5, 7, 2, dtype=np.float64, **changes), 0.8)


MODELS = {"gpt": gpt(), "llama": llama(), "lstm": lstm()}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
