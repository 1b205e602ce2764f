"""The language model of section 5, against itself and against the torch module of that section."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.checkpoint import load_weights, save_weights
from npllm.layers import cross_entropy_backward, cross_entropy_forward
from npllm.models import LSTMLanguageModel

TOLERANCE = 1e-12
CONFIGS = {
    "section 5": {"vocab_size": 11, "embed_size": 5, "hidden_size": 6},
    "two layers": {"vocab_size": 11, "embed_size": 5, "hidden_size": 6, "num_layers": 2},
    "tied": {"vocab_size": 11, "embed_size": 6, "hidden_size": 6, "tie_weights": True},
    # more words than positions: they are not looked up in the LSTM's product
    "many words": {"vocab_size": 40, "embed_size": 5, "hidden_size": 6},
    "smallest": {"vocab_size": 1, "embed_size": 1, "hidden_size": 1},
}
configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def make(config, dtype=np.float64, seed=3, **options):
    """A model in which no parameter is trivial."""
    model = LSTMLanguageModel(**config, seed=seed, dtype=dtype, **options)
    model.parameters.vector[...] = np.random.default_rng(5).normal(
        size=model.parameters.vector.size
    )
    return model


def draw(model, batch=3, time=7):
    """Ids, targets (two of them ignored) and a state."""
    rng = np.random.default_rng(7)
    vocab, dtype = model.config["vocab_size"], model.parameters.vector.dtype
    ids, targets = rng.integers(vocab, size=(2, batch, time))
    targets[0, 1] = targets[-1, -1] = -100
    size = (2, model.config["num_layers"], batch, model.config["hidden_size"])
    return ids, targets, tuple(rng.normal(size=size).astype(dtype))


def assert_close(actual, expected, name=""):
    """Compare relative to the largest element."""
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape, name
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max(), name


@pytest.fixture(scope="module")
def twin(torch):
    """Section 5's module with a model's weights, and its layers and tying where it has them."""

    class LanguageModel(torch.nn.Module):
        def __init__(self, vocab_size, embed_size, hidden_size, num_layers=1, tie_weights=False):
            super().__init__()
            self.embedding = torch.nn.Embedding(vocab_size, embed_size)
            self.rnn = torch.nn.LSTM(embed_size, hidden_size, num_layers, batch_first=True)
            self.fc = torch.nn.Linear(hidden_size, vocab_size)
            if tie_weights:
                self.fc.weight = self.embedding.weight

        def forward(self, x):
            output, _ = self.rnn(self.embedding(x))
            return self.fc(output)

    def make_twin(model):
        config = {name: value for name, value in model.config.items() if name != "dropout"}
        module = LanguageModel(**config).to(getattr(torch, model.parameters.vector.dtype.name))
        weights = {name: torch.from_numpy(a.copy()) for name, a in model.parameters.items()}
        module.load_state_dict(weights, strict=True)
        return module

    return make_twin


@configs
def test_the_parameters_are_the_state_dict_of_section_5(config, twin):
    model = make(config)
    expected = {name: tuple(a.shape) for name, a in twin(model).state_dict().items()}
    assert {name: a.shape for name, a in model.parameters.items()} == expected


@configs
def test_logits_loss_and_gradients_are_those_of_torch(config, twin, torch):
    model = make(config)
    ids, targets, _ = draw(model)
    result = model.loss_and_gradients(ids, targets)
    module = twin(model)
    logits = module(torch.from_numpy(ids))
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(targets).flatten(), reduction="sum"
    )
    loss.backward()
    assert_close(model.forward(ids)[0], logits.detach().numpy(), "logits")
    assert_close(result.loss, loss.item(), "loss")
    for name, parameter in module.named_parameters():
        assert_close(result.gradients[name], parameter.grad.numpy(), name)
    assert result.tokens == targets.size - 2


@configs
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_move_to_torch_and_back_byte_for_byte(config, dtype, twin, torch, tmp_path):
    from safetensors import torch as safetensors_torch

    model, there, back = make(config, dtype), tmp_path / "there", tmp_path / "back"
    save_weights(there, model.parameters)
    module = twin(LSTMLanguageModel(**config, seed=99, dtype=dtype))
    module.load_state_dict(safetensors_torch.load_file(there), strict=True)
    state = {name: a.clone() for name, a in module.state_dict().items()}  # tied names: two copies
    safetensors_torch.save_file(state, back, metadata={"format": "pt"})
    assert there.read_bytes() == back.read_bytes()
    again = LSTMLanguageModel(**config, seed=98, dtype=dtype)
    again.parameters.load(load_weights(back))
    assert again.parameters.vector.tobytes() == model.parameters.vector.tobytes()
    ids = draw(model)[0]
    if dtype == np.float64:
        with torch.no_grad():
            logits = module(torch.from_numpy(ids)).numpy()
        assert_close(again.predict(ids)[0], logits)


@configs
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_loss_and_gradients_are_the_steps_put_together(config, dropout):
    model = make(config, dropout=dropout)
    ids, targets, state = draw(model)
    result = model.loss_and_gradients(ids, targets, state, rng=np.random.default_rng(1))
    logits, cache = model.forward(ids, state, rng=np.random.default_rng(1))
    loss, loss_cache = cross_entropy_forward(logits, targets, reduction="sum")
    gradients = model.backward(cross_entropy_backward(1.0, loss_cache), cache)
    # the logits are turned into their gradient in place: other roundings
    assert result.loss == pytest.approx(loss, rel=TOLERANCE)
    largest = np.abs(gradients.vector).max()
    np.testing.assert_allclose(
        result.gradients.vector, gradients.vector, rtol=0, atol=TOLERANCE * largest
    )
    assert result.tokens == np.count_nonzero(targets >= 0)
    for actual, expected in zip(result.state, cache.state, strict=True):
        np.testing.assert_array_equal(actual, expected)


@configs
def test_shards_sum_to_the_whole(config):
    model = make(config)
    ids, targets, (h, c) = draw(model, batch=5)
    whole = model.loss_and_gradients(ids, targets, (h, c))
    parts = [
        model.loss_and_gradients(ids[rows], targets[rows], (h[:, rows], c[:, rows]))
        for rows in (slice(0, 1), slice(1, 3), slice(3, 5))
    ]
    assert_close(sum(part.loss for part in parts), whole.loss)
    assert sum(part.tokens for part in parts) == whole.tokens
    assert_close(sum(part.gradients.vector for part in parts), whole.gradients.vector)
    for n in range(2):
        assert_close(np.concatenate([part.state[n] for part in parts], axis=1), whole.state[n])


@configs
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_state_carried_over_makes_a_whole(config, cut):
    model = make(config)
    ids, _, start = draw(model)
    whole, end = model.predict(ids, start)
    first, middle = model.predict(ids[:, :cut], start)
    second, last = model.predict(ids[:, cut:], middle)
    assert_close(np.concatenate([first, second], axis=1), whole)
    for actual, expected in zip(last, end, strict=True):
        assert_close(actual, expected)


def test_predict_is_forward_without_dropout():
    model, plain = make(CONFIGS["two layers"], dropout=0.5), make(CONFIGS["two layers"])
    ids, _, state = draw(model)
    np.testing.assert_array_equal(model.predict(ids, state)[0], plain.forward(ids, state)[0])
    dropped = model.forward(ids, state, rng=np.random.default_rng(0))[0]
    assert not np.array_equal(dropped, model.predict(ids, state)[0])
    again = model.forward(ids, state, rng=np.random.default_rng(0))[0]
    np.testing.assert_array_equal(dropped, again)


def test_a_tied_weight_has_one_array_and_both_gradients():
    tied = make(CONFIGS["tied"])
    loose = make({**CONFIGS["tied"], "tie_weights": False})
    loose.parameters.load(dict(tied.parameters))
    ids, targets, state = draw(tied)
    one = tied.loss_and_gradients(ids, targets, state).gradients
    two = loose.loss_and_gradients(ids, targets, state).gradients
    assert tied.parameters["fc.weight"] is tied.parameters["embedding.weight"]
    assert tied.parameters.vector.size == loose.parameters.vector.size - 11 * 6
    assert_close(one["embedding.weight"], two["embedding.weight"] + two["fc.weight"])
    assert one["fc.weight"] is one["embedding.weight"]


@configs
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_the_dtype_is_kept(config, dtype):
    model = make(config, dtype, dropout=0.2)
    ids, targets, state = draw(model)
    logits, cache = model.forward(ids, state)
    loss, loss_cache = cross_entropy_forward(logits, targets, reduction="sum")
    gradients = model.backward(cross_entropy_backward(1.0, loss_cache), cache)
    predicted, final = model.predict(ids)
    arrays = [logits, loss, *cache.state, *gradients.values(), predicted, *final]
    if dtype != np.complex128:  # masks are drawn for real numbers
        result = model.loss_and_gradients(ids, targets, state, rng=np.random.default_rng(0))
        arrays += [*result.gradients.values(), *result.state]
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}


@configs
def test_the_parameters_and_arguments_are_only_read(config):
    model = make(config)
    ids, targets, state = draw(model)
    kept = [a.copy() for a in (model.parameters.vector, ids, targets, *state)]
    model.parameters.vector.flags.writeable = False
    result = model.loss_and_gradients(ids, targets, state)
    for before, after in zip(kept, (model.parameters.vector, ids, targets, *state), strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.shares_memory(result.gradients.vector, model.parameters.vector)


@pytest.mark.parametrize("tie_weights", [False, True])
def test_the_seed_determines_the_weights(tie_weights):
    config = {"vocab_size": 400, "embed_size": 16, "hidden_size": 16, "tie_weights": tie_weights}
    one, same, other = (LSTMLanguageModel(**config, seed=seed) for seed in (0, 0, 1))
    drawn = LSTMLanguageModel(**config, seed=np.random.default_rng(0))
    bits = one.parameters.vector.tobytes()
    assert bits == same.parameters.vector.tobytes() == drawn.parameters.vector.tobytes()
    assert bits != other.parameters.vector.tobytes()
    embedding = one.parameters["embedding.weight"]
    spread = 0.25 / np.sqrt(3) if tie_weights else 1.0  # uniform within 1/4, or normal
    assert abs(embedding.std() / spread - 1) < 0.05  # 6400 draws: four standard errors are 0.035
    assert not LSTMLanguageModel(**config, seed=None).parameters.vector.any()
    for name, array in one.parameters.items():
        if name != "embedding.weight":
            assert np.abs(array).max() <= 0.25, name
            assert np.abs(array).max() > 0.2, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({name: size}, f"{name} must be a positive integer, got {size}")
            for name in ("vocab_size", "embed_size", "hidden_size", "num_layers")
            for size in (0, -1, 2.0, True)
        ),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": float("nan")}, "dropout"),
        ({"tie_weights": True}, "embed_size = hidden_size, got 5 and 6"),
    ],
)
def test_impossible_models(change, message):
    with pytest.raises(ValueError, match=message):
        LSTMLanguageModel(**{**CONFIGS["section 5"], **change})


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([1, 2], ValueError),
        ([[1, 11]], ValueError),
        ([[-1]], ValueError),
        ([[1.0]], TypeError),
        ([[[1]]], ValueError),
    ],
)
def test_impossible_ids(ids, error):
    with pytest.raises(error, match="ids must"):
        make(CONFIGS["section 5"]).forward(ids)


@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_a_later_token_never_moves_an_earlier_logit(batch, time, data):
    model = make(CONFIGS["two layers"])
    ids = np.random.default_rng(0).integers(11, size=(batch, time))
    at = data.draw(st.integers(0, time - 1))
    changed = ids.copy()
    changed[:, at] = (changed[:, at] + 1) % 11
    before, after = model.predict(ids)[0], model.predict(changed)[0]
    np.testing.assert_array_equal(before[:, :at], after[:, :at])
    assert not np.array_equal(before[:, at], after[:, at])


@pytest.mark.parametrize("vocab_size", [5, 50])  # words looked up by the LSTM, and before it
def test_a_score_is_the_loss_without_its_gradients(vocab_size):
    model = LSTMLanguageModel(vocab_size, 4, 6, 2, 0.5, dtype=np.float64)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(vocab_size, size=(2, 3, 7))
    targets[1, 2] = -100
    loss, state = model.score(ids, targets)
    expected = model.loss_and_gradients(ids, targets)
    assert loss == pytest.approx(expected.loss, rel=1e-14)
    for ours, theirs in zip(state, expected.state, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize(
    ("vocabulary", "hidden", "expected"), [(103, 64, 8 * 64), (10_000, 200, 8 * 2500)]
)
def test_a_share_is_worth_it_for_the_gates_or_for_the_logits(vocabulary, hidden, expected):
    assert LSTMLanguageModel(vocabulary, 4, hidden).activations(8, 32) == expected
