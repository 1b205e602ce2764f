"""What rounding explains passes, and what it does not explain fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npllm.checking import gradcheck


@pytest.mark.parametrize("fill", [-1e9, -1e20, -1e30, -1e4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_large_output_that_does_not_move_hides_nothing(fill: float, dtype: Any) -> None:
    mask = np.tril(np.ones((4, 4), bool))
    x = np.random.default_rng(0).normal(size=(4, 4)).astype(dtype)

    def forward(x: Any) -> Any:
        return np.where(mask, x * x, np.asarray(fill, x.dtype)), x

    for by in (0.0, 1.05, 3.0):
        assert not gradcheck(forward, lambda dy, x, by=by: 2 * by * x * dy * mask, x, dtype=dtype)
    assert gradcheck(forward, lambda dy, x: 2 * x * dy * mask, x, dtype=dtype)


def test_a_small_gradient_beside_a_large_one_is_held_to_six_digits() -> None:
    args = [np.random.default_rng(0).normal(size=4), np.random.default_rng(1).normal(size=4)]

    def forward(a: Any, b: Any) -> Any:
        return a * 1e6 + b * 1e-6, None

    assert not gradcheck(forward, lambda dy, _: (1e6 * dy, 1.0005e-6 * dy), args)


def test_a_gradient_below_the_rounding_of_the_loss_is_still_held_to_six_digits() -> None:
    args = [np.random.default_rng(0).normal(size=4), np.random.default_rng(1).normal(size=4)]

    def forward(a: Any, b: Any) -> Any:
        return a * 1e10 + b * 1e-6, None

    assert not gradcheck(forward, lambda dy, _: (1e10 * dy, 1.0005e-6 * dy), args)
    assert gradcheck(forward, lambda dy, _: (1e10 * dy, 1e-6 * dy), args)


@pytest.mark.parametrize("scale", [6.0, 9.0, 12.0, 16.0])
def test_a_saturated_layer_passes_and_a_slip_in_it_does_not(scale: float) -> None:
    x = scale + np.random.default_rng(2).uniform(size=(2, 3))

    def forward(x: Any) -> Any:
        y = np.tanh(x)
        return y, y

    report = gradcheck(forward, lambda dy, y: dy * (1 - y * y), x)
    assert report, report  # of 1 - y * y few digits are left, or none
    for by in (0.999, 1.001, -1.0):
        slip = gradcheck(forward, lambda dy, y, by=by: by * dy * (1 - y * y), x)
        assert not slip or scale > 15  # where y is 1 both are zero
    assert not gradcheck(forward, lambda dy, y: dy * (1 - y * y) + 1e-7 * dy, x)
