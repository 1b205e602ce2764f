"""A small model that was really trained, beside the NumPy code and autograd that made it."""

import importlib.resources

import numpy as np
import pytest

from npllm.generation import generate
from npllm.models import Llama
from npllm.sampling import Sampling

TEXT = "The old man looked at the sea, and said that it would be a long time before they came back."


@pytest.fixture(scope="module")
def glass(oracle):
    """Return its model in float64, and its tokenizer."""
    glassllm = oracle("glassllm")
    folder = importlib.resources.files(glassllm) / "weights"
    model = glassllm.GlassLM.load(folder / "en.npz", dtype=np.float64)
    return model, glassllm.Tokenizer.load(folder / "en.tokenizer.json")


def ours(name):
    """Return what npllm calls a parameter of theirs, and whether its matrix lies the other way."""
    if name in ("E", "norm_f.gamma"):
        return {"E": "model.embed_tokens.weight"}.get(name, "model.norm.weight"), False
    _, block, *rest = name.split(".")
    layer = {
        "norm1.gamma": "input_layernorm",
        "attn.W_Q": "self_attn.q_proj",
        "attn.W_K": "self_attn.k_proj",
        "attn.W_V": "self_attn.v_proj",
        "attn.W_O": "self_attn.o_proj",
        "norm2.gamma": "post_attention_layernorm",
        "ffn.W1": "mlp.gate_proj",
        "ffn.W3": "mlp.up_proj",
        "ffn.W2": "mlp.down_proj",
    }[".".join(rest)]
    return f"model.layers.{block}.{layer}.weight", rest[-1] != "gamma"


@pytest.fixture(scope="module")
def build(glass):
    """Return a function that makes the model of its weights, with rotary pairs one way or other."""
    model, _ = glass
    c = model.cfg
    weights = {}
    for name, parameter in model.named_parameters().items():
        own, turned = ours(name)
        weights[own] = parameter.data.T if turned else parameter.data

    def made(interleaved):
        llama = Llama(
            c.vocab_size,
            c.max_len,
            c.d_model,
            c.n_layers,
            c.n_heads,
            c.n_kv_heads,
            hidden_size=int(8 * c.d_model / 3),
            tie_weights=True,
            rope_base=c.rope_base,
            eps=c.eps,
            interleaved=interleaved,
            dtype=np.float64,
        )
        llama.parameters.load(weights)
        return llama

    return made


def test_logits_loss_and_every_gradient_are_those_of_its_autograd(glass, build):
    theirs, tokenizer = glass
    model = build(interleaved=True)
    assert model.parameters.vector.size == 852_608
    ids = np.array(tokenizer.encode(TEXT))[None]
    expected = theirs.forward(ids).data
    np.testing.assert_allclose(
        model.predict(ids)[0], expected, atol=1e-12 * np.abs(expected).max(), rtol=0
    )
    loss = theirs.loss(ids[:, :-1], ids[:, 1:])
    loss.backward()
    result = model.loss_and_gradients(ids[:, :-1], ids[:, 1:])
    assert result.loss / result.tokens == pytest.approx(float(loss.data), rel=1e-12)
    for name, parameter in theirs.named_parameters().items():
        own, turned = ours(name)
        gradient = result.gradients[own] / result.tokens
        gradient = gradient.T if turned else gradient
        error = np.abs(gradient - parameter.grad).max()
        assert error <= 1e-12 * np.abs(parameter.grad).max(), name


def test_it_has_learned_english_and_has_pairs_of_its_own(glass, build):
    _, tokenizer = glass
    ids = np.array(tokenizer.encode(TEXT))[None]
    model, other = build(interleaved=True), build(interleaved=False)
    loss, _ = model.score(ids[:, :-1], ids[:, 1:])
    assert loss / (ids.size - 1) < np.log(1024) - 2  # nats below equal scores
    # the wrong pairs make a model that is another, and not even always a worse one
    assert np.abs(other.predict(ids)[0] - model.predict(ids)[0]).max() > 1


def test_it_goes_on_with_the_same_words(glass, build):
    theirs, tokenizer = glass
    prompt = tokenizer.encode("The old man")
    expected = [step.token for step in theirs.generate(prompt, 30, greedy=True)]
    greedy = Sampling(temperature=0)
    rng = np.random.default_rng(0)
    assert list(generate(build(True), np.array(prompt), 30, rng, greedy)) == expected
