"""The LSTM over sequences: what does not fit is refused, and named."""

import re

import numpy as np
import pytest

from npllm.evidence.layers.lstm import lstm_weights
from npllm.evidence.source import Source
from npllm.layers import lstm_backward, lstm_forward

T, B, IN, H = 5, 4, 3, 6
LOOK_UP = {"embedding": np.ones((6, IN))}
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def without(*names):
    return lambda weights: {key: w for key, w in weights.items() if key not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {}, "weights lacks weight_hh_l0, weight_ih_l0"),
        (without("weight_hh_l0"), "weights lacks weight_hh_l0"),
        (without("bias_hh_l1"), "weights lacks bias_hh_l1"),
        (without("weight_ih_l0", "bias_hh_l0"), "weights lacks bias_hh_l0, weight_ih_l0"),
        (without("weight_ih_l1"), "weights has bias_hh_l1, bias_ih_l1, weight_hh_l1, which"),
        (without("bias_ih_l0"), "weights has bias_hh_l0, bias_hh_l1, bias_ih_l1, which fits no"),
        (lambda w: w | {"head": np.ones(3)}, "weights has head, which fits no layer"),
        (
            lambda w: w | {"weight_ih_l0_reverse": w["weight_ih_l0"]},
            "weights lacks bias_hh_l0_reverse, bias_hh_l1_reverse",
        ),
        (
            lambda w: w | {"weight_ih_l0": np.ones((24, 5))},
            "x must have shape (..., 5), got (5, 4, 3)",
        ),
        (
            lambda w: w | {"bias_hh_l1": np.ones(6)},
            "bias_hh_l1 must have shape (24,), got (6,)",
        ),
        (
            lambda w: w | {"weight_ch_l0": np.ones(18)},
            "weights lacks weight_ch_l1",
        ),
        (
            lambda w: w | {"weight_ch_l1": np.ones(18)},
            "weights has weight_ch_l1, which fits no layer",
        ),
        (
            lambda w: w | {"weight_ch_l0": np.ones(24), "weight_ch_l1": np.ones(24)},
            "weight_ch_l0 must have shape (18,), got (24,)",
        ),
        (
            lambda w: {f"{name}_reverse": a for name, a in w.items() if name != "weight_hh_l1"},
            "weights lacks weight_hh_l1_reverse",
        ),
        (
            lambda w: w | {"weight_hh_l1": np.ones((24, 2))},
            "weight_hh_l1 must have shape (24, 6), got (24, 2)",
        ),
    ],
)
def test_weights_that_do_not_fit(change, message):
    weights = lstm_weights(Source().normal, IN, H, num_layers=2)
    with pytest.raises(ValueError, match=re.escape(message)):
        lstm_forward(np.ones((T, B, IN)), change(weights))


@pytest.mark.parametrize(
    ("shape", "options", "error", "message"),
    [
        ((IN,), {}, ValueError, "x must have shape (T, B, I) or (T, I), got (3,)"),
        ((T, B, IN), LOOK_UP, ValueError, "x must have shape (T, B) or (T,), got (5, 4, 3)"),
        ((T, B), LOOK_UP, TypeError, "x must be integers, got float64"),
        ((T, B, IN), {"lengths": [1.0] * B}, TypeError, "lengths must be integers, got float64"),
        ((T, B, IN), {"lengths": [1, 6, 1, 1]}, ValueError, "lengths must lie in [0, 6), got 6"),
        ((T, B, IN), {"lengths": [1, -1, 1, 1]}, ValueError, "lengths must lie in [0, 6), got -1"),
        ((T, B, IN), {"lengths": [1]}, ValueError, "lengths must have shape (4,), got (1,)"),
        ((T, IN), {"lengths": [1] * B}, ValueError, "lengths must have shape (1,), got (4,)"),
        ((T, B, IN), {"dropout": -1.0}, ValueError, "dropout must lie in [0, 1], got -1.0"),
        ((T, B, IN), {"dropout": 0.5}, ValueError, "rng must be a numpy.random.Generator"),
    ],
)
def test_refuses(shape, options, error, message):
    weights = lstm_weights(Source().normal, IN, H, num_layers=2)
    with pytest.raises(error, match=re.escape(message)):
        lstm_forward(np.ones(shape), weights, **options)


def test_what_one_direction_has_the_other_lacks():
    weights = lstm_weights(Source().normal, IN, H, bidirectional=True)
    for name, shape in {"weight_hr": (2, H), "weight_ch": (3 * H,)}.items():
        with pytest.raises(ValueError, match=f"weights lacks {name}_l0_reverse"):
            lstm_forward(np.ones((T, B, IN)), weights | {f"{name}_l0": np.ones(shape)})


def test_a_layer_left_out_is_missing():
    weights = lstm_weights(Source().normal, IN, H, num_layers=3)
    with pytest.raises(ValueError, match="weights lacks bias_hh_l1, bias_ih_l1, weight_hh_l1, w"):
        lstm_forward(np.ones((T, B, IN)), {n: w for n, w in weights.items() if "l1" not in n})


@pytest.mark.parametrize("other", ["l1", "l0_reverse"])
def test_every_layer_and_direction_has_as_many_cells_as_the_first(other):
    weights, width = lstm_weights(Source().normal, IN, H), IN if "reverse" in other else H
    fewer = lstm_weights(Source().normal, width, 4)
    weights |= {name.replace("l0", other): w for name, w in fewer.items()}
    message = f"weight_ih_{other} must have shape (24, {width}), got (16, {width})"
    with pytest.raises(ValueError, match=re.escape(message)):
        lstm_forward(np.ones((T, B, IN)), weights)


@pytest.mark.parametrize(
    ("h0", "c0", "message"),
    [
        ((1, B, H), (2, B, H), "h0 must have shape (2, 4, 6), got (1, 4, 6)"),
        ((2, B, H), (2, B, 5), "c0 must have shape (2, 4, 6), got (2, 4, 5)"),
        ((2, H), (2, H), "h0 must have shape (2, 4, 6), got (2, 6)"),
    ],
)
def test_states_that_do_not_fit(h0, c0, message):
    weights = lstm_weights(Source().normal, IN, H, num_layers=2)
    with pytest.raises(ValueError, match=re.escape(message)):
        lstm_forward(np.ones((T, B, IN)), weights, (np.ones(h0), np.ones(c0)))


def test_a_cotangent_of_another_shape():
    _, cache = lstm_forward(np.ones((T, B, IN)), lstm_weights(Source().normal, IN, H))
    with pytest.raises(ValueError, match=r"dy must have shape \(5, 4, 6\), got \(4, 4, 6\)"):
        lstm_backward((np.ones((4, B, H)), None), cache)
    for name, state in {"dh_n": ((1, 1, H), (1, B, H)), "dc_n": ((1, B, H), (1, 1, H))}.items():
        with pytest.raises(
            ValueError, match=rf"{name} must have shape \(1, 4, 6\), got \(1, 1, 6\)"
        ):
            lstm_backward((np.ones((T, B, H)), tuple(map(np.ones, state))), cache)


@pytest.mark.parametrize(
    ("x", "options", "shape"),
    [
        ((T, B, IN), {}, (T, B, 2 * H)),
        ((B, T, IN), {"batch_first": True}, (B, T, 2 * H)),
        ((T, IN), {}, (T, 2 * H)),
    ],
)
@pytest.mark.parametrize("more", [-1, 1])
def test_a_cotangent_of_another_width_is_told_as_it_was_given(x, options, shape, more):
    weights = lstm_weights(Source().normal, IN, H, bidirectional=True)
    _, cache = lstm_forward(np.ones(x), weights, **options)
    given = (*shape[:-1], shape[-1] + more)
    with pytest.raises(ValueError, match=re.escape(f"dy must have shape {shape}, got {given}")):
        lstm_backward((np.ones(given), None), cache)


def test_a_layer_of_no_width_has_gradients():
    weights = {"weight_ih_l0": np.ones((0, 0)), "weight_hh_l0": np.ones((0, 0))}
    (y, final), cache = lstm_forward(np.ones((10, B, 0)), weights)
    dx, dweights = lstm_backward((y, final), cache)
    assert dx.shape == (10, B, 0)
    assert {name: d.shape for name, d in dweights.items()} == dict.fromkeys(weights, (0, 0))
