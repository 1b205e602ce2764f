"""No right layer is ever accused: random layers with evidence, random shapes and numbers."""

from __future__ import annotations

import numpy as np
import pytest

from npllm.checking import gradcheck
from npllm.evidence import ARGUMENTS
from npllm.evidence.source import Source

# the gradient of padding_idx's row is zero by contract, and not by the equation
LAYERS = {name: build for name, build in ARGUMENTS.items() if name != "embedding, padding"}


def check(number: int, largest: int) -> str:
    """Check one random configuration; return the report if it is an alarm."""
    rng = np.random.default_rng(number)
    name = list(LAYERS)[number % len(LAYERS)]
    lead = tuple(int(n) for n in rng.integers(1, 3, size=rng.integers(3)))
    n, m = (int(size) for size in rng.integers(1, largest + 1, size=2))
    layer = LAYERS[name](Source(number, scale=float(rng.uniform(0.3, 3))), lead, n, m)
    report = gradcheck(layer.forward, layer.backward, layer.args, seed=number)
    return "" if report else f"{name}, {lead}, {n}, {m}:\n{report}"


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_a_right_layer_passes(number: int) -> None:
    alarm = check(number, largest=2)
    assert not alarm, alarm


@pytest.mark.slow
def test_a_thousand_random_configurations_raise_no_alarm() -> None:
    alarms = [alarm for number in range(1000, 2000) if (alarm := check(number, largest=5))]
    print(f"\n1000 random configurations, {len(alarms)} false alarms")
    assert not alarms, "\n\n".join(alarms)
