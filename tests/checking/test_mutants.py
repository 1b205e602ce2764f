"""The checker rejects every wrong backward, and the proofs accept every right one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from mutants import MUTANTS, Mutant

from npllm import layers
from npllm.checking import gradcheck
from npllm.checking.trees import map_leaves
from npllm.proofs import CASES, Case

ALL_CASES = [
    pytest.param(name, case, id=f"{name}: {case.label}")
    for name, cases in CASES.items()
    for case in cases(np.random.default_rng(0))
]


def find_case(layer: str, label: str) -> Case:
    (case,) = (c for c in CASES[layer](np.random.default_rng(0)) if c.label == label)
    return case


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, ...]]]:
    """Rows that are printed when the last mutant has been tried."""
    rows: list[tuple[str, ...]] = [("layer", "slip", "caught in", "complex", "central")]
    yield rows
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n\n{len(rows) - 1} wrong backward passes, each rejected; the largest errors:")
        for row in rows:
            print("  ".join(map(str.ljust, row, widths)).rstrip())


@pytest.mark.parametrize(("name", "case"), ALL_CASES)
def test_every_gradient_is_right(name: str, case: Case) -> None:
    report = gradcheck(case.forward, case.backward, case.args)
    assert report.passed, f"\n{report}"


@pytest.mark.parametrize(("name", "case"), ALL_CASES)
def test_zeros_are_rejected(name: str, case: Case) -> None:
    y, cache = case.forward(*case.args)
    right = case.backward(map_leaves(lambda a: np.ones(a.shape), y), cache)

    def backward(dy: object, cache: object) -> object:
        return map_leaves(np.zeros_like, right)

    report = gradcheck(case.forward, backward, case.args, methods=("complex",))
    # with p = 1 dropout's gradient is zero, and so is what a relu or a mask never lets through
    assert report.passed == (case.label == "p = 1.0")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.layer}: {m.slip}")
def test_a_wrong_backward_is_rejected(mutant: Mutant, table: list[tuple[str, ...]]) -> None:
    case = find_case(mutant.layer, mutant.label)
    with mutant.applied():
        report = gradcheck(case.forward, case.backward, case.args)
    assert not report.passed
    errors: dict[str, list[float]] = {}
    for argument in report.arguments:
        for comparison in argument.comparisons:
            errors.setdefault(comparison.method, []).append(comparison.error)
    largest = [f"{max(values):.1e}" for values in errors.values()]
    table.append((mutant.layer, mutant.slip, mutant.label, *largest))
    # both oracles see it, each for itself
    assert all(max(values) > 1e-3 for values in errors.values())
    assert gradcheck(case.forward, case.backward, case.args, methods=("complex",)).passed


def test_every_layer_has_a_case_and_two_mutants() -> None:
    public = {name.removesuffix("_forward") for name in dir(layers) if name.endswith("_forward")}
    assert public <= set(CASES)
    counts = {layer: sum(m.layer == layer for m in MUTANTS) for layer in CASES}
    assert min(counts.values()) >= 2, counts
