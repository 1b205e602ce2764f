"""Sinusoids and slopes."""

import numpy as np
import pytest

from npllm.evidence.source import Source
from npllm.layers import (
    alibi_bias,
    alibi_slopes,
    attention_forward,
    rotary_table,
    sinusoidal_positions,
)


@pytest.mark.parametrize("width", [0, 1, 4, 5, 8])
def test_sinusoids_are_those_of_the_paper(width):
    table = sinusoidal_positions(6, width)
    assert table.shape == (6, width)
    for t in range(6):
        for feature in range(width):
            angle = t / 10000 ** (2 * (feature // 2) / width)
            expected = np.cos(angle) if feature % 2 else np.sin(angle)
            assert table[t, feature] == pytest.approx(expected, abs=1e-15)
    assert sinusoidal_positions(6, width, dtype=np.float32).dtype == np.float32


def test_sinusoids_turn_as_rotary_positions_do():
    table = sinusoidal_positions(6, 8)
    cos, sin = rotary_table(np.arange(6), 8)
    np.testing.assert_allclose(table[:, 0::2], sin, atol=1e-15)
    np.testing.assert_allclose(table[:, 1::2], cos, atol=1e-15)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 20])
def test_slopes_are_geometric_with_those_between_for_other_numbers(heads):
    slopes = alibi_slopes(heads)
    assert len(set(slopes)) == len(slopes) == heads
    power = 1 << (heads.bit_length() - 1)
    ratio = 2 ** (-8 / power)
    np.testing.assert_allclose(slopes[:power], ratio ** np.arange(1, power + 1), rtol=1e-12)
    between = 2 ** (-4 / power * np.arange(1, 2 * power, 2))[: heads - power]
    np.testing.assert_allclose(slopes[power:], between, rtol=1e-12)


def test_a_bias_is_a_slope_times_a_distance():
    bias = alibi_bias(3, 2, 5, offset=3)
    for n, slope in enumerate(alibi_slopes(3)):
        for t in range(2):
            for s in range(5):
                assert bias[n, t, s] == -slope * abs(t + 3 - s)
    assert alibi_bias(3, 2, 5, dtype=np.float32).dtype == np.float32
    x = Source().normal(3, 5, 4)
    near = attention_forward(x, x, x, bias=1e3 * alibi_bias(3, 5, 5))[0]
    np.testing.assert_allclose(near, x, atol=1e-1)  # each sees itself alone
    with pytest.raises(ValueError, match="heads must be at least 1, got 0"):
        alibi_slopes(0)
