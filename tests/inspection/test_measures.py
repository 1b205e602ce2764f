"""What a model makes of a text: each number against another computation."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from inspected import CHARACTERS, MODELS, TEXT, V, every_model, filled, gpt, llama

from npllm.inspection import MOST_TOKENS, inspect, page
from npllm.models import LSTMLanguageModel
from npllm.training import evaluate
from npllm.training.workers import Workers


@every_model
def test_the_numbers_are_those_of_the_predictions(model):
    found = inspect(model, CHARACTERS, TEXT)
    ids = CHARACTERS.encode(TEXT).tolist()
    assert found.ids.tolist() == ids
    assert "".join(found.tokens) == TEXT
    logits = model.predict([ids])[0][0]
    for place in range(1, len(ids) + 1):
        p = np.exp(logits[place - 1])
        p /= p.sum()
        likeliest = sorted(range(len(p)), key=lambda i: (-p[i], i))
        assert found.top_ids[place - 1].tolist() == likeliest[:10]
        assert "".join(found.top_tokens[place - 1]) == CHARACTERS.decode(likeliest[:10])
        np.testing.assert_allclose(
            np.exp(found.top_log_probabilities[place - 1]), p[likeliest[:10]], rtol=1e-12
        )
        if place < len(ids):
            assert found.ranks[place - 1] == likeliest.index(ids[place]) + 1
            np.testing.assert_allclose(found.nats[place - 1], -math.log(p[ids[place]]), rtol=1e-12)
            np.testing.assert_allclose(found.bits[place - 1], -math.log2(p[ids[place]]), rtol=1e-12)


@every_model
def test_the_measures_are_those_of_evaluate(model):
    found = inspect(model, CHARACTERS, TEXT)
    expected = evaluate(Workers(model), CHARACTERS, CHARACTERS.encode(TEXT))
    for name in ("loss", "perplexity", "bits_per_character"):
        np.testing.assert_allclose(getattr(found.whole, name), getattr(expected, name), rtol=1e-12)


@every_model
def test_looking_changes_nothing(model):
    before, ids = model.parameters.vector.copy(), CHARACTERS.encode(TEXT)[None]
    first, _ = model.predict(ids)
    one, same = (page(inspect(model, CHARACTERS, TEXT), "m") for _ in range(2))
    assert one == same
    np.testing.assert_array_equal(model.predict(ids)[0], first)
    np.testing.assert_array_equal(model.parameters.vector, before)


def softmax(x):
    e = np.exp(x - max(x))
    return e / e.sum()


def maps(q, k, window=None):
    """Return each head's weights, (N, T, T), from q (T, N, D) and k (T, N, D), number by number."""
    steps, heads, size = q.shape
    found = np.zeros((heads, steps, steps))
    for n in range(heads):
        for t in range(steps):
            first = 0 if window is None else max(0, t - window + 1)
            scores = [q[t, n] @ k[s, n] / math.sqrt(size) for s in range(first, t + 1)]
            found[n, t, first : t + 1] = softmax(scores)
    return found


def mixed(weights, v):
    return np.einsum("nts,snd->tnd", weights, v).reshape(len(v), -1)


def gpt_by_hand(model, ids):
    p, heads = model.parameters, model.config["heads"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        centred /= np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return centred * p[name + ".weight"] + p[name + ".bias"]

    def gelu(x):
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    x = p["transformer.wte.weight"][ids] + p["transformer.wpe.weight"][: len(ids)]
    for n in range(model.config["num_layers"]):
        at = f"transformer.h.{n}."

        def linear(x, name, at=at):
            return x @ p[at + name + ".weight"] + p[at + name + ".bias"]

        q, k, v = np.split(linear(norm(x, at + "ln_1"), "attn.c_attn"), 3, axis=-1)
        q, k, v = (a.reshape(len(ids), heads, -1) for a in (q, k, v))
        weights = maps(q, k)
        yield weights
        x = x + linear(mixed(weights, v), "attn.c_proj")
        x = x + linear(gelu(linear(norm(x, at + "ln_2"), "mlp.c_fc")), "mlp.c_proj")


def llama_by_hand(model, ids, window):
    p, c = model.parameters, model.config

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p[name + ".weight"]

    def turned(x):  # (T, N, D): feature j and j + D / 2 are a complex number
        half = c["head_size"] // 2
        angles = np.outer(np.arange(len(x)), 10000.0 ** (-np.arange(half) / half))
        z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)[:, None]
        return np.concatenate([z.real, z.imag], axis=-1)

    x = p["model.embed_tokens.weight"][ids]
    for n in range(c["num_layers"]):
        at = f"model.layers.{n}."

        def linear(x, name, at=at):
            return x @ p[at + name + "_proj.weight"].T

        a = norm(x, at + "input_layernorm")
        q, k, v = (
            linear(a, f"self_attn.{name}").reshape(len(ids), -1, c["head_size"]) for name in "qkv"
        )
        k, v = (np.repeat(shared, c["heads"] // c["kv_heads"], axis=1) for shared in (turned(k), v))
        weights = maps(turned(q), k, window)
        yield weights
        x = x + linear(mixed(weights, v), "self_attn.o")
        m = norm(x, at + "post_attention_layernorm")
        gate = linear(m, "mlp.gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(m, "mlp.up"), "mlp.down")


@pytest.mark.parametrize("window", [None, 3])
def test_the_maps_of_a_llama_are_those_by_hand(window):
    model = llama(window)
    found = inspect(model, CHARACTERS, TEXT).attention
    expected = list(llama_by_hand(model, CHARACTERS.encode(TEXT), window))
    assert len(found) == len(expected) == 2
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # negative control: another window is another map
    other = np.stack(list(llama_by_hand(model, CHARACTERS.encode(TEXT), 4)))
    assert np.abs(np.stack(found) - other).max() > 0.01


def test_the_maps_of_a_gpt_are_those_by_hand():
    found = inspect(MODELS["gpt"], CHARACTERS, TEXT).attention
    expected = list(gpt_by_hand(MODELS["gpt"], CHARACTERS.encode(TEXT)))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # negative control: heads are not one another
    assert np.abs(found[0][0] - expected[0][1]).max() > 0.01


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_a_token_looks_back_only_and_spreads_what_it_has(name):
    for layer in inspect(MODELS[name], CHARACTERS, TEXT).attention:
        np.testing.assert_allclose(layer.sum(axis=-1), 1, rtol=1e-12)
        assert (layer >= 0).all()
        assert (np.triu(layer, 1) == 0).all()


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_what_a_model_remembers_is_looked_at_too(name):
    model, ids = MODELS[name], CHARACTERS.encode(TEXT)[None]
    whole = model.views(model.forward(ids)[1]).attention
    _, memory = model.predict(ids[:, :9])
    rest = model.views(model.forward(ids[:, 9:], memory)[1]).attention
    np.testing.assert_allclose(rest, [layer[:, :, 9:] for layer in whole], atol=1e-12)


def test_the_gates_of_an_lstm_are_those_of_its_equations():
    model = MODELS["lstm"]
    found = inspect(model, CHARACTERS, TEXT)
    assert found.attention == ()
    p, x = model.parameters, model.parameters["embedding.weight"][CHARACTERS.encode(TEXT)]
    for layer in range(2):
        w_ih, w_hh, b_ih, b_hh = (
            p[f"rnn.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = c = np.zeros(7)
        out, means = [], []
        for t in range(len(x)):
            a = np.split(w_ih @ x[t] + b_ih + w_hh @ h + b_hh, 4)
            i, f, o = (1 / (1 + np.exp(-a[n])) for n in (0, 1, 3))
            c = f * c + i * np.tanh(a[2])
            h = o * np.tanh(c)
            out.append(h)
            means.append([i.mean(), f.mean(), o.mean()])
        np.testing.assert_allclose(found.gates[layer], means, rtol=1e-12)
        x = np.array(out)


def test_of_equal_tokens_the_smaller_id_comes_first():
    model = LSTMLanguageModel(V, 3, 3)
    model.parameters["fc.weight"] = model.parameters["fc.bias"] = 0
    found = inspect(model, CHARACTERS, TEXT)
    assert found.top_ids[0].tolist() == list(range(10))
    assert found.ranks.tolist() == (CHARACTERS.encode(TEXT)[1:] + 1).tolist()
    assert found.whole.perplexity == pytest.approx(V)


def test_of_one_token_there_is_what_comes_next():
    found = inspect(MODELS["gpt"], CHARACTERS, "t")
    assert math.isnan(found.whole.loss)
    assert math.isnan(found.whole.bits_per_character)
    assert found.top_ids.shape == (1, 10)
    assert found.attention[0].tolist() == [[[1.0]]] * 3


@pytest.mark.parametrize(
    ("text", "model", "message"),
    [
        ("", MODELS["gpt"], "the text must hold at least one token, got none"),
        ("t" * 31, MODELS["gpt"], "the model has 30 positions, and the text 31 tokens"),
        ("t" * 257, MODELS["lstm"], "the page has room for 256 tokens, and the text has 257"),
        ("to be?", MODELS["gpt"], "the vocabulary lacks '?'"),
    ],
)
def test_a_text_that_cannot_be_shown(text, model, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        inspect(model, CHARACTERS, text)


def test_the_longest_text_fits():
    assert len(inspect(MODELS["lstm"], CHARACTERS, "t" * MOST_TOKENS).ids) == MOST_TOKENS


def test_a_model_that_has_diverged_is_told():
    with pytest.raises(ValueError, match="its training has diverged"):
        inspect(filled(gpt(), np.inf), CHARACTERS, TEXT)
