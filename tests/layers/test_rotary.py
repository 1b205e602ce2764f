"""rotary: a rotation, by the position, in both pairings and with each scaling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.source import Source
from npllm.layers import rotary_backward, rotary_forward, rotary_frequencies, rotary_table

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
SCALINGS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama3": LLAMA3,
    "yarn": YARN,
    "yarn, all options": {**YARN, "beta_fast": 8, "beta_slow": 2, "attention_factor": 0.9},
    "yarn, factor 1.5": {**YARN, "factor": 1.5},
    "yarn, factor below 1": {**YARN, "factor": 0.5},
    "yarn, short context": {**YARN, "original_max_position_embeddings": 6},
    "yarn, wide": {**YARN, "original_max_position_embeddings": 10**7, "beta_fast": 10**6},
}


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("width", [2, 6, 8])
def test_agrees_with_torch(torch, interleaved, width):
    cos, sin = rotary_table(np.arange(5), width)
    layer = Bound(
        lambda x: rotary_forward(x, cos, sin, interleaved=interleaved),
        rotary_backward,
        (Source().normal(2, 5, 9),),
    )

    def reference(x):
        turned, rest = x[..., :width], x[..., width:]
        half = width // 2
        a, b = turned[..., :half], turned[..., half:]
        if interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
        y = torch.complex(a, b) * torch.complex(torch.tensor(cos), torch.tensor(sin))
        pairs = [y.real, y.imag]
        y = torch.stack(pairs, -1).flatten(-2) if interleaved else torch.cat(pairs, -1)
        return torch.cat([y, rest], -1)

    assert_agrees_with_torch(torch, layer, reference)


@given(seed=st.integers(0, 99), start=st.integers(0, 500), interleaved=st.booleans())
def test_a_product_sees_the_distance_alone(seed, start, interleaved):
    source = Source(seed)
    q, k = source.normal(1, 8), source.normal(1, 8)

    def score(t, s):
        turned = [
            rotary_forward(x, *rotary_table([at], 8), interleaved=interleaved)[0]
            for x, at in ((q, t), (k, s))
        ]
        return (turned[0] * turned[1]).sum()

    assert score(start + 7, start + 3) == pytest.approx(score(4, 0), rel=1e-9, abs=1e-9)
    y, _ = rotary_forward(q, *rotary_table([start], 8), interleaved=interleaved)
    assert_close((y * y).sum(), (q * q).sum())


def test_the_two_pairings_are_one_function_of_permuted_features():
    x = Source().normal(3, 8)
    table = rotary_table(np.arange(3), 8)
    order = np.arange(8).reshape(2, 4).T.ravel()  # 0 4 1 5 2 6 3 7
    halves, _ = rotary_forward(x, *table)
    interleaved, _ = rotary_forward(x[:, order], *table, interleaved=True)
    assert_close(interleaved, halves[:, order], tolerance=0)
    assert not np.allclose(rotary_forward(x, *table, interleaved=True)[0], halves)


@pytest.mark.parametrize("name", SCALINGS)
def test_scalings_are_those_of_public_checkpoints(torch, transformers, name):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = SCALINGS[name]
    config = transformers.LlamaConfig(
        hidden_size=128,
        num_attention_heads=2,
        max_position_embeddings=128,
        rope_parameters={**scaling, "rope_theta": 1000.0},
    )
    if name == "default":
        expected, factor = 1000.0 ** (-torch.arange(0, 64, 2).double() / 64), 1.0
    else:
        expected, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")
    frequencies, own = rotary_frequencies(64, 1000.0, scaling)
    assert_close(frequencies, expected.double().numpy(), tolerance=1e-6)  # theirs are float32
    assert own == pytest.approx(factor, rel=1e-6)
    plain, _ = rotary_frequencies(64, 1000.0)
    assert (name == "default") == np.allclose(frequencies, plain)


@pytest.mark.parametrize(
    ("width", "scaling", "message"),
    [
        (3, None, "must be even and positive, got 3"),
        (0, None, "must be even and positive, got 0"),
        (
            4,
            {"rope_type": "longrope", "factor": 2.0},
            "^rope_type must be one of default, linear, llama3, yarn, got 'longrope'$",
        ),
        (4, {"factor": 2.0}, "rope_type must be one of .* got None"),
        (4, {"rope_type": "linear"}, "^the linear scaling of rotary positions needs factor$"),
        (4, {"rope_type": "llama3", "factor": 2.0}, "llama3 scaling .* needs low_freq_factor"),
        (
            4,
            {"rope_type": "linear", "factor": 2.0, "mscale": 1.0, "beta": 3.0},
            "^the linear scaling of rotary positions has no beta$",
        ),
        (
            4,
            {"rope_type": "linear", "factor": 0},
            "^factor of rotary positions must be positive and finite, got 0$",
        ),
        (4, {"rope_type": "linear", "factor": np.inf}, "positive and finite, got inf"),
        (4, {"rope_type": "linear", "factor": "2"}, "^factor of .* positive and finite, got '2'$"),
        (4, {"rope_type": ["yarn"]}, r"rope_type must be one of .* got \['yarn'\]$"),
        (4, {**LLAMA3, "low_freq_factor": 4.0}, "^high_freq_factor must be above .*, 4.0, got 4.0"),
    ],
)
def test_what_cannot_be_turned_is_refused(width, scaling, message):
    with pytest.raises(ValueError, match=message):
        rotary_frequencies(width, scaling=scaling)


def test_frequencies_fall_to_a_ten_thousandth_where_nothing_else_is_said():
    frequencies, factor = rotary_frequencies(64)
    assert_close(frequencies, 10000.0 ** (-np.arange(32) / 32))
    assert factor == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_table_has_the_scaling_and_the_dtype_asked_for(dtype):
    scaling = SCALINGS["yarn, all options"]
    frequencies, factor = rotary_frequencies(8, 500.0, scaling)
    angles = np.array([[0.0, 3.0]])[..., None] * frequencies
    cos, sin = rotary_table([[0, 3]], 8, 500.0, scaling, dtype)
    assert factor == 0.9
    assert_close(cos, (factor * np.cos(angles)).astype(dtype), tolerance=0)
    assert_close(sin, (factor * np.sin(angles)).astype(dtype), tolerance=0)


def test_a_row_may_have_a_table_of_its_own():
    x = Source().normal(2, 3, 4, 9)
    positions = np.array([[0, 1, 2, 3], [7, 5, 6, 9]])
    cos, sin = rotary_table(positions[:, None], 6)  # (2, 1, 4, 3)
    y, _ = rotary_forward(x, cos, sin)
    for b in range(2):
        assert_close(y[b], rotary_forward(x[b], *rotary_table(positions[b], 6))[0], tolerance=0)


def test_a_table_is_taken_in_the_dtype_of_what_is_turned():
    x = Source(0, np.float32).normal(50, 8)
    table = rotary_table(np.arange(50), 8)
    single = (a.astype(np.float32) for a in table)
    assert_close(rotary_forward(x, *table)[0], rotary_forward(x, *single)[0], tolerance=0)


def test_an_old_name_of_the_type_and_what_is_none_are_read():
    expected, _ = rotary_frequencies(4, scaling={"rope_type": "linear", "factor": 2.0})
    given = {"type": "linear", "factor": 2.0, "beta_fast": None}
    assert_close(rotary_frequencies(4, scaling=given)[0], expected, tolerance=0)


@pytest.mark.parametrize("base", [1.0, 0.5])
def test_yarn_needs_pairs_of_different_speed(base):
    assert rotary_frequencies(4, base)[0].shape == (2,)
    with pytest.raises(ValueError, match=f"^the yarn .* needs a base above 1, got {base}$"):
        rotary_frequencies(4, base, YARN)
    assert rotary_frequencies(4, 1.5, YARN)[0].shape == (2,)


def test_shapes_that_do_not_fit_are_refused():
    cos, sin = rotary_table(np.arange(3), 4)
    with pytest.raises(ValueError, match="cos and sin must have one shape"):
        rotary_forward(np.zeros((3, 4)), cos, sin[:, :1])
    with pytest.raises(ValueError, match=r"with D of 4 or more, got \(3, 3\)"):
        rotary_forward(np.zeros((3, 3)), cos, sin)
    with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., T, D\) .* got \(4,\)"):
        rotary_forward(np.zeros(4), cos, sin)
    with pytest.raises(ValueError, match=r"cos must broadcast to \(2, 2\), got \(3, 2\)"):
        rotary_forward(np.zeros((2, 4)), cos, sin)
    with pytest.raises(ValueError, match=r"cos must broadcast to \(5, 2, 2\), got \(3, 2\)"):
        rotary_forward(np.zeros((5, 2, 4)), cos, sin)
    with pytest.raises(ValueError, match=r"dy must have shape \(3, 4\), got \(3, 5\)"):
        rotary_backward(np.zeros((3, 5)), rotary_forward(np.zeros((3, 4)), cos, sin)[1])
