"""No layer and no model stands without its evidence: what is missing is named."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from npllm.evidence import MISTAKES, SUBJECTS, Subject, torch_models
from npllm.models import MODELS

TESTS = Path(__file__).parents[1]


def missing(subject: Subject) -> list[str]:
    """Return what a layer or a model lacks."""
    room, file = subject.home.removeprefix("npllm.").split(".")
    evidence = f"npllm/evidence/{room}/{file}.py"
    lacks = []
    if not subject.find("cases"):
        lacks.append(f"{subject.stem}_cases in {evidence}")
    if len(subject.find("MISTAKES") or ()) < 2:
        lacks.append(f"two mistakes, {subject.stem.upper()}_MISTAKES in {evidence}")
    if subject.stem == "model":
        if not subject.find("CONFIGURATIONS"):
            lacks.append(f"MODEL_CONFIGURATIONS in {evidence}")
        if not callable(getattr(torch_models, file, None)):
            lacks.append(f"{file} in npllm/evidence/torch_models.py")
        return lacks
    code = importlib.util.find_spec(subject.home)
    if not code or not hasattr(importlib.import_module(subject.home), f"{subject.name}_backward"):
        lacks.append(f"{subject.name}_backward in {subject.home}")
    if not subject.find("arguments"):
        lacks.append(f"{subject.stem}_arguments in {evidence}")
    if room == "layers" and not (TESTS / "layers" / f"test_{file}.py").is_file():
        lacks.append(f"tests/layers/test_{file}.py")
    return lacks


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_every_layer_and_model_has_its_evidence(subject: Subject) -> None:
    assert missing(subject) == []


def test_what_is_missing_is_named() -> None:
    assert missing(Subject("gru", "npllm.layers.gru", "gru")) == [
        "gru_cases in npllm/evidence/layers/gru.py",
        "two mistakes, GRU_MISTAKES in npllm/evidence/layers/gru.py",
        "gru_backward in npllm.layers.gru",
        "gru_arguments in npllm/evidence/layers/gru.py",
        "tests/layers/test_gru.py",
    ]
    assert missing(Subject("Bigram", "npllm.models.bigram", "model")) == [
        "model_cases in npllm/evidence/models/bigram.py",
        "two mistakes, MODEL_MISTAKES in npllm/evidence/models/bigram.py",
        "MODEL_CONFIGURATIONS in npllm/evidence/models/bigram.py",
        "bigram in npllm/evidence/torch_models.py",
    ]


def test_the_subjects_are_the_layers_the_blocks_and_the_models() -> None:
    names = [subject.name for subject in SUBJECTS]
    assert len(set(names)) == len(names)
    assert {"lstm", "layer_norm", "gpt_block", "llama_block", "GPT"} <= set(names)
    homes = [subject.home for subject in SUBJECTS if subject.stem == "model"]
    assert homes == [model.__module__ for model in MODELS.values()]
    assert homes == [f"npllm.models.{name}" for name in MODELS]


def test_a_mistake_is_filed_with_its_layer() -> None:
    for subject in SUBJECTS:
        assert {m.layer for m in subject.find("MISTAKES")} == {subject.name}
    assert len(MISTAKES) == sum(len(subject.find("MISTAKES")) for subject in SUBJECTS)
