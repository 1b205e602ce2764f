"""The oracles of public checkpoints, and small models in which no parameter is trivial."""

import numpy as np
import pytest

from npllm.models import GPT, Llama

GPT_SIZES = {"vocab_size": 13, "context": 16, "width": 12, "num_layers": 2, "heads": 3}
LLAMA_SIZES = {
    "vocab_size": 13,
    "context": 16,
    "width": 12,
    "num_layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "hidden_size": 20,
    "head_size": 6,
}


@pytest.fixture(scope="session")
def gguf(oracle):
    return oracle("gguf")


def filled(model, seed=5):
    """The model with random weights of float32's precision, so that no format rounds them."""
    vector = model.parameters.vector
    vector[...] = np.random.default_rng(seed).normal(size=vector.size, scale=0.3).astype(np.float32)
    return model


@pytest.fixture
def make_gpt():
    return lambda **options: filled(GPT(**{**GPT_SIZES, "dtype": np.float64, **options}))


@pytest.fixture
def make_llama():
    return lambda **options: filled(Llama(**{**LLAMA_SIZES, "dtype": np.float64, **options}))


@pytest.fixture
def ids():
    return np.random.default_rng(3).integers(13, size=(2, 11))


@pytest.fixture
def write(tmp_path):
    """Write the bytes of a GGUF file."""

    def written(content):
        path = tmp_path / "some.gguf"
        path.write_bytes(content)
        return path

    return written
