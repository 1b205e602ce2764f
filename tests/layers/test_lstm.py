"""The LSTM over sequences: layers, directions, lengths, states in and out."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import HUGE, assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.layers.lstm import lstm_weights
from npllm.evidence.source import Source, frozen
from npllm.layers import (
    dropout_forward,
    embedding_backward,
    embedding_forward,
    lstm_backward,
    lstm_cell_backward,
    lstm_cell_forward,
    lstm_forward,
)
from npllm.layers.lstm import Words, lstm_gates

T, B, IN, H = 5, 4, 3, 6
LENGTHS = {
    "no lengths": None,
    "full": [T] * B,
    "unequal": [3, 5, 1, 5],
    "all short": [2, 1, 4, 2],
}
LOOK_UP = {"embedding": np.ones((6, IN))}
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")

STACKS = {"one": (1, False), "two": (2, False), "both ways": (1, True), "two both ways": (2, True)}
every_stack = pytest.mark.parametrize(("depth", "bidirectional"), STACKS.values(), ids=STACKS)
any_sequences = given(
    seed=st.integers(0, 99),
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    depth=st.integers(1, 2),
    bidirectional=st.booleans(),
    proj_size=st.sampled_from([0, 2]),
    peepholes=st.booleans(),
)


def bound(*args, **options):
    return Bound(partial(lstm_forward, **options), lstm_backward, args)


def drawn(source, shape, *, state=True, hidden=H, **kind):
    """Return x of the given shape, weights and a state, time first."""
    weights = lstm_weights(source.normal, shape[-1], hidden, **kind)
    args = (source.normal(*shape), weights)
    if not state:
        return args
    rows = sum(name.startswith("weight_ih") for name in weights)
    shown = next(w.shape[1] for name, w in weights.items() if name.startswith("weight_hh"))
    widths = ((rows, *shape[1:-1], shown), (rows, *shape[1:-1], hidden))
    return (*args, tuple(source.normal(*width) for width in widths))


def theirs(torch, depth, lengths=None, *, batch_first=False, **kind):
    """Return torch's LSTM as a function of x, the weights and the state."""
    pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence

    def reference(x, weights, *state):
        width = x.shape[-1]
        module = torch.nn.LSTM(
            width, H, depth, batch_first=batch_first, dtype=torch.float64, **kind
        )
        steps = x.shape[1 if batch_first else 0]
        if lengths is not None:
            x = pack(x, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=False)
        y, final = torch.func.functional_call(module, weights, (x, *state))
        if lengths is not None:
            y, _ = pad(y, batch_first=batch_first, total_length=steps)
        return y, final

    return reference


@every_stack
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("shape", [(T, B, IN), (1, B, IN), (T, IN), (1, IN)], ids=str)
def test_agrees_with_torch(torch, depth, bidirectional, bias, proj_size, state, shape):
    kind = {"bias": bias, "proj_size": proj_size, "bidirectional": bidirectional}
    layer = bound(*drawn(Source(), shape, state=state, num_layers=depth, **kind))
    assert_agrees_with_torch(torch, layer, theirs(torch, depth, **kind))


@every_stack
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("state", [True, False])
def test_lengths_agree_with_packed_sequences(
    torch, depth, bidirectional, lengths, batch_first, proj_size, state
):
    kind = {"proj_size": proj_size, "bidirectional": bidirectional}
    x, *rest = drawn(Source(), (T, B, IN), state=state, num_layers=depth, **kind)
    x = x.swapaxes(0, 1) if batch_first else x
    layer = bound(x, *rest, batch_first=batch_first, lengths=lengths)
    assert_agrees_with_torch(
        torch, layer, theirs(torch, depth, lengths, batch_first=batch_first, **kind)
    )


@pytest.mark.parametrize("p", [0.4, 1.0])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_sits_between_the_layers(torch, p, depth, bidirectional):
    def forward(*args):
        return lstm_forward(*args, dropout=p, rng=np.random.default_rng(5))

    args = drawn(Source(), (T, B, IN), num_layers=depth, bidirectional=bidirectional)
    directions = 1 + bidirectional
    rng, ones = np.random.default_rng(5), np.ones((T, B, directions * H))
    masks = [torch.tensor(dropout_forward(ones, p=p, rng=rng)[0]) for _ in range(depth - 1)]
    single = theirs(torch, 1, bidirectional=bidirectional)

    def reference(y, weights, state):
        finals = []
        for k, layer_state in enumerate(zip(*(s.split(directions) for s in state), strict=True)):
            own = {n.replace(f"_l{k}", "_l0"): w for n, w in weights.items() if f"_l{k}" in n}
            y, final = single(y if k == 0 else y * masks[k - 1], own, layer_state)
            finals.append(final)
        return y, tuple(map(torch.cat, zip(*finals, strict=True)))

    assert_agrees_with_torch(torch, Bound(forward, lstm_backward, args), reference)


def test_certain_dropout_is_that_of_torch(torch):
    layer = Bound(
        lambda *args: lstm_forward(*args, dropout=1.0, rng=np.random.default_rng(5)),
        lstm_backward,
        drawn(Source(), (T, B, IN), num_layers=2),
    )
    assert_agrees_with_torch(torch, layer, theirs(torch, 2, dropout=1.0))


def recurrence(torch, x, weights, suffix, h, c):
    """Run one direction of one layer over (T, B, I) in torch, peepholes and projection included."""
    own = {name[: -len(suffix) - 1]: w for name, w in weights.items() if name.endswith(suffix)}
    p_i, p_f, p_o = own["weight_ch"].chunk(3)
    outputs = []
    for x_t in x.flip(0) if suffix.endswith("_reverse") else x:
        a = x_t @ own["weight_ih"].T + h @ own["weight_hh"].T
        if "bias_ih" in own:
            a = a + own["bias_ih"] + own["bias_hh"]
        a_i, a_f, a_g, a_o = a.chunk(4, -1)
        i, f = torch.sigmoid(a_i + p_i * c), torch.sigmoid(a_f + p_f * c)
        c = f * c + i * torch.tanh(a_g)
        h = torch.sigmoid(a_o + p_o * c) * torch.tanh(c)
        if "weight_hr" in own:
            h = h @ own["weight_hr"].T
        outputs.append(h)
    y = torch.stack(outputs)
    return y.flip(0) if suffix.endswith("_reverse") else y, h, c


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("ends", [("",), ("_reverse",), ("", "_reverse")], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("proj_size", [0, 2])
def test_peepholes_agree_with_torch(torch, depth, ends, bias, proj_size):
    def reference(y, weights, state):
        finals = []
        for k in range(depth):
            rows = range(len(finals), len(finals) + len(ends))
            runs = [
                recurrence(torch, y, weights, f"l{k}{end}", state[0][row], state[1][row])
                for row, end in zip(rows, ends, strict=True)
            ]
            y = torch.cat([run[0] for run in runs], -1)
            finals += [run[1:] for run in runs]
        return y, tuple(map(torch.stack, zip(*finals, strict=True)))

    kind = {"bidirectional": len(ends) == 2, "reverse_only": ends == ("_reverse",)}
    args = drawn(
        Source(),
        (T, B, IN),
        num_layers=depth,
        bias=bias,
        proj_size=proj_size,
        peepholes=True,
        **kind,
    )
    assert_agrees_with_torch(torch, bound(*args), reference)


@given(
    seed=st.integers(0, 99),
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    proj_size=st.sampled_from([0, 2]),
    peepholes=st.booleans(),
)
def test_a_reverse_direction_alone_is_its_half_of_both(seed, lengths, proj_size, peepholes):
    kind = {"proj_size": proj_size, "peepholes": peepholes}
    x, both, (h0, c0) = drawn(
        Source(seed), (4, len(lengths), IN), hidden=3, bidirectional=True, **kind
    )
    weights = {name: w for name, w in both.items() if name.endswith("_reverse")}
    layer = bound(x, weights, (h0[1:], c0[1:]), lengths=lengths)
    (y, (h_n, c_n)), (dy, (dh_n, dc_n)), (dx, dweights, (dh0, dc0)) = layer.run()

    (y_both, (h_both, c_both)), cache = lstm_forward(x, both, (h0, c0), lengths=lengths)
    shown = y.shape[-1]
    assert_close((y, h_n[0], c_n[0]), (y_both[..., shown:], h_both[1], c_both[1]), floor=1)
    padded = [np.concatenate([np.zeros_like(d), d], -1 if d is dy else 0) for d in (dy, dh_n, dc_n)]
    dx_both, dweights_both, (dh0_both, dc0_both) = lstm_backward((padded[0], padded[1:]), cache)
    expected = (dx_both, {name: dweights_both[name] for name in weights})
    assert_close((dx, dweights), expected, floor=1)
    assert_close((dh0[0], dc0[0]), (dh0_both[1], dc0_both[1]), floor=1)


@given(
    seed=st.integers(0, 99),
    steps=st.integers(0, 5),
    batch=st.integers(0, 3),
    peepholes=st.booleans(),
)
def test_step_by_step_is_the_whole_sequence(seed, steps, batch, peepholes):
    source, names = Source(seed), (*NAMES, *["weight_ch_l0"] * peepholes)
    x, weights, (h0, c0) = drawn(source, (steps, batch, IN), hidden=3, peepholes=peepholes)
    (y, (h_n, c_n)), (dy, (dh_n, dc_n)), gradients = bound(x, weights, (h0, c0)).run()
    order = [weights[name] for name in names]

    caches, h, c = [], h0[0], c0[0]
    for t in range(steps):
        (h, c), cache = lstm_cell_forward(x[t], h, c, *order)
        assert_close(h, y[t], floor=1)
        caches.append(cache)
    assert_close((h[None], c[None]), (h_n, c_n), floor=1)

    dx, dweights = np.zeros_like(x), {name: np.zeros_like(weights[name]) for name in names}
    dh, dc = dh_n[0], dc_n[0]
    for t in reversed(range(steps)):
        dx[t], dh, dc, *step_gradients = lstm_cell_backward((dh + dy[t], dc), caches[t])
        for name, gradient in zip(names, step_gradients, strict=True):
            dweights[name] += gradient
    assert_close(gradients, (dx, dweights, (dh[None], dc[None])), floor=1)


@any_sequences
def test_a_padded_batch_equals_its_rows_run_alone(
    seed, lengths, depth, bidirectional, proj_size, peepholes
):
    steps = max(*lengths, 1) + 1  # padding in every row
    x, weights, (h0, c0) = drawn(
        Source(seed),
        (steps, len(lengths), IN),
        hidden=3,
        num_layers=depth,
        bidirectional=bidirectional,
        proj_size=proj_size,
        peepholes=peepholes,
    )
    layer = bound(x, weights, (h0, c0), lengths=lengths)
    (y, (h_n, c_n)), (dy, (dh_n, dc_n)), (dx, dweights, (dh0, dc0)) = layer.run()
    total = {name: np.zeros_like(w) for name, w in weights.items()}
    for b, n in enumerate(lengths):
        alone, cache = lstm_forward(x[:n, b], weights, (h0[:, b], c0[:, b]))
        assert_close((y[:n, b], (h_n[:, b], c_n[:, b])), alone, floor=1)
        dalone = lstm_backward((dy[:n, b], (dh_n[:, b], dc_n[:, b])), cache)
        assert_close((dx[:n, b], (dh0[:, b], dc0[:, b])), (dalone[0], dalone[2]), floor=1)
        assert (y[n:, b] == 0).all()
        assert (dx[n:, b] == 0).all()
        for name, gradient in dalone[1].items():
            total[name] += gradient
    assert_close(dweights, total, floor=1)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64])
def test_lengths_of_any_integer_type(kind):
    args, lengths = drawn(Source(), (T, B, IN), bidirectional=True), [3, 0, 5, 1]
    expected = bound(*args, lengths=lengths).run()
    assert_close(bound(*args, lengths=np.array(lengths, kind)).run(), expected, tolerance=0)


@any_sequences
def test_what_lies_in_the_padding_is_irrelevant(
    seed, lengths, depth, bidirectional, proj_size, peepholes
):
    kind = {"num_layers": depth, "bidirectional": bidirectional, "proj_size": proj_size}
    kind["peepholes"] = peepholes
    x, *rest = drawn(Source(seed), (4, len(lengths), IN), hidden=3, **kind)
    padding = np.arange(4)[:, None] >= lengths
    others = [frozen(np.where(padding[..., None], value, x)) for value in (HUGE, np.nan)]
    expected, *results = [bound(x, *rest, lengths=lengths).run() for x in (x, *others)]
    for result in results:
        assert_close(result, expected, floor=1)


def test_a_cotangent_of_the_padding_is_irrelevant():
    x, weights = Source().normal(3, 2, IN), lstm_weights(Source().normal, IN, H)
    (y, _), cache = lstm_forward(x, weights, lengths=[3, 1])
    dy = np.ones(y.shape)
    expected = lstm_backward((dy.copy(), None), cache)
    dy[1:, 1] = np.nan
    assert_close(lstm_backward((dy, None), cache), expected, floor=1)


@any_sequences
@pytest.mark.parametrize("words", [2, 4, 6])  # few are read as columns, many as rows of the table
@pytest.mark.parametrize("layout", ["time first", "batch first", "one sequence"])
def test_looking_words_up_is_the_same_as_embedding_them(
    layout, words, seed, lengths, depth, bidirectional, proj_size, peepholes
):
    source = Source(seed)
    kind = {"num_layers": depth, "bidirectional": bidirectional, "proj_size": proj_size}
    kind["peepholes"] = peepholes
    batch = () if layout == "one sequence" else (len(lengths),)
    _, weights, state = drawn(source, (4, *batch, IN), hidden=3, **kind)
    table = source.normal(words, IN)
    ids = np.random.default_rng(seed).integers(words, size=(4, *batch))
    ids = ids.T if layout == "batch first" else ids
    options = {"batch_first": layout == "batch first", "lengths": lengths if batch else None}

    def embedded(table, *args):
        x, embedding = embedding_forward(ids, table)
        result, lstm = lstm_forward(x, *args, **options)
        return result, (embedding, lstm)

    def embedded_backward(dy, caches):
        dx, *others = lstm_backward(dy, caches[1])
        return embedding_backward(dx, caches[0]), *others

    def looked_up(table, *args):
        return lstm_forward(ids, *args, embedding=table, **options)

    args = (table, weights, state)
    plain = Bound(embedded, embedded_backward, args).run()
    assert_close(Bound(looked_up, lstm_backward, args).run(), plain, floor=1)


@pytest.mark.parametrize(
    ("words", "width", "steps", "ids_stay"),
    [
        (6, 3, 8, True),  # twice as many words as the embedding is wide
        (7, 3, 8, False),
        (8, 6, 8, True),  # as many words as positions
        (9, 6, 8, False),
    ],
)
def test_a_small_vocabulary_stays_ids(words, width, steps, ids_stay):
    source = Source()
    weights = lstm_weights(source.normal, width, H)
    ids = np.arange(steps)[:, None] % words
    _, cache = lstm_forward(ids, weights, embedding=source.normal(words, width))
    assert isinstance(cache.words, Words) == ids_stay


def test_words_of_another_width_are_refused():
    weights = lstm_weights(Source().normal, IN, H)
    with pytest.raises(ValueError, match=r"^weight_ih_l0 must have shape \(\d+, 2\), got"):
        lstm_forward(np.zeros((9, 1), int), weights, embedding=np.ones((3, 2)))


@given(seed=st.integers(0, 99), cut=st.integers(0, 6))
def test_a_state_carries_a_sequence_over_a_cut(seed, cut):
    x, weights, state = drawn(Source(seed), (6, 2, IN), hidden=3, num_layers=2)
    (y, final), dy, (dx, dweights, dstate) = bound(x, weights, state).run()
    (y_1, middle), cache_1 = lstm_forward(x[:cut], weights, state)
    (y_2, final_2), cache_2 = lstm_forward(x[cut:], weights, middle)
    assert_close((np.concatenate([y_1, y_2]), final_2), (y, final), floor=1)
    dx_2, dweights_2, dmiddle = lstm_backward((dy[0][cut:], dy[1]), cache_2)
    dx_1, dweights_1, dstate_1 = lstm_backward((dy[0][:cut], dmiddle), cache_1)
    assert_close((np.concatenate([dx_1, dx_2]), dstate_1), (dx, dstate), floor=1)
    assert_close({name: dweights_1[name] + dweights_2[name] for name in weights}, dweights, floor=1)


@pytest.mark.parametrize("t", range(T - 1))
def test_a_later_token_moves_no_earlier_output(t):
    x, weights = drawn(Source(), (T, B, IN), state=False, num_layers=2)
    other = np.array(x)
    other[t + 1 :] = 9.0
    (y, _), cache = lstm_forward(x, weights)
    (y_other, _), _ = lstm_forward(other, weights)
    assert_close(y_other[: t + 1], y[: t + 1], tolerance=0)
    assert (y_other[t + 1] != y[t + 1]).all()
    dy = np.array(Source(1).like(y))
    dy[t + 1 :] = 0
    dx, _ = lstm_backward((dy, None), cache)
    assert (dx[t + 1 :] == 0).all()


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize(
    ("shape", "lengths"),
    [((T, B, IN), "unequal"), ((T, IN), "no lengths"), ((0, B, IN), "no lengths")],
    ids=str,
)
def test_an_unseen_final_state_is_one_with_a_zero_cotangent(state, shape, lengths):
    args = drawn(Source(), shape, state=state, num_layers=2, bidirectional=True, proj_size=2)
    (y, final), cache = lstm_forward(*args, lengths=LENGTHS[lengths])
    dy = Source(1).like(y)
    zeros = tuple(map(np.zeros_like, final))
    assert_close(lstm_backward((dy, None), cache), lstm_backward((dy, zeros), cache))


def test_a_missing_state_is_one_of_zeros():
    x, weights, (h0, c0) = drawn(Source(), (T, B, IN), num_layers=2)
    zeros = (np.zeros_like(h0), np.zeros_like(c0))
    y, dy, (dx, dweights) = bound(x, weights).run()
    same, cache = lstm_forward(x, weights, zeros)
    assert_close(same, y, tolerance=0)
    assert_close(lstm_backward(dy, cache)[:2], (dx, dweights), tolerance=0)


@pytest.mark.parametrize("peepholes", [False, True])  # by the fast form and by the plain one
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_gates_that_were_kept_make_the_cells(bidirectional, peepholes):
    source = Source()
    kind = {"num_layers": 2, "bidirectional": bidirectional, "peepholes": peepholes}
    weights = lstm_weights(source.normal, 3, H, **kind)
    x = source.normal(4, 2, 3)
    (y, (_, c_n)), cache = lstm_forward(x, weights)
    found = lstm_gates(cache)
    assert len(found) == len(c_n)
    for gates, last in zip(found, c_n, strict=True):
        assert gates.shape == (4, 2, 4, H)
        c = np.zeros((2, H))
        for i, f, g, _ in gates.swapaxes(1, 2):
            c = f * c + i * g
        assert_close(c, last, floor=1)
    if not bidirectional:  # the last layer's output gate shows what is in the last cells
        assert_close(found[-1][-1, :, 3] * np.tanh(c_n[-1]), y[-1], floor=1)
    # they are the caller's own
    before = lstm_backward((np.ones_like(y), None), cache)
    for gates in found:
        gates[...] = 0
    assert_close(lstm_backward((np.ones_like(y), None), cache), before, tolerance=0)
