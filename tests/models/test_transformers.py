"""GPT and Llama: the framework's numbers, weights both ways, and what a memory owes."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.layers import (
    cross_entropy_backward,
    cross_entropy_forward,
    multi_head_attention_backward,
    multi_head_attention_forward,
    tiled_attention_forward,
)
from npllm.models import GPT, Llama, transformer

IDS = np.random.default_rng(0).integers(11, size=(3, 7))
TARGETS = np.random.default_rng(1).integers(11, size=(3, 7))
TARGETS[1, 2] = -100


def filled(model: Any, seed: int = 0, scale: float = 0.3) -> Any:
    rng = np.random.default_rng(seed)
    model.parameters.vector[:] = scale * rng.normal(size=model.parameters.vector.size)
    return model


def small_gpt(**changes: Any) -> GPT:
    return filled(GPT(**{**GPT_SIZES, **changes}, dtype=np.float64))


def small_llama(**changes: Any) -> Llama:
    return filled(Llama(**{**LLAMA_SIZES, **changes}, dtype=np.float64))


GPT_SIZES = {"vocab_size": 11, "context": 9, "width": 12, "num_layers": 3, "heads": 4}
LLAMA_SIZES = {
    "vocab_size": 11,
    "context": 9,
    "width": 12,
    "num_layers": 3,
    "heads": 6,
    "kv_heads": 2,
    "head_size": 4,
    "hidden_size": 20,
}
MODELS = {
    "gpt": small_gpt(),
    "llama": small_llama(),
    "llama, window, tied": small_llama(window=3, tie_weights=True),
    "llama, interleaved": small_llama(interleaved=True),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def theirs(transformers: Any, torch: Any, model: Any) -> Any:
    """Return the framework's model with the same weights, in float64 throughout."""
    c = model.config
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    if isinstance(model, GPT):
        config = transformers.GPT2Config(
            vocab_size=c["vocab_size"],
            n_positions=c["context"],
            n_embd=c["width"],
            n_layer=c["num_layers"],
            n_head=c["heads"],
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
            **tokens,
        )
        other = transformers.GPT2LMHeadModel(config).double()
    else:
        build = transformers.LlamaForCausalLM, transformers.LlamaConfig
        window = {}
        if c["window"] is not None:  # the same model, with a window
            build = transformers.MistralForCausalLM, transformers.MistralConfig
            window = {"sliding_window": c["window"]}
        make, configure = build
        config = configure(
            vocab_size=c["vocab_size"],
            hidden_size=c["width"],
            intermediate_size=c["hidden_size"],
            num_hidden_layers=c["num_layers"],
            num_attention_heads=c["heads"],
            num_key_value_heads=c["kv_heads"],
            head_dim=c["head_size"],
            max_position_embeddings=c["context"],
            rms_norm_eps=c["eps"],
            rope_parameters={"rope_type": "default", "rope_theta": c["rope_base"]},
            tie_word_embeddings=c["tie_weights"],
            **window,
            **tokens,
        )
        other = make(config).double()
        lift_casts(torch, other, c)
    state = {name: torch.tensor(array) for name, array in model.parameters.items()}
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not missing
    assert not unexpected
    return other.eval()


def lift_casts(torch: Any, model: Any, config: dict[str, Any]) -> None:
    """Let the framework's Llama compute in float64 where it goes through float32."""
    size = config["head_size"]
    frequencies = config["rope_base"] ** (-torch.arange(0, size, 2).double() / size)

    def rotary(x: Any, position_ids: Any = None, **_: Any) -> Any:
        angles = position_ids[..., None].double() * frequencies
        both = torch.cat([angles, angles], dim=-1)
        return both.cos(), both.sin()

    model.model.rotary_emb.forward = rotary
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = lambda x, m=module: torch.nn.functional.rms_norm(
                x, x.shape[-1:], m.weight, m.variance_epsilon
            )


@pytest.mark.parametrize("name", ["gpt", "llama", "llama, window, tied"])
def test_logits_loss_and_gradients_are_those_of_the_framework(
    transformers: Any, torch: Any, name: str
) -> None:
    model = MODELS[name]
    other = theirs(transformers, torch, model)
    expected = other(torch.tensor(IDS)).logits
    logits, _ = model.forward(IDS)
    assert relative(logits, expected.detach().numpy()) < 1e-12
    loss = torch.nn.functional.cross_entropy(
        expected.flatten(0, 1), torch.tensor(TARGETS).flatten(), reduction="sum"
    )
    loss.backward()
    result = model.loss_and_gradients(IDS, TARGETS)
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    assert result.tokens == 20
    for parameter, p in other.named_parameters():
        assert relative(result.gradients[parameter], p.grad.numpy()) < 1e-12, parameter


def relative(got: Any, want: Any) -> float:
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def test_the_other_pairing_is_another_model(transformers: Any, torch: Any) -> None:
    wrong = small_llama(interleaved=True)
    expected = theirs(transformers, torch, MODELS["llama"])(torch.tensor(IDS)).logits
    assert relative(wrong.forward(IDS)[0], expected.detach().numpy()) > 1e-3


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_weights_go_both_ways(transformers: Any, torch: Any, name: str) -> None:
    other = theirs(transformers, torch, MODELS[name])
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.01)
    model = small_gpt() if name == "gpt" else small_llama()
    model.parameters.load({n: p.numpy() for n, p in other.state_dict().items()})
    assert relative(model.forward(IDS)[0], other(torch.tensor(IDS)).logits.detach().numpy()) < 1e-12


@every_model
@given(seed=st.integers(0, 99), cut=st.integers(1, 6))
def test_a_memory_stands_for_what_was_read(model: Any, seed: int, cut: int) -> None:
    ids = np.random.default_rng(seed).integers(11, size=(2, 7))
    whole, _ = model.predict(ids)
    first, memory = model.predict(ids[:, :cut])
    second, after = model.predict(ids[:, cut:], memory)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-12)
    again, _ = model.predict(ids[:, cut:], memory)  # a memory is not used up
    np.testing.assert_array_equal(again, second)
    np.testing.assert_allclose(model.predict(ids, last=True)[0], whole[:, -1:], atol=1e-12)
    assert after.lengths.tolist() == [7, 7]


@every_model
@given(seed=st.integers(0, 99), lengths=st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_a_padded_batch_is_its_rows_alone(model: Any, seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    ids, more = rng.integers(11, size=(3, 5)), rng.integers(11, size=(3, 3))
    logits, memory = model.predict(ids, lengths=lengths)
    last, _ = model.predict(ids, lengths=lengths, last=True)
    following, memory = model.predict(more[:, :2], memory, lengths=[2, 1, 2])
    final, _ = model.predict(more[:, 2:], memory)
    for b, length in enumerate(lengths):
        own, state = model.predict(ids[b : b + 1, :length])
        np.testing.assert_allclose(logits[b, :length], own[0], atol=1e-12)
        np.testing.assert_allclose(last[b, 0], own[0, -1], atol=1e-12)
        kept = 1 if b == 1 else 2
        own, state = model.predict(more[b : b + 1, :kept], state)
        np.testing.assert_allclose(following[b, :kept], own[0], atol=1e-12)
        own, _ = model.predict(more[b : b + 1, 2:], state)
        np.testing.assert_allclose(final[b], own[0], atol=1e-12)


@every_model
def test_rows_of_a_memory_are_selected(model: Any) -> None:
    _, memory = model.predict(IDS[:, :4], lengths=[4, 2, 3])
    rows = [2, 0, 0]
    got, _ = model.predict(IDS[rows, 4:6], model.rows_of_state(memory, rows))
    whole, _ = model.predict(IDS[:, 4:6], memory)
    own, _ = model.predict(IDS[[0], 4:6], model.rows_of_state(memory, [0]))
    np.testing.assert_allclose(got[1], own[0], atol=1e-12)
    np.testing.assert_allclose(whole[0], own[0], atol=1e-12)


@every_model
def test_both_ways_to_the_gradients_agree(model: Any) -> None:
    logits, cache = model.forward(IDS)
    loss, loss_cache = cross_entropy_forward(logits, TARGETS, reduction="sum")
    gradients = model.backward(cross_entropy_backward(1.0, loss_cache), cache)
    at_once = model.loss_and_gradients(IDS, TARGETS)
    assert at_once.loss == pytest.approx(float(loss), rel=1e-14)
    np.testing.assert_allclose(at_once.gradients.vector, gradients.vector, atol=1e-12)
    assert at_once.state is None


@every_model
def test_long_texts_come_in_tiles_with_the_same_numbers(model: Any, monkeypatch: Any) -> None:
    def run() -> list[Any]:
        padded, memory = model.predict(IDS[:, :4], lengths=[4, 2, 3])
        following, _ = model.predict(IDS[:, 4:], memory)
        learned = model.loss_and_gradients(IDS, TARGETS)
        loss, _ = model.score(IDS, TARGETS)
        real = [padded[b, :length] for b, length in enumerate((4, 2, 3))]
        return [*real, following, learned.loss, learned.gradients.vector, loss]

    plain, tiles = run(), []
    module = sys.modules["npllm.layers.multi_head_attention"]
    monkeypatch.setattr(
        module,
        "tiled_attention_forward",
        lambda *args, **options: tiles.append(1) or tiled_attention_forward(*args, **options),
    )
    monkeypatch.setattr(transformer, "SCORES", 0)
    run()
    assert not tiles  # many short texts are no long one
    with monkeypatch.context() as patch:
        patch.setattr(transformer, "LONG", IDS.shape[1] ** 2)
        run()  # of what is run, loss_and_gradients and score have as many
        patch.setattr(transformer, "LONG", IDS.shape[1] ** 2 + 1)
        run()
    assert len(tiles) == 2 * model.config["num_layers"]
    tiles.clear()
    monkeypatch.setattr(transformer, "SCORES_OF_A_HEAD", 0)
    for got, expected in zip(run(), plain, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)
    assert len(tiles) == 4 * model.config["num_layers"]
    # not where the weights are to be seen, nor where they are dropped
    _, cache = model.forward(IDS)
    assert len(model.views(cache).attention) == model.config["num_layers"]
    dropping = type(model)(**{**model.config, "dropout": 0.5})
    dropping.loss_and_gradients(IDS, TARGETS, rng=np.random.default_rng(0))
    assert len(tiles) == 4 * model.config["num_layers"]


def test_the_memory_of_a_long_prompt_does_not_grow_with_its_square() -> None:
    steps = 2048
    model, ids = GPT(5, steps, 16, 1, 8), np.zeros((1, steps), int)

    def peak(tiled: bool) -> int:
        tracemalloc.start()
        model.hidden_forward(ids, keep=False, tiled=tiled)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    weights = 4 * 8 * steps**2  # bytes
    assert peak(True) < weights / 4
    assert peak(False) > weights  # a control


def test_the_memory_of_long_rows_and_a_window_does_not_either() -> None:
    steps = 2048
    model = Llama(5, steps, 16, 1, 8, window=16)
    ids, lengths = np.zeros((2, steps), int), [steps, 9]
    tracemalloc.start()
    model.predict(ids, lengths=lengths, last=True)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * steps**2 / 2  # a float for each pair of a row's tokens would be twice as much


@pytest.mark.parametrize("build", [GPT, Llama])
def test_dropout_is_drawn_from_the_generator(build: Any) -> None:
    model = filled(build(11, 9, 12, 2, 3, dropout=0.5, dtype=np.float64))

    def run(rng: Any) -> Any:
        return model.forward(IDS, rng=rng)[0]

    one, same, other = (run(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
    assert np.abs(one - run(None)).max() > 0.01
    np.testing.assert_array_equal(run(None), model.predict(IDS)[0])


@pytest.mark.parametrize("build", [GPT, Llama])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_the_dtype_is_kept(build: Any, dtype: Any) -> None:
    model = build(11, 9, 12, 2, 3, dtype=dtype)
    logits, cache = model.forward(IDS)
    assert logits.dtype == dtype
    assert model.backward(logits, cache).vector.dtype == dtype
    assert {a.dtype for block in cache.state.blocks for a in block} == {np.dtype(dtype)}


def test_initial_weights() -> None:
    model = GPT(1000, 64, 96, 8, 4, seed=1)
    p = model.parameters
    assert p["transformer.wte.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert p["transformer.h.3.mlp.c_proj.weight"].std() == pytest.approx(0.02 / 4, rel=0.02)
    assert (p["transformer.h.3.ln_1.weight"] == 1).all()
    assert not p["transformer.h.3.attn.c_attn.bias"].any()
    assert p["lm_head.weight"] is p["transformer.wte.weight"]
    again, other = GPT(1000, 64, 96, 8, 4, seed=1), GPT(1000, 64, 96, 8, 4, seed=2)
    np.testing.assert_array_equal(again.parameters.vector, p.vector)
    assert (other.parameters.vector != p.vector).any()
    llama = Llama(1000, 64, 96, 2, 4, seed=1)
    assert llama.config["hidden_size"] == 256
    assert llama.parameters["lm_head.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert (llama.parameters["model.norm.weight"] == 1).all()
    for build in (GPT, Llama):  # gains of norms included, which the seeds above set to one
        assert not build(1000, 64, 96, 2, 4, seed=None).parameters.vector.any()


@pytest.mark.parametrize(
    ("build", "changes", "message"),
    [
        (small_gpt, {"heads": 5}, "heads must divide width=12, got 5"),
        (small_gpt, {"width": 0}, "width must be a positive integer, got 0"),
        (small_gpt, {"context": 2.5}, "context must be a positive integer, got 2.5"),
        (small_gpt, {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        (small_llama, {"kv_heads": 4}, "kv_heads must divide heads=6, got 4"),
        (small_llama, {"head_size": 3}, "head_size must be even to turn, got 3"),
        (small_llama, {"head_size": None, "width": 10}, "heads must divide width=10, got 6"),
        (small_llama, {"window": 0}, "window must be a positive integer, got 0"),
        (small_llama, {"rope_scaling": {"rope_type": "magic", "factor": 2}}, "rope_type must be"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)


@every_model
def test_ids_that_do_not_fit_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"ids must have shape \(B, T\), got \(7,\)"):
        model.forward(IDS[0])
    with pytest.raises(ValueError, match=r"must lie in \[0, 11\), got 11"):
        model.forward(IDS + 1)
    with pytest.raises(TypeError, match="must be integers"):
        model.forward(IDS * 1.0)
    with pytest.raises(ValueError, match="has 9 positions, and the text 10 tokens"):
        model.forward(np.zeros((1, 10), int))
    _, memory = model.predict(IDS)
    with pytest.raises(ValueError, match="has 9 positions, and the text 10 tokens"):
        model.predict(IDS[:, :3], memory)
    with pytest.raises(ValueError, match=r"lengths must have shape \(3,\)"):
        model.predict(IDS, lengths=[1, 2])


@every_model
def test_a_last_token_must_be_there(model: Any) -> None:
    with pytest.raises(ValueError, match="each row must have a token"):
        model.predict(IDS, lengths=[3, 0, 2], last=True)
    with pytest.raises(ValueError, match="each row must have a token"):
        model.predict(IDS[:, :0], last=True)
    _, memory = model.predict(IDS[:1])
    with pytest.raises(ValueError, match="the memory is of 1 rows, ids have 3"):
        model.predict(IDS[:, :1], memory)


@pytest.mark.parametrize("number", [-1.0, 0.0, np.nan, np.inf])
def test_numbers_that_must_be_positive_are(number: float) -> None:
    with pytest.raises(ValueError, match="eps must be positive and finite"):
        small_gpt(eps=number)
    with pytest.raises(ValueError, match="eps must be positive and finite"):
        small_llama(eps=number)
    with pytest.raises(ValueError, match="rope_base must be positive and finite"):
        small_llama(rope_base=number)
    with pytest.raises(ValueError, match=r"^factor of rotary positions must be positive"):
        small_llama(rope_scaling={"rope_type": "linear", "factor": number})


def test_what_is_kept_is_no_part_of_the_cache() -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 4))
    past = (np.ones((1, 2, 2, 2)), np.ones((1, 2, 2, 2)))
    for given_past in (None, past):
        (y, kept), cache = multi_head_attention_forward(x, x, x, 2, past=given_past)
        before = multi_head_attention_backward((y, None), cache)
        for array in kept:
            array[...] = 99
        after = multi_head_attention_backward((y, None), cache)
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)


@every_model
def test_a_score_is_the_loss_without_its_gradients(model: Any) -> None:
    loss, memory = model.score(IDS, TARGETS)
    assert loss == pytest.approx(model.loss_and_gradients(IDS, TARGETS).loss, rel=1e-14)
    first, state = model.score(IDS[:, :3], TARGETS[:, :3])
    second, after = model.score(IDS[:, 3:], TARGETS[:, 3:], state)
    assert first + second == pytest.approx(loss, rel=1e-12)
    np.testing.assert_array_equal(after.lengths, memory.lengths)
