"""Classifiers of texts: torch's numbers, weights both ways, and what fills a text up is nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.models import BagClassifier, EncoderClassifier, LSTMClassifier

V, C, STEPS = 11, 3, 6
RNG = np.random.default_rng(0)
IDS, LABELS = RNG.integers(V, size=(4, STEPS)), np.array([2, 0, 1, 0])
LENGTHS = np.array([6, 1, 4, 3])
BUILDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bag": (BagClassifier, {"embed_size": 6}),
    "bilstm": (LSTMClassifier, {"embed_size": 5, "hidden_size": 4, "num_layers": 2}),
    "encoder": (EncoderClassifier, {"context": 8, "width": 6, "num_layers": 2, "heads": 3}),
}
every_kind = pytest.mark.parametrize("kind", BUILDS)


def made(kind: str, seed: int | None = 0, **options: Any) -> Any:
    """A classifier in which no parameter is trivial."""
    build, sizes = BUILDS[kind]
    model = build(vocab_size=V, classes=C, **{**sizes, "dtype": np.float64, **options})
    model.parameters.vector[...] = 0.5 * np.random.default_rng(seed).normal(
        size=model.parameters.vector.size
    )
    return model


def assert_close(got: Any, want: Any, name: str = "") -> None:
    """Compare relative to the largest number, which is not zero."""
    assert np.shape(got) == np.shape(want), name
    largest = np.abs(want).max()
    assert largest > 0, name
    assert np.abs(got - want).max() <= 1e-12 * largest, name


def twin(torch: Any, kind: str, model: Any) -> Any:
    """The classifier of torch's own modules, by the same names, with the same weights."""
    nn, c = torch.nn, model.config

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = c.get("embed_size", c.get("width"))
            self.embedding = nn.Embedding(V, width)
            if kind == "bilstm":
                hidden, layers = c["hidden_size"], c["num_layers"]
                self.rnn = nn.LSTM(width, hidden, layers, bidirectional=True, batch_first=True)
                self.attention = nn.Linear(2 * hidden, hidden)
                self.context = nn.Linear(hidden, 1, bias=False)
                width = 2 * hidden
            elif kind == "encoder":
                self.position = nn.Embedding(c["context"], width)
                sizes = {"dim_feedforward": 4 * width, "activation": "gelu", "dropout": 0.0}
                self.layers = nn.ModuleList(
                    nn.TransformerEncoderLayer(width, c["heads"], **sizes, batch_first=True)
                    for _ in range(c["num_layers"])
                )
            self.fc = nn.Linear(width, C)

        def forward(self, ids: Any, lengths: Any) -> Any:
            steps = ids.shape[1]
            real = torch.arange(steps) < lengths[:, None]
            x = self.embedding(ids)
            if kind == "bilstm":
                rnn = nn.utils.rnn
                packed = rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
                x, _ = rnn.pad_packed_sequence(self.rnn(packed)[0], True, total_length=steps)
                scores = self.context(self.attention(x).tanh())[..., 0]
                weights = scores.masked_fill(~real, float("-inf")).softmax(-1)
                return self.fc((weights[..., None] * x).sum(1))
            if kind == "encoder":
                x = x + self.position.weight[:steps]
                for layer in self.layers:
                    x = layer(x, src_key_padding_mask=~real)
            return self.fc((x * real[..., None]).sum(1) / lengths[:, None])

    module = Twin().double()
    state = {name: torch.tensor(array) for name, array in model.parameters.items()}
    module.load_state_dict(state, strict=True)
    return module


@every_kind
def test_scores_loss_and_gradients_are_torchs(torch: Any, kind: str) -> None:
    model = made(kind)
    module = twin(torch, kind, model)
    scores = module(torch.tensor(IDS), torch.tensor(LENGTHS))
    assert_close(model.forward(IDS, LENGTHS)[0], scores.detach().numpy())
    whole = module(torch.tensor(IDS), torch.full((4,), STEPS)).detach().numpy()
    assert np.abs(whole - scores.detach().numpy()).max() > 1e-3  # the lengths matter
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(LABELS), reduction="sum")
    loss.backward()
    result = model.loss_and_gradients(IDS, LENGTHS, LABELS)
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    assert (result.tokens, result.state) == (4, None)
    for name, parameter in module.named_parameters():
        assert_close(result.gradients[name], parameter.grad.numpy(), name)


@every_kind
def test_weights_move_to_torch_and_back(torch: Any, kind: str) -> None:
    model = made(kind)
    module = twin(torch, kind, model)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.01)
        expected = module(torch.tensor(IDS), torch.tensor(LENGTHS)).numpy()
    back = made(kind, seed=1)
    back.parameters.load({name: a.numpy() for name, a in module.state_dict().items()})
    assert_close(back.forward(IDS, LENGTHS)[0], expected)
    np.testing.assert_array_equal(back.parameters.vector, model.parameters.vector + 0.01)


@every_kind
@given(
    seed=st.integers(0, 99),
    lengths=st.lists(st.integers(1, STEPS), min_size=4, max_size=4),
)
def test_what_fills_a_text_up_has_no_effect(kind: str, seed: int, lengths: list[int]) -> None:
    model, rng = made(kind), np.random.default_rng(seed)
    ids, filler = rng.integers(V, size=(2, 4, STEPS))
    other = np.where(np.arange(STEPS) < np.array(lengths)[:, None], ids, filler)
    scores, _ = model.forward(ids, lengths)
    np.testing.assert_array_equal(model.forward(other, lengths)[0], scores)
    for b, length in enumerate(lengths):
        alone, _ = model.forward(ids[b : b + 1, :length], [length])
        np.testing.assert_allclose(scores[b], alone[0], atol=1e-12)


@every_kind
def test_every_real_word_has_an_effect(kind: str) -> None:
    model = made(kind)
    scores, _ = model.forward(IDS, LENGTHS)
    for b, length in enumerate(LENGTHS):
        for t in range(STEPS):
            other = IDS.copy()
            other[b, t] = (other[b, t] + 1) % V
            changed = np.abs(model.forward(other, LENGTHS)[0] - scores).max(axis=1) > 1e-6
            assert changed.tolist() == [row == b and t < length for row in range(4)]


@every_kind
def test_the_order_of_words_counts_where_it_is_read(kind: str) -> None:
    model = made(kind)
    scores, _ = model.forward(IDS, [STEPS] * 4)
    turned, _ = model.forward(IDS[:, ::-1], [STEPS] * 4)
    assert np.allclose(scores, turned) == (kind == "bag")


@every_kind
def test_a_words_weight_is_the_derivative_along_it(kind: str) -> None:
    model, step = made(kind), 1e-20
    ids = np.array([np.random.default_rng(b).permutation(V)[:STEPS] for b in range(4)])
    weights = model.word_weights(ids, LENGTHS, LABELS)
    table = model.parameters["embedding.weight"]
    numeric = np.zeros(weights.shape)
    for b, t in np.ndindex(*numeric.shape):  # a text has no word twice: its row is that place
        moved = made(kind, dtype=np.complex128)
        moved.parameters["embedding.weight"][ids[b, t]] += 1j * step * table[ids[b, t]]
        scores, _ = moved.forward(ids[b : b + 1], LENGTHS[b : b + 1])
        numeric[b, t] = scores[0, LABELS[b]].imag / step
    assert_close(weights, numeric)
    real = np.arange(STEPS) < LENGTHS[:, None]
    assert (weights[~real] == 0).all()
    assert (weights[real] != 0).all()
    other = model.word_weights(ids, LENGTHS, (LABELS + 1) % C)
    assert np.abs(other - weights).max() > 1e-3


@every_kind
def test_rows_shared_out_add_up_to_the_whole(kind: str) -> None:
    model = made(kind, dropout=0.4)
    whole = model.loss_and_gradients(IDS, LENGTHS, LABELS, rng=np.random.default_rng(3))

    def shared(own: bool) -> tuple[float, Any]:
        loss, gradients = 0.0, model.parameters.zeros_like()
        for rows in (slice(0, 1), slice(1, 4)):
            rng = np.random.default_rng(3)
            draws = model.rows_of_draws(rng, 4, rows) if own else rng
            share = IDS[rows], LENGTHS[rows], LABELS[rows]
            loss += model.loss_and_gradients(*share, rng=draws, gradients=gradients).loss
        return loss, gradients

    loss, gradients = shared(own=True)
    assert loss == pytest.approx(whole.loss, rel=1e-12)
    assert_close(gradients.vector, whole.gradients.vector)
    assert shared(own=False)[0] != pytest.approx(whole.loss, rel=1e-3)  # masks of other rows


@every_kind
def test_dropout_is_drawn_from_the_generator(kind: str) -> None:
    model = made(kind, dropout=0.5)

    def run(rng: Any) -> Any:
        return model.forward(IDS, LENGTHS, rng=rng)[0]

    one, same, other = (run(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - run(None)).max() > 1e-3
    assert model.score(IDS, LENGTHS, LABELS)[0] == made(kind).score(IDS, LENGTHS, LABELS)[0]


@every_kind
def test_a_score_is_the_loss_and_probabilities_are_its_softmax(kind: str) -> None:
    model = made(kind)
    loss, state = model.score(IDS, LENGTHS, LABELS)
    assert loss == pytest.approx(model.loss_and_gradients(IDS, LENGTHS, LABELS).loss, rel=1e-14)
    assert state is model.initial_state(4) is model.rows_of_state(None, [0]) is None
    p = model.probabilities(IDS, LENGTHS)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-14)
    assert -np.log(p[np.arange(4), LABELS]).sum() == pytest.approx(loss, rel=1e-12)


@every_kind
@pytest.mark.parametrize(
    ("ids", "lengths", "error", "message"),
    [
        (IDS + V, LENGTHS, ValueError, r"ids must lie in \[0, 11\), got "),
        (IDS - V, LENGTHS, ValueError, r"ids must lie in \[0, 11\), got -"),
        (IDS * 1.0, LENGTHS, TypeError, "ids must be integers, got float64"),
        (IDS[0], LENGTHS, ValueError, r"ids must have shape \(B, T\), got \(6,\)"),
        (IDS, LENGTHS + 1, ValueError, r"lengths must lie in \[0, 7\), got 7"),
        (IDS, LENGTHS - 1, ValueError, "lengths must be 1 or more, got 0: a row needs a token"),
        (IDS, -LENGTHS, ValueError, r"lengths must lie in \[0, 7\), got -6"),
        (IDS, LENGTHS * 1.0, TypeError, "lengths must be integers, got float64"),
        (IDS, LENGTHS[:3], ValueError, r"lengths must have shape \(4,\), got \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    kind: str, ids: Any, lengths: Any, error: type[Exception], message: str
) -> None:
    model = made(kind)
    with pytest.raises(error, match=message):
        model.forward(ids, lengths)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), got 3"):
        model.word_weights(IDS, LENGTHS, LABELS + 1)


def test_an_encoder_has_so_many_positions() -> None:
    ids = np.zeros((1, 9), int)
    with pytest.raises(ValueError, match="the model has 8 positions, and a text 9 tokens"):
        made("encoder").forward(ids, [9])
    assert made("encoder").context == 8
    for kind in ("bag", "bilstm"):
        assert made(kind).context is None
        assert made(kind).forward(ids, [9])[0].shape == (1, C)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bag", {"embed_size": 0}, "embed_size must be a positive integer, got 0"),
        ("bag", {"dtype": np.int64}, "dtype must be float32, float64 or complex128, got int64"),
        ("bilstm", {"hidden_size": 2.5}, "hidden_size must be a positive integer, got 2.5"),
        ("bilstm", {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ("encoder", {"heads": 4}, "heads must divide width=6, got 4"),
        ("encoder", {"context": 0}, "context must be a positive integer, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(kind: str, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(kind, **changes)


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_the_dtype_is_kept_and_the_seed_tells_the_weights(kind: str, dtype: Any) -> None:
    build, sizes = BUILDS[kind]
    one, same, other = (build(V, C, **sizes, dtype=dtype, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.parameters.vector, same.parameters.vector)
    assert (one.parameters.vector != other.parameters.vector).any()
    assert not build(V, C, **sizes, seed=None).parameters.vector.any()
    scores, cache = one.forward(IDS, LENGTHS)
    assert scores.dtype == one.backward(scores, cache).vector.dtype == dtype
