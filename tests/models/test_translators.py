"""Translators: torch's numbers, weights both ways, and a state that stands for what was read."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.layers import log_softmax_forward
from npllm.models import LSTMTranslator, TransformerTranslator
from npllm.text.padded_batches import paired
from npllm.training.translation import translate

W, V, S, T = 9, 9, 6, 5  # words of both languages, and steps of both batches
RNG = np.random.default_rng(0)
SOURCE, LENGTHS = RNG.integers(W, size=(4, S)), np.array([6, 1, 4, 3])
GOALS = [RNG.integers(V, size=n) for n in (4, 0, 3, 2)]  # the translations
_, _, IDS, TARGETS = paired([*SOURCE], GOALS, mark=V).arguments
BATCH = (SOURCE, LENGTHS, IDS, TARGETS)
SIZES = {"source_size": W, "vocab_size": V}
BUILDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "transformer": (TransformerTranslator, {"context": 7, "width": 6, "num_layers": 2, "heads": 3}),
    "transformer, shared words": (
        TransformerTranslator,
        {"context": 7, "width": 6, "num_layers": 1, "heads": 2, "share_words": True},
    ),
    "lstm": (LSTMTranslator, {"embed_size": 5, "hidden_size": 4, "num_layers": 2}),
}
every_kind = pytest.mark.parametrize("kind", BUILDS)


def made(kind: str, seed: int = 0, **options: Any) -> Any:
    """A translator in which no parameter is trivial."""
    build, sizes = BUILDS[kind]
    model = build(**{**SIZES, **sizes, "dtype": np.float64, **options})
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


def twin(torch: Any, model: Any) -> Any:
    """The translator of torch's own modules, by the same names, with the same weights."""
    nn, c = torch.nn, model.config

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, layers = c["width"], c["num_layers"]
            self.target = nn.Embedding(V + 1, width)
            self.source = self.target if c["share_words"] else nn.Embedding(W, width)
            self.source_position = nn.Embedding(c["context"], width)
            self.target_position = nn.Embedding(c["context"], width)
            sizes = {"dim_feedforward": 4 * width, "activation": "gelu", "dropout": 0.0}
            sizes |= {"batch_first": True}
            layer = nn.TransformerEncoderLayer(width, c["heads"], **sizes)
            self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
            layer = nn.TransformerDecoderLayer(width, c["heads"], **sizes)
            self.decoder = nn.TransformerDecoder(layer, layers)
            self.head = nn.Linear(width, V + 1)
            self.head.weight = self.target.weight

        def forward(self, source: Any, lengths: Any, ids: Any) -> Any:
            steps, fills = ids.shape[1], torch.arange(source.shape[1]) >= lengths[:, None]
            x = self.source(source) + self.source_position.weight[: source.shape[1]]
            memory = self.encoder(x, src_key_padding_mask=fills)
            y = self.target(ids) + self.target_position.weight[:steps]
            later = torch.ones(steps, steps, dtype=torch.bool).triu(1)
            options = {"tgt_mask": later, "memory_key_padding_mask": fills}
            return self.head(self.decoder(y, memory, **options))

    class TwoLSTMs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, hidden, layers = c["embed_size"], c["hidden_size"], c["num_layers"]
            self.source, self.target = nn.Embedding(W, width), nn.Embedding(V + 1, width)
            self.encoder = nn.LSTM(width, hidden, layers, batch_first=True)
            self.decoder = nn.LSTM(width, hidden, layers, batch_first=True)
            self.score = nn.Linear(hidden, hidden, bias=False)
            self.joined = nn.Linear(2 * hidden, hidden, bias=False)
            self.head = nn.Linear(hidden, V + 1)

        def forward(self, source: Any, lengths: Any, ids: Any) -> Any:
            rnn, steps = nn.utils.rnn, source.shape[1]
            x = rnn.pack_padded_sequence(self.source(source), lengths, True, enforce_sorted=False)
            read, state = self.encoder(x)
            memory, _ = rnn.pad_packed_sequence(read, True, total_length=steps)
            h, _ = self.decoder(self.target(ids), state)
            scores = self.score(h) @ memory.mT
            fills = torch.arange(steps) >= lengths[:, None, None]
            context = scores.masked_fill(fills, float("-inf")).softmax(-1) @ memory
            return self.head(self.joined(torch.cat([context, h], -1)).tanh())

    module = (TwoLSTMs() if "hidden_size" in c else Transformer()).double()
    state = {name: torch.tensor(array) for name, array in model.parameters.items()}
    module.load_state_dict(state, strict=True)
    return module


@every_kind
def test_logits_loss_and_gradients_are_torchs(torch: Any, kind: str) -> None:
    model = made(kind)
    module, inputs = twin(torch, model), [torch.tensor(a) for a in BATCH[:3]]
    logits = module(*inputs)
    assert_close(model.forward(*BATCH[:3])[0], logits.detach().numpy())
    whole = module(inputs[0], torch.full((4,), S), inputs[2])
    assert np.abs((whole - logits).detach().numpy()).max() > 1e-3  # the lengths matter
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(TARGETS).flatten(), reduction="sum"
    )
    loss.backward()
    result = model.loss_and_gradients(*BATCH)
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    assert (result.tokens, result.state) == (sum(map(len, GOALS)) + 4, None)
    for name, parameter in module.named_parameters():
        assert_close(result.gradients[name], parameter.grad.numpy(), name)


@every_kind
def test_weights_move_to_torch_and_back(torch: Any, kind: str) -> None:
    model = made(kind)
    module = twin(torch, model)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.01)
        expected = module(*(torch.tensor(a) for a in BATCH[:3])).numpy()
    back = made(kind, seed=1)
    back.parameters.load({name: a.numpy() for name, a in module.state_dict().items()})
    assert_close(back.forward(*BATCH[:3])[0], expected)
    np.testing.assert_array_equal(back.parameters.vector, model.parameters.vector + 0.01)


@every_kind
@given(
    seed=st.integers(0, 99),
    lengths=st.lists(st.integers(1, S), min_size=4, max_size=4),
)
def test_what_fills_a_source_up_has_no_effect(kind: str, seed: int, lengths: list[int]) -> None:
    model, rng = made(kind), np.random.default_rng(seed)
    source, filler = rng.integers(W, size=(2, 4, S))
    other = np.where(np.arange(S) < np.array(lengths)[:, None], source, filler)
    logits, _ = model.forward(source, lengths, IDS)
    np.testing.assert_array_equal(model.forward(other, lengths, IDS)[0], logits)
    for b, length in enumerate(lengths):
        alone, _ = model.forward(source[b : b + 1, :length], [length], IDS[b : b + 1])
        np.testing.assert_allclose(logits[b], alone[0], atol=1e-12)


@every_kind
def test_every_real_word_of_the_source_has_an_effect(kind: str) -> None:
    model = made(kind)
    logits, _ = model.forward(*BATCH[:3])
    for b, t in np.ndindex(*SOURCE.shape):
        other = SOURCE.copy()
        other[b, t] = (other[b, t] + 1) % W
        changed = np.abs(model.forward(other, LENGTHS, IDS)[0] - logits).max(axis=(1, 2)) > 1e-6
        assert changed.tolist() == [row == b and t < LENGTHS[b] for row in range(4)]


@every_kind
@given(seed=st.integers(0, 99), cut=st.integers(1, T - 1))
def test_a_state_stands_for_what_was_written(kind: str, seed: int, cut: int) -> None:
    model = made(kind)
    ids = np.random.default_rng(seed).integers(V + 1, size=(4, T))
    whole, _ = model.forward(SOURCE, LENGTHS, ids)
    state, _ = model.encode(SOURCE, LENGTHS)
    first, after = model.predict(ids[:, :cut], state)
    second, _ = model.predict(ids[:, cut:], after)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-12)
    again, _ = model.predict(ids[:, cut:], after)  # a state is not used up
    np.testing.assert_array_equal(again, second)
    last, _ = model.predict(ids[:, cut:], after, last=True)
    np.testing.assert_allclose(last, whole[:, -1:], atol=1e-12)
    for t in range(T):
        step, state = model.predict(ids[:, t : t + 1], state)
        np.testing.assert_allclose(step, whole[:, t : t + 1], atol=1e-12)
    anew, _ = model.predict(ids[:, cut:], model.encode(SOURCE, LENGTHS)[0])
    assert np.abs(anew - second).max() > 1e-6  # without what was written it is another


@every_kind
@given(seed=st.integers(0, 99), lengths=st.lists(st.integers(1, 3), min_size=4, max_size=4))
def test_a_padded_batch_is_its_rows_alone(kind: str, seed: int, lengths: list[int]) -> None:
    model, rng = made(kind), np.random.default_rng(seed)
    ids, more = rng.integers(V + 1, size=(4, 3)), rng.integers(V + 1, size=(4, 2))
    state, _ = model.encode(SOURCE, LENGTHS)
    logits, after = model.predict(ids, state, lengths=lengths)
    last, _ = model.predict(ids, state, lengths=lengths, last=True)
    following, _ = model.predict(more, after)
    for b, length in enumerate(lengths):
        own, _ = model.encode(SOURCE[b : b + 1, : LENGTHS[b]], LENGTHS[b : b + 1])
        expected, own = model.predict(ids[b : b + 1, :length], own)
        np.testing.assert_allclose(logits[b, :length], expected[0], atol=1e-12)
        np.testing.assert_allclose(last[b, 0], expected[0, -1], atol=1e-12)
        np.testing.assert_allclose(
            following[b], model.predict(more[b : b + 1], own)[0][0], atol=1e-12
        )


@every_kind
@pytest.mark.parametrize("written", [0, 2])
def test_rows_of_a_state_are_selected(kind: str, written: int) -> None:
    model, rows = made(kind), [2, 0, 0]
    state, _ = model.encode(SOURCE, LENGTHS)
    if written:
        _, state = model.predict(IDS[:, :written], state, lengths=[2, 1, 2, 1])
    whole, _ = model.predict(IDS[:, 2:4], state)
    picked, _ = model.predict(IDS[rows, 2:4], model.rows_of_state(state, rows))
    np.testing.assert_allclose(picked, whole[rows], atol=1e-12)
    part, _ = model.predict(IDS[1:3, 2:4], model.rows_of_state(state, slice(1, 3)))
    np.testing.assert_allclose(part, whole[1:3], atol=1e-12)
    assert np.abs(whole[0] - whole[2]).max() > 1e-3


@every_kind
def test_what_is_seen_of_the_source_sums_to_one(kind: str) -> None:
    model = made(kind)
    _, cache = model.forward(*BATCH[:3])
    seen = model.views(cache).attention
    heads = model.config.get("heads", 1)
    assert len(seen) == (1 if kind == "lstm" else model.config["num_layers"])
    real = np.broadcast_to(np.arange(S) < LENGTHS[:, None, None, None], (4, heads, T, S))
    for weights in seen:
        assert weights.shape == (4, heads, T, S)
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-14)
        assert (weights[~real] == 0).all()
        assert (weights[real] > 0).all()


@every_kind
def test_rows_shared_out_add_up_to_the_whole(kind: str) -> None:
    model = made(kind, dropout=0.4, label_smoothing=0.1)
    whole = model.loss_and_gradients(*BATCH, rng=np.random.default_rng(3))

    def shared(own: bool) -> tuple[float, Any]:
        loss, gradients = 0.0, model.parameters.zeros_like()
        for rows in (slice(0, 1), slice(1, 4)):
            rng = np.random.default_rng(3)
            draws = model.rows_of_draws(rng, 4, rows) if own else rng
            share = (array[rows] for array in BATCH)
            loss += model.loss_and_gradients(*share, rng=draws, gradients=gradients).loss
        return loss, gradients

    loss, gradients = shared(own=True)
    assert loss == pytest.approx(whole.loss, rel=1e-12)
    assert_close(gradients.vector, whole.gradients.vector)
    assert shared(own=False)[0] != pytest.approx(whole.loss, rel=1e-3)  # masks of other rows


@every_kind
def test_dropout_and_smoothing_are_for_training_alone(kind: str) -> None:
    model, plain = made(kind, dropout=0.5, label_smoothing=0.2), made(kind)
    loss, state = model.score(*BATCH)
    assert loss == plain.score(*BATCH)[0] == plain.loss_and_gradients(*BATCH).loss
    assert state is model.initial_state(4) is None
    np.testing.assert_array_equal(model.forward(*BATCH[:3])[0], plain.forward(*BATCH[:3])[0])

    def trained(of: Any, seed: int) -> float:
        return float(of.loss_and_gradients(*BATCH, rng=np.random.default_rng(seed)).loss)

    assert trained(model, 1) == trained(model, 1) != trained(model, 2)
    assert trained(plain, 1) == trained(plain, 2) == loss
    smoothed = made(kind, label_smoothing=0.2)
    log_p, _ = log_softmax_forward(smoothed.forward(*BATCH[:3])[0])
    uniform = -log_p.mean(axis=-1)[TARGETS != -100].sum()
    expected = pytest.approx(0.8 * loss + 0.2 * uniform, rel=1e-12)
    assert trained(smoothed, 1) == expected
    assert smoothed.loss_and_gradients(*BATCH).loss == expected  # with no dropout, too


def undecided(kind: str, seed: int) -> Any:
    """A translator into three words that weighs what it has read and written."""
    build, sizes = BUILDS[kind]
    model = build(source_size=4, vocab_size=3, **sizes, dtype=np.float64, seed=seed)
    for name, shape in model.parameters.shapes.items():
        if len(shape) == 2:
            model.parameters[name] *= 4
    return model


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
def test_a_wide_search_finds_the_best_of_all_translations(kind: str) -> None:
    source, tokens, narrow = np.array([1, 3, 0]), 3, []
    for model in (undecided(kind, seed) for seed in range(4)):
        ranked: dict[tuple[int, ...], float] = {}
        for text in (t for n in range(tokens + 1) for t in product(range(3), repeat=n)):
            whole = [*text, model.mark][:tokens]  # what has all tokens has no end
            logits, _ = model.forward(source[None], [3], [[model.mark, *whole[:-1]]])
            log_p, _ = log_softmax_forward(logits[0])
            ranked[text] = log_p[np.arange(len(whole)), whole].sum() / max(len(text), 1)
        assert len(ranked) == 40
        best = max(ranked, key=lambda text: ranked[text])
        assert tuple(translate(model, source, beams=27, tokens=tokens)) == best
        narrow.append(tuple(translate(model, source, beams=1, tokens=tokens)) == best)
    assert not all(narrow)  # where the likeliest next word is not the way


@every_kind
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source": SOURCE + W}, ValueError, r"ids must lie in \[0, 9\), got "),
        ({"source": SOURCE * 1.0}, TypeError, "ids must be integers, got float64"),
        ({"source": SOURCE[0]}, ValueError, r"ids must have shape \(B, T\), got \(6,\)"),
        ({"lengths": LENGTHS + 1}, ValueError, r"lengths must lie in \[0, 7\), got 7"),
        ({"lengths": LENGTHS - 1}, ValueError, "lengths must be 1 or more, got 0"),
        ({"lengths": LENGTHS[:3]}, ValueError, r"lengths must have shape \(4,\), got \(3,\)"),
        ({"ids": IDS + 1}, ValueError, r"ids must lie in \[0, 10\), got 10"),
        ({"ids": IDS - V - 1}, ValueError, r"ids must lie in \[0, 10\), got -"),
        ({"ids": IDS * 1.0}, TypeError, "ids must be integers, got float64"),
    ],
)
def test_what_does_not_fit_is_refused(
    kind: str, changes: Any, error: type[Exception], message: str
) -> None:
    inputs = {"source": SOURCE, "lengths": LENGTHS, "ids": IDS}
    with pytest.raises(error, match=message):
        made(kind).forward(**{**inputs, **changes})


@every_kind
def test_a_translator_writes_of_what_it_has_read(kind: str) -> None:
    with pytest.raises(ValueError, match="give it encode's state"):
        made(kind).predict(IDS)


def test_a_transformer_has_so_many_positions() -> None:
    model, long = made("transformer"), np.zeros((1, 8), int)
    with pytest.raises(ValueError, match="the model has 7 positions, and the text 8 tokens"):
        model.encode(long, [8])
    state, _ = model.encode(SOURCE[:1], [S])
    with pytest.raises(ValueError, match="the model has 7 positions, and the text 8 tokens"):
        model.predict(long, state)
    with pytest.raises(ValueError, match="the model has 7 positions, and the text 8 tokens"):
        model.predict(long[:, :3], model.predict(long[:, :5], state)[1])
    assert model.context == 7
    endless = made("lstm")
    assert endless.context is None
    assert endless.forward(long, [8], long)[0].shape == (1, 8, V + 1)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("transformer", {"heads": 4}, "heads must divide width=6, got 4"),
        ("transformer", {"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\), got 1.0"),
        ("transformer", {"width": 0, "heads": 1}, "width must be a positive integer, got 0"),
        ("transformer, shared words", {"source_size": 8}, "one vocabulary, got 8 and 9 words"),
        ("lstm", {"label_smoothing": -0.1}, r"label_smoothing must lie in \[0, 1\), got -0.1"),
        ("lstm", {"hidden_size": 0}, "hidden_size must be a positive integer, got 0"),
        ("lstm", {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(kind: str, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(kind, **changes)


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_the_dtype_is_kept_and_the_seed_tells_the_weights(kind: str, dtype: Any) -> None:
    build, sizes = BUILDS[kind]
    one, same, other = (build(**SIZES, **sizes, dtype=dtype, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.parameters.vector, same.parameters.vector)
    assert (one.parameters.vector != other.parameters.vector).any()
    assert not build(**SIZES, **sizes, seed=None).parameters.vector.any()
    logits, cache = one.forward(*BATCH[:3])
    assert logits.dtype == one.backward(logits, cache).vector.dtype == dtype


def test_the_lstms_words_are_drawn_of_size_one() -> None:
    model = LSTMTranslator(source_size=400, vocab_size=500, embed_size=30, hidden_size=25)
    for name, array in model.parameters.items():
        if name in ("source.weight", "target.weight"):  # five standard errors
            assert abs(array.std() - 1) < 5 / np.sqrt(2 * array.size)
        else:  # of the bound, as close as that many draws come
            assert 0.2 * (1 - 20 / array.size) < abs(array).max() <= 0.2
