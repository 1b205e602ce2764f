"""The checker rejects every mistake of the atlas, and names its cause where there is one."""

from __future__ import annotations

import inspect

import pytest

from npllm.cli.atlas import lesson
from npllm.evidence import CASES, MISTAKES, Mistake
from npllm.evidence.trial import try_mistake

# what the numbers can show, if a mistake of that kind is in the atlas
NAMED = {
    "accumulated",
    "aliased",
    "argument_added",
    "epsilon",
    "factor",
    "first_step",
    "float32",
    "mean_term",
    "mutated_dy",
    "mutated_input",
    "nonlinear",
    "not_zero",
    "permuted",
    "random",
    "repeated_ids",
    "returned_dy",
    "scale",
    "sign",
    "stale",
    "transposed",
    "zero",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.layer}: {m.slip}")
def test_a_mistake_is_rejected_and_named(mistake: Mistake) -> None:
    function = inspect.unwrap(mistake.function)
    code = function.__code__
    trial = try_mistake(mistake)
    assert not trial.report.passed
    if mistake.cause:
        assert mistake.cause in {cause.key for cause in trial.report.causes}, str(trial.report)
    text = lesson(trial)
    assert mistake.why in text
    assert mistake.giveaway in text
    assert function.__code__ is code  # as it was: the right one


def test_the_atlas_is_large_and_covers_every_layer_and_cause() -> None:
    assert len(MISTAKES) >= 350
    assert len({(m.layer, m.slip) for m in MISTAKES}) == len(MISTAKES)
    counts = {layer: sum(m.layer == layer for m in MISTAKES) for layer in CASES}
    assert min(counts.values()) >= 2, counts
    assert {m.cause for m in MISTAKES} >= NAMED
    assert sum(m.wild for m in MISTAKES) >= 10


def test_a_mistake_whose_source_has_gone_says_so() -> None:
    mistake = next(m for m in MISTAKES if m.layer == "embedding")
    gone = Mistake(**{**vars(mistake), "source": "no such line"})
    with pytest.raises(ValueError, match="must occur once in embedding_backward: mend the mistake"):
        gone.applied().__enter__()
