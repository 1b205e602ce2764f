"""The update rules against torch's, and what all of them owe."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from npllm.optim.optimizer import PIECE

STEPS = 50
SIZE = PIECE + 7

RULES = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (RMSprop, {}),
    (RMSprop, {"lr": 0.1, "alpha": 0.5, "eps": 0.1}),
    (RMSprop, {"weight_decay": 0.1}),
    (RMSprop, {"momentum": 0.9}),
    (RMSprop, {"centered": True, "alpha": 0.9}),
    (RMSprop, {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-4}),
    (Adam, {}),
    (Adam, {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.1}),
    (Adam, {"lr": 0.1, "betas": (0.0, 0.0)}),
    (Adam, {"weight_decay": 0.1}),
    (AdamW, {}),
    (AdamW, {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.5}),
    (AdamW, {"weight_decay": 0.0}),
]


def title(value):
    if isinstance(value, type):
        return value.__name__
    return ",".join(f"{key}={v}" for key, v in value.items()) if isinstance(value, dict) else None


every_rule = pytest.mark.parametrize(("rule", "options"), RULES, ids=title)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def vectors(dtype=np.float64, count=STEPS, size=SIZE, seed=0):
    """Return parameters and the gradients of some steps, which are read-only."""
    rng = np.random.default_rng(seed)
    p, *gradients = rng.standard_normal((count + 1, size)).astype(dtype)
    for g in gradients:
        g.flags.writeable = False
    return p.copy(), gradients


@every_rule
@every_dtype
def test_agrees_with_torch(torch, rule, options, dtype):
    ours, gradients = vectors(dtype)
    theirs = torch.tensor(ours, requires_grad=True)
    optimizer = rule(ours, **options)
    reference = getattr(torch.optim, rule.__name__)([theirs], **options)
    # In float32 each of the two rounds its parameters once a step, by at most half an eps of their
    # size, and computes a change that is smaller than them to a few eps.
    tolerance = 1e-12 if dtype == np.float64 else 2 * STEPS * np.finfo(dtype).eps
    for g in gradients:
        optimizer.step(g)
        theirs.grad = torch.tensor(g)
        reference.step()
        expected = theirs.detach().numpy()
        assert np.abs(ours - expected).max() <= tolerance * np.abs(expected).max()


def test_defaults_are_those_of_torch(torch):
    for rule in {rule for rule, _ in RULES}:
        optimizer = rule(np.ones(3))
        defaults = getattr(torch.optim, rule.__name__)([torch.ones(3)]).defaults
        ours = {name: value for name, value in vars(optimizer).items() if name in defaults}
        assert len(ours) >= 4
        assert ours == {name: defaults[name] for name in ours}


@every_rule
@every_dtype
def test_moves_the_given_vector_in_place_and_keeps_its_dtype(rule, options, dtype):
    p, (g,) = vectors(dtype, 1)
    before = p.copy()
    optimizer = rule(p, **options)
    optimizer.step(g)  # which is read-only
    assert optimizer.vector is p
    assert (p != before).all()
    assert {a.dtype for a in (p, *optimizer.state.values())} == {np.dtype(dtype)}
    assert {a.shape for a in (p, *optimizer.state.values())} == {p.shape}


@every_rule
def test_every_element_moves_alone(rule, options):
    whole, gradients = vectors(count=5)
    ends = whole[[0, PIECE - 1, PIECE, -1]]  # on both sides of the border between two pieces
    one, few = rule(whole, **options), rule(ends, **options)
    for g in gradients:
        one.step(g)
        few.step(g[[0, PIECE - 1, PIECE, -1]])
    np.testing.assert_array_equal(whole[[0, PIECE - 1, PIECE, -1]], ends)


@every_rule
@given(cut=st.integers(0, 6))
def test_a_saved_run_goes_on_as_if_it_had_never_stopped(rule, options, cut):
    p, gradients = vectors(count=6, size=5)
    q = p.copy()
    unbroken, first = rule(p, **options), rule(q, **options)
    for g in gradients:
        unbroken.step(g)
    for g in gradients[:cut]:
        first.step(g)
    saved = {name: a.copy() for name, a in first.state.items()}
    second = rule(q, **options)
    second.load(first.steps, saved)
    for g in gradients[cut:]:
        second.step(g)
    np.testing.assert_array_equal(q, p)
    assert second.steps == unbroken.steps == 6
    for name, a in second.state.items():
        np.testing.assert_array_equal(a, unbroken.state[name])
        assert not np.may_share_memory(a, saved[name])


@every_rule
def test_a_model_and_its_gradients_bring_their_vectors(rule, options):
    p, (g,) = vectors(count=1, size=5)
    q = p.copy()
    rule(p, **options).step(g)
    rule(SimpleNamespace(vector=q), **options).step(SimpleNamespace(vector=g))
    np.testing.assert_array_equal(q, p)


@every_rule
def test_a_learning_rate_can_follow_a_schedule(torch, rule, options):
    ours, gradients = vectors(count=5, size=5)
    theirs = torch.tensor(ours, requires_grad=True)
    optimizer = rule(ours, **options)
    reference = getattr(torch.optim, rule.__name__)([theirs], **options)
    for n, g in enumerate(gradients):
        optimizer.lr = reference.param_groups[0]["lr"] = 0.1 / (n + 1)
        optimizer.step(g)
        theirs.grad = torch.tensor(g)
        reference.step()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "options"),
    [pair for pair in RULES if pair[0] is AdamW or "weight_decay" not in pair[1]],
    ids=title,
)
def test_without_decay_the_gradient_is_that_of_the_loss_alone(torch, rule, options):
    # 0 times a parameter that has overflown would be NaN
    ours, g = np.array([np.inf, -np.inf]), np.array([1.0, 1.0])
    optimizer = rule(ours, **options)
    theirs = torch.tensor([np.inf, -np.inf], requires_grad=True, dtype=torch.float64)
    reference = getattr(torch.optim, rule.__name__)([theirs], **options)
    for _ in range(2):
        optimizer.step(g)
        theirs.grad = torch.tensor(g)
        reference.step()
    assert ours.tolist() == theirs.tolist() == [np.inf, -np.inf]
    assert all(np.isfinite(a).all() for a in optimizer.state.values())


def test_a_constant_gradient_has_no_variance_and_takes_no_nan():
    # v - mean^2 is rounding alone, now above zero and now below; the root of that is torch's NaN
    p = np.zeros(4)
    optimizer = RMSprop(p, alpha=0.5, centered=True)
    for _ in range(100):
        before = p.copy()
        optimizer.step(np.array([0.1, 0.3, 0.7, 1.3]))
        assert (p < before).all()
    assert np.isfinite(p).all()


def test_all_of_the_mean_square_may_be_kept():
    p = np.ones(1)
    RMSprop(p, lr=0.1, alpha=1.0, eps=0.5).step(np.ones(1))  # v stays 0
    assert p.tolist() == [0.8]


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        *(
            (rule, {"lr": -1.0}, "lr must lie in [0.0, inf), got -1.0")
            for rule in (SGD, RMSprop, Adam, AdamW)
        ),
        (AdamW, {"lr": np.nan}, "lr must lie in [0.0, inf), got nan"),
        (SGD, {"momentum": -1.0}, "momentum must lie in [0.0, inf), got -1.0"),
        (SGD, {"weight_decay": -1.0}, "weight_decay must lie in [0.0, inf), got -1.0"),
        (SGD, {"nesterov": True}, "nesterov needs a momentum above 0 and a dampening of 0"),
        (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs a momentum"),
        (RMSprop, {"alpha": 1.5}, "alpha must lie in [0.0, 1.0], got 1.5"),
        (RMSprop, {"eps": -1.0}, "eps must lie in [0.0, inf), got -1.0"),
        (RMSprop, {"weight_decay": -1.0}, "weight_decay must lie in [0.0, inf), got -1.0"),
        (RMSprop, {"momentum": -1.0}, "momentum must lie in [0.0, inf), got -1.0"),
        (Adam, {"betas": (1.0, 0.9)}, "betas[0] must lie in [0.0, 1.0), got 1.0"),
        (Adam, {"betas": (0.9, -0.1)}, "betas[1] must lie in [0.0, 1.0), got -0.1"),
        (Adam, {"eps": -1.0}, "eps must lie in [0.0, inf), got -1.0"),
        (AdamW, {"weight_decay": -1.0}, "weight_decay must lie in [0.0, inf), got -1.0"),
    ],
)
def test_refuses_numbers_out_of_range(rule, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        rule(np.ones(3), **options)


@pytest.mark.parametrize("given_parameters", [np.ones((2, 2)), np.ones(3, int), [1.0], None])
def test_refuses_what_is_no_vector(given_parameters):
    kind = type(given_parameters).__name__
    message = f"must be a model's parameters or a one-dimensional real floating array, got {kind}"
    with pytest.raises(TypeError, match=f"parameters {message}"):
        SGD(given_parameters)
    with pytest.raises(TypeError, match=f"gradients {message}"):
        SGD(np.ones(3)).step(given_parameters)


@pytest.mark.parametrize("g", [np.ones(2), np.ones(1), np.ones(3, np.float32)])
def test_refuses_gradients_of_other_parameters_and_stays_as_it_was(g):
    p = np.ones(3)
    optimizer = Adam(p)
    message = f"gradients must be float64 of length 3, got {g.dtype} of length {g.size}"
    with pytest.raises(ValueError, match=message):
        optimizer.step(g)
    assert optimizer.steps == 0
    assert (p == 1).all()


@pytest.mark.parametrize(
    ("rule", "state", "message"),
    [
        (Adam, {"mean": np.ones(3)}, "mean, mean_square of length 3, got {'mean': 3}"),
        (SGD, {"momentum": np.ones(3)}, "nothing of length 3, got {'momentum': 3}"),
        (RMSprop, {"mean_square": np.ones(4)}, "mean_square of length 3, got {'mean_square': 4}"),
    ],
)
def test_refuses_the_state_of_another_run(rule, state, message):
    optimizer = rule(np.ones(3))
    with pytest.raises(ValueError, match=re.escape(f"the state must hold {message}")):
        optimizer.load(1, state)
    assert optimizer.steps == 0
    assert not any(a.any() for a in optimizer.state.values())


def test_the_same_rule_over_other_arrays():
    own, other = np.ones(4), np.ones(6)
    rule = Adam(own, 0.5, weight_decay=0.25)
    mean, square = np.zeros(6), np.zeros(6)
    copied = rule.over(other, {"mean": mean, "mean_square": square})
    copied.step(np.arange(6.0))
    rule.step(np.arange(4.0))
    assert (copied.steps, rule.steps) == (1, 1)
    assert np.array_equal(other[:4], own)  # with the same settings
    assert np.array_equal(mean[:4], rule.state["mean"])
    assert square[5] > 0
    assert copied.vector is other


def test_a_rule_must_say_how_it_moves():
    with pytest.raises(TypeError, match="abstract"):
        Optimizer(np.ones(3), 0.1)
