"""No layer and no model stands without its evidence: what is missing is named."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from npllm import layers
from npllm.evidence import CASES, MISTAKES, SUBJECTS, Case, Subject, torch_models
from npllm.models import KINDS

TESTS = Path(__file__).parents[1]
INTERNAL = "batch_last_lstm"  # a part of the LSTM, no layer of its own


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
    lacks = missing(subject)
    assert not lacks, "\n".join([f"{subject.name} lacks", *lacks])


def untried(forward: Callable[..., object], cases: Iterable[Case]) -> set[str]:
    """Return the options of a layer that no case of it sets to another value than their own."""
    parameters = inspect.signature(forward).parameters.values()
    own = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    code, tried = inspect.unwrap(forward).__code__, set[str]()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is code:
            tried.update(n for n, value in own.items() if frame.f_locals[n] is not value)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for case in cases:
            case.forward(*case.args)
    finally:
        sys.setprofile(before)
    return set(own) - tried


@pytest.mark.parametrize(
    "subject",
    [s for s in SUBJECTS if s.home.startswith("npllm.layers.") and s.name in CASES],
    ids=lambda s: s.name,
)
def test_every_option_of_a_layer_is_in_a_case(subject: Subject) -> None:
    forward = getattr(layers, f"{subject.name}_forward")
    assert untried(forward, CASES[subject.name](np.random.default_rng(0))) == set()


def test_an_option_that_no_case_sets_is_named() -> None:
    def forward(x: Any, *, axis: int = -1, keepdims: bool = False) -> Any:
        return layers.softmax_forward(x, axis=axis)

    case = Case("axis 0", partial(forward, axis=0), layers.softmax_backward, (np.ones((2, 3)),))
    assert untried(forward, [case]) == {"keepdims"}


def test_what_is_missing_is_named() -> None:
    assert missing(Subject("nowhere", "npllm.layers.nowhere", "nowhere")) == [
        "nowhere_cases in npllm/evidence/layers/nowhere.py",
        "two mistakes, NOWHERE_MISTAKES in npllm/evidence/layers/nowhere.py",
        "nowhere_backward in npllm.layers.nowhere",
        "nowhere_arguments in npllm/evidence/layers/nowhere.py",
        "tests/layers/test_nowhere.py",
    ]
    assert missing(Subject("Nowhere", "npllm.models.nowhere", "model")) == [
        "model_cases in npllm/evidence/models/nowhere.py",
        "two mistakes, MODEL_MISTAKES in npllm/evidence/models/nowhere.py",
        "MODEL_CONFIGURATIONS in npllm/evidence/models/nowhere.py",
        "nowhere in npllm/evidence/torch_models.py",
    ]


def test_the_subjects_are_the_layers_the_blocks_and_the_models() -> None:
    names = [subject.name for subject in SUBJECTS]
    assert len(set(names)) == len(names)
    assert {
        "lstm",
        "layer_norm",
        "gpt_block",
        "encoder_block",
        "decoder_block",
        "mean",
        "GPT",
    } <= set(names)
    homes = [subject.home for subject in SUBJECTS if subject.stem == "model"]
    assert homes == [model.__module__ for model in KINDS.values()]
    assert homes == [f"npllm.models.{name}" for name in KINDS]


def test_a_mistake_is_filed_with_its_layer() -> None:
    for subject in SUBJECTS:
        assert {m.layer for m in subject.find("MISTAKES") or ()} <= {subject.name}
    assert len(MISTAKES) == sum(len(subject.find("MISTAKES") or ()) for subject in SUBJECTS)


def unexported(exported: set[str]) -> list[str]:
    """Return the halves of layers that a file of npllm.layers has and the room does not show."""
    found = []
    for file in pkgutil.iter_modules(layers.__path__):
        home = importlib.import_module(f"npllm.layers.{file.name}")
        for name, function in inspect.getmembers(home, inspect.isfunction):
            half = name.endswith(("_forward", "_backward")) and function.__module__ == home.__name__
            if half and not name.startswith(("_", INTERNAL)) and name not in exported:
                found.append(name)
    return found


def test_every_layer_is_exported() -> None:
    assert unexported(set(layers.__all__)) == []
    assert unexported(set(layers.__all__) - {"tanh_backward"}) == ["tanh_backward"]
