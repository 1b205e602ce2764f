"""The checker accepts every right gradient, and no zeros in its place."""

from __future__ import annotations

import numpy as np
import pytest

from npllm.checking import gradcheck
from npllm.checking.trees import map_leaves
from npllm.evidence import CASES, Case
from npllm.evidence.trial import forward_of, outputs_of

# the checks of a forward are for one process, which computes it once
ALL_CASES = [
    pytest.param(
        name,
        case,
        id=f"{name}: {case.label}",
        marks=pytest.mark.xdist_group(forward_of(name, case.label)),
    )
    for name, cases in CASES.items()
    for case in cases(np.random.default_rng(0))
]


@pytest.mark.parametrize(("name", "case"), ALL_CASES)
def test_every_gradient_is_right(name: str, case: Case) -> None:
    known = outputs_of(name, case.label)
    report = gradcheck(case.forward, case.backward, case.args, known=known)
    assert report.passed, f"\n{report}"


@pytest.mark.parametrize(("name", "case"), ALL_CASES)
def test_zeros_are_rejected(name: str, case: Case) -> None:
    y, cache = case.forward(*case.args)
    right = case.backward(map_leaves(lambda a: np.ones(a.shape), y), cache)

    def backward(dy: object, cache: object) -> object:
        return map_leaves(np.zeros_like, right)

    known = outputs_of(name, case.label)
    report = gradcheck(case.forward, backward, case.args, methods=("complex",), known=known)
    # with p = 1 dropout's gradient is zero, and so is what a relu or a mask never lets through
    assert report.passed == (case.label == "p = 1.0")
