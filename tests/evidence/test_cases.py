"""The checker accepts every right gradient, and no zeros in its place."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from side_by_side import forward_tested

from npllm.checking import gradcheck
from npllm.checking.trees import map_leaves
from npllm.evidence import CASES, MISTAKES, Case
from npllm.evidence.trial import forward_of, outputs_of

ALL_CASES = [
    pytest.param(name, case, id=f"{name}: {case.label}")
    for name, cases in CASES.items()
    for case in cases(np.random.default_rng(0))
]

# the trials of mistakes need every derivative of these forwards; of the others' larger arguments
# some elements are compared, and as many random directions, in which every element has a share
# (npllm gradcheck takes every element of all)
MISTAKEN = {forward_of(mistake.layer, mistake.label) for mistake in MISTAKES}
SAMPLE = {"exhaustive_size": 32, "samples": 8}


@pytest.mark.parametrize(("name", "case"), ALL_CASES)
def test_every_gradient_is_right(name: str, case: Case) -> None:
    # the checker holds the complex step against a central difference along each argument first
    known = outputs_of(name, case.label)
    sizes = {} if forward_of(name, case.label) in MISTAKEN else SAMPLE
    report = gradcheck(
        case.forward, case.backward, case.args, methods="complex", known=known, **sizes
    )
    assert report.passed, f"\n{report}"


# the other cases reject their mistakes, see test_mistakes
TRIED = {(mistake.layer, mistake.label) for mistake in MISTAKES}
UNTRIED = [case for case in ALL_CASES if (case.values[0], case.values[1].label) not in TRIED]


@pytest.mark.parametrize(("name", "case"), UNTRIED)
def test_zeros_are_rejected(name: str, case: Case) -> None:
    y, cache = case.forward(*case.args)
    right = case.backward(map_leaves(lambda a: np.ones(a.shape), y), cache)

    def backward(dy: object, cache: object) -> object:
        return map_leaves(np.zeros_like, right)

    known = outputs_of(name, case.label)
    sizes = {} if forward_of(name, case.label) in MISTAKEN else SAMPLE
    report = gradcheck(case.forward, backward, case.args, methods="complex", known=known, **sizes)
    # with p = 1 dropout's gradient is zero
    assert report.passed == (case.label == "p = 1.0")


def test_the_tests_of_a_forward_stand_side_by_side(request: pytest.FixtureRequest) -> None:
    """The processes of pytest-xdist take stretches of tests: few forwards are computed twice."""
    forwards = [forward for item in request.session.items if (forward := forward_tested(item))]
    assert len([*groupby(forwards)]) == len(set(forwards))
