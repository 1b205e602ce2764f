"""Clipping by the global norm."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.optim import clip_global_norm


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 1e6])
def test_agrees_with_torch(torch, dtype, size, max_norm):
    ours = np.random.default_rng(0).standard_normal(size).astype(dtype)
    theirs = torch.tensor(ours)
    theirs.grad = torch.tensor(ours)
    norm = clip_global_norm(ours, max_norm)
    expected = torch.nn.utils.clip_grad_norm_([theirs], max_norm)
    # a sum of n squares is right to n eps at worst; then come a root, a quotient and a product
    tolerance = 1e-12 if dtype == np.float64 else (size + 3) * float(np.finfo(dtype).eps)
    assert isinstance(norm, float)
    assert norm == pytest.approx(expected.item(), rel=tolerance)
    clipped = theirs.grad.numpy()
    assert np.abs(ours - clipped).max() <= tolerance * np.abs(clipped).max()


@given(
    g=st.lists(st.floats(-1e6, 1e6), max_size=5).map(np.array),
    max_norm=st.floats(1e-3, 1e3),
)
def test_shortens_but_never_turns_nor_stretches(g, max_norm):
    g = g.astype(float)
    before = g.copy()
    norm = clip_global_norm(g, max_norm)
    assert norm == pytest.approx(np.linalg.norm(before), rel=1e-12)
    after = np.linalg.norm(g)
    assert after <= min(norm, max_norm) * (1 + 1e-12)
    np.testing.assert_allclose(g * norm, before * after, rtol=1e-9, atol=1e-12 * norm**2)
    if norm <= max_norm - 1e-5:
        np.testing.assert_array_equal(g, before)


@pytest.mark.parametrize("max_norm", [5.001, 6.0, 9.0, np.inf])
def test_a_norm_below_the_largest_stays_to_the_bit(max_norm):
    g = np.array([3.0, -4.0])
    assert clip_global_norm(g, max_norm) == 5.0
    assert g.tolist() == [3.0, -4.0]


def test_the_gradients_of_a_model_are_clipped_in_place():
    vector = np.array([3.0, 4.0])
    assert clip_global_norm(SimpleNamespace(vector=vector), 1.0) == 5.0
    np.testing.assert_allclose(vector, [0.6, 0.8], rtol=1e-6)


def test_refuses():
    with pytest.raises(ValueError, match=r"max_norm must lie in \[0\.0, inf\), got -1"):
        clip_global_norm(np.ones(3), -1.0)
    with pytest.raises(TypeError, match=r"gradients must be .* array, got list"):
        clip_global_norm([1.0], 1.0)
