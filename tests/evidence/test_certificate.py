"""The certificate: it passes, it is complete, and a slip anywhere in the model makes it fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npllm.evidence import MISTAKES, Mistake, certificate, torch_models
from npllm.evidence.certificate import CONFIGURATIONS, STEPS, TOLERANCE, Section, certify
from npllm.models import KINDS, LSTMLanguageModel

LOSS = LSTMLanguageModel.loss_and_gradients
SLIPS = [mistake for mistake in MISTAKES if mistake.layer == "LSTMLanguageModel"]
OTHERS = {  # a slip in each of the other models
    "gpt": "the last norm not trained",
    "llama": "a token that occurs more than once gets its last position's gradient",
    "bag_classifier": "the dropout of the words forgotten on the way back",
    "lstm_classifier": "the softmax's gradient centred by the mean over all places",
    "encoder_classifier": "a position's gradient from the first text only",
    "transformer_translator": "a shared table keeps the target's shares only",
    "lstm_translator": "of the final state, h alone handed to the encoder",
}


def quick(seed: int = 0) -> Section:
    (section,) = certify("lstm", quick=True, seed=seed)
    return section


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "has_torch", lambda: False)


def test_every_model_has_a_certificate_and_a_twin() -> None:
    assert CONFIGURATIONS.keys() == KINDS.keys()
    assert all(callable(getattr(torch_models, name, None)) for name in KINDS)
    for configurations in CONFIGURATIONS.values():
        assert len({c.label for c in configurations}) == len(configurations)
        assert [c.quick for c in configurations].count(True) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_quick_certificate_passes_with_torch(torch: Any, seed: int) -> None:
    section = quick(seed)
    assert section.passed
    assert section.symmetric
    for row in section.rows:
        assert row.passed
        for error, ulps in ((row.complex_step, row.complex_ulps), (row.torch, row.torch_ulps)):
            assert error is not None
            assert ulps is not None
            assert 0 <= error < TOLERANCE
            # an ulp is between a half and one eps of the number it belongs to
            eps = float(np.finfo(float).eps)
            assert error / eps <= ulps <= 2 * error / eps or error == 0


@pytest.mark.usefixtures("without_torch")
def test_the_quick_certificate_passes_without_torch() -> None:
    section = quick()
    assert section.passed
    assert {row.torch for row in section.rows} == {row.torch_ulps for row in section.rows} == {None}
    # every parameter and element is in it
    (configuration,) = (c for c in CONFIGURATIONS["lstm"] if c.quick)
    model = LSTMLanguageModel(**configuration.config)
    sizes = {row.parameter: row.elements for row in section.rows}
    assert sizes == {name: math.prod(shape) for name, shape in model.parameters.shapes.items()}
    assert sum(sizes.values()) == model.parameters.vector.size


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("mistake", SLIPS, ids=lambda m: m.slip)
def test_a_slip_in_the_model_shows(mistake: Mistake) -> None:
    with mistake.applied():
        assert not quick().passed


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("name", OTHERS)
def test_a_slip_in_any_other_model_shows(name: str) -> None:
    (mistake,) = (m for m in MISTAKES if m.slip == OTHERS[name])
    assert mistake.layer == KINDS[name].__name__
    with mistake.applied():
        (section,) = certify(name, quick=True)
    assert not section.passed
    assert any(row.passed for row in section.rows)  # not all of the model is wrong


def test_every_other_model_has_its_slip() -> None:
    assert {"lstm", *OTHERS} == set(KINDS)


def test_torch_sees_a_slip_too(torch: Any) -> None:
    with SLIPS[0].applied():
        wrong = [row for row in quick().rows if row.torch is None or row.torch > TOLERANCE]
    assert wrong
    for row in wrong:
        assert row.torch == pytest.approx(row.complex_step)


def test_torch_sees_another_loss_and_another_state(
    torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = quick().results
    assert right is not None
    assert right < TOLERANCE
    for change in ({"loss": 2.0}, {"state": lambda state: (state[0], 1.001 * state[1])}):

        def other(self: Any, *args: Any, rng: Any, change: Any = change, f: Any = LOSS) -> Any:
            result = f(self, *args, rng=rng)
            new = {k: v(result.state) if callable(v) else v for k, v in change.items()}
            return result._replace(**new)

        monkeypatch.setattr(LSTMLanguageModel, "loss_and_gradients", other)
        assert not quick().passed


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Any], Any]) -> None:
    """Let ``change(model, gradients)`` have each gradient before it is returned."""
    for name in ("backward", "loss_and_gradients"):
        monkeypatch.setattr(LSTMLanguageModel, name, spoiled(name, change))


def spoiled(name: str, change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Return the model's method of that name, its gradients changed."""
    right = getattr(LSTMLanguageModel, name)

    def method(self: Any, *args: Any, **options: Any) -> Any:
        result = right(self, *args, **options)
        if name == "backward":
            return change(self, result)
        return result._replace(gradients=change(self, result.gradients))

    return method


@pytest.mark.usefixtures("without_torch")
def test_a_gradient_kept_from_the_step_before_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(model: Any, gradients: Any) -> Any:
        return model.__dict__.setdefault("kept", gradients)

    spoil(monkeypatch, stale)
    section = quick()
    assert not section.passed
    assert section.symmetric  # of a fresh model, each time: the first step is right
    monkeypatch.setattr(certificate, "STEPS", 1)
    assert quick().passed
    assert STEPS > 1


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["everywhere", "in one number"])
def test_a_gradient_that_is_no_number_fails(
    monkeypatch: pytest.MonkeyPatch, number: float, where: str
) -> None:
    def spoiled(model: Any, gradients: Any) -> Any:
        gradients.vector[... if where == "everywhere" else 3] = number
        return gradients

    spoil(monkeypatch, spoiled)
    section = quick()
    assert not section.passed
    assert any(math.isnan(row.complex_step) for row in section.rows)
    assert not all(row.passed for row in section.rows)


@pytest.mark.usefixtures("without_torch")
def test_a_gradient_of_zero_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(model: Any, gradients: Any) -> Any:
        gradients.vector[...] = 0
        return gradients

    spoil(monkeypatch, nothing)
    section = quick()
    assert not any(row.passed for row in section.rows)
    assert {row.complex_step for row in section.rows} == {1.0}


@pytest.mark.usefixtures("without_torch")
def test_the_smallest_slip_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def nearly(model: Any, gradients: Any) -> Any:
        gradients["fc.bias"] *= 1 + 1e-11
        return gradients

    spoil(monkeypatch, nearly)
    assert [row.parameter for row in quick().rows if not row.passed] == ["fc.bias"]


@pytest.mark.slow
def test_the_whole_certificate_passes(torch: Any) -> None:
    for name, configurations in CONFIGURATIONS.items():
        sections = list(certify(name))
        assert [section.label for section in sections] == [c.label for c in configurations]
        for section in sections:
            assert section.passed, section
            assert all(row.torch is not None for row in section.rows)
