"""What shows that a layer or a model is right: its cases, its mistakes, the certificate.

The rooms mirror those that they are about. What there is on the layer ``layer_norm`` of
``npllm/layers/norm.py`` lies in ``npllm/evidence/layers/norm.py`` and is found by the layer's name:

* ``layer_norm_cases``: a generator of :class:`Case`, for ``npllm gradcheck``;
* ``LAYER_NORM_MISTAKES``: wrong backward passes, for ``npllm atlas``;
* ``layer_norm_arguments``: builds the layer at any size and dtype, for what all layers owe, with
  the options of ``LAYER_NORM_VARIANTS``.

What there is on the model of ``npllm/models/gpt.py`` lies in ``npllm/evidence/models/gpt.py``:
``model_cases``, ``MODEL_MISTAKES`` and, for ``npllm certify``, ``MODEL_CONFIGURATIONS``. A part of
models that is a pair of functions, ``gpt_block_forward`` there, has what a layer has.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from npllm import layers, models
from npllm.evidence.case import Bound, Build, Case, Cases
from npllm.evidence.mistake import Mistake
from npllm.models import KINDS

__all__ = [
    "ARGUMENTS",
    "CASES",
    "MISTAKES",
    "SUBJECTS",
    "Bound",
    "Build",
    "Case",
    "Cases",
    "Mistake",
    "Subject",
]


class Subject(NamedTuple):
    """A layer, a block or a model, and where its evidence lies.

    Attributes:
        name: of the layer or block without ``_forward``, or of the model's class.
        home: the module that defines it.
        stem: how the names of its evidence begin.
    """

    name: str
    home: str
    stem: str

    def find(self, piece: str) -> Any:
        """Return a piece of its evidence by what its name ends in, or None where there is none."""
        module = self.home.replace("npllm.", "npllm.evidence.", 1)
        if importlib.util.find_spec(module) is None:
            return None
        stem = self.stem.upper() if piece.isupper() else self.stem
        return getattr(importlib.import_module(module), f"{stem}_{piece}", None)


def _subjects() -> Iterator[Subject]:
    for name in layers.__all__:
        if name.endswith("_forward"):
            stem = name.removesuffix("_forward")
            yield Subject(stem, inspect.unwrap(getattr(layers, name)).__module__, stem)
    for file in pkgutil.iter_modules(models.__path__, "npllm.models."):
        for name, function in inspect.getmembers(importlib.import_module(file.name)):
            part = inspect.isfunction(function) and function.__module__ == file.name
            if part and name.endswith("_forward"):
                stem = name.removesuffix("_forward")
                yield Subject(stem, file.name, stem)
    for model in KINDS.values():
        yield Subject(model.__name__, model.__module__, "model")


def _arguments() -> Iterator[tuple[str, Build]]:
    for subject in SUBJECTS:
        if build := subject.find("arguments"):
            for label, options in (subject.find("VARIANTS") or {"": {}}).items():
                name = f"{subject.name}, {label}" if label else subject.name
                yield name, partial(build, **options)


SUBJECTS = tuple(_subjects())
CASES: dict[str, Cases] = {s.name: s.find("cases") for s in SUBJECTS if s.find("cases")}
MISTAKES: tuple[Mistake, ...] = tuple(m for s in SUBJECTS for m in s.find("MISTAKES") or ())
ARGUMENTS: dict[str, Build] = dict(_arguments())
