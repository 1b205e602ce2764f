"""State on disk: safetensors and JSON, no pickle.

A checkpoint is a directory of four files. ``model.safetensors`` holds the weights under the names
of the framework's module, so it loads there as it is; ``model.json`` says what model and tokenizer
they belong to; ``training.safetensors`` and ``training.json`` hold what training needs to go on. It
is written under a temporary name, flushed and renamed: a crash leaves the last good one. What has
the name of a checkpoint and is none, or is a link, is never read and never removed.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from npllm.files import (
    check_header,
    flush,
    read_json,
    temporary_name,
    write_json,
)
from npllm.layers.arrays import Array
from npllm.models import KINDS, LanguageModel, Trainable
from npllm.models.classifier import Classifier
from npllm.models.translator import Translator
from npllm.ngram import NGRAM, NgramLanguageModel
from npllm.safetensors_file import load_weights as load_weights
from npllm.safetensors_file import save_weights as save_weights
from npllm.text import tokenizer_from_dict
from npllm.text.tokenizers import TrainedTokenizer

FORMAT = "npllm-checkpoint"
VERSION = 1

_MODEL_FILES = ("model.json", "model.safetensors")
_FILES = (*_MODEL_FILES, "training.json", "training.safetensors")
_NAME, _BEST = re.compile(r"checkpoint-([0-9]+)"), re.compile(r"best-[0-9]{8,}")
# what a crash leaves, of earlier versions without the random part
_UNFINISHED = re.compile(r"(checkpoint|best)-[0-9]+(\.[0-9a-f]{16})?\.tmp")

_log = logging.getLogger(__name__)


def save_checkpoint(
    directory: Path,
    step: int,
    *,
    model: Trainable | NgramLanguageModel,
    vocabularies: Mapping[str, TrainedTokenizer],
    arrays: Mapping[str, Array],
    values: Mapping[str, object],
    previous: int | None = None,
) -> Path:
    """Write the checkpoint of a step into a run's directory; remove those before it.

    What stands in its place and is not the same, bit for bit, is given another name, and a warning
    logged.

    Args:
        directory: the run's, must exist.
        step: how many steps were taken.
        model: whose weights and sizes are written.
        vocabularies: are written beside them, by name; a language model's is ``tokenizer``.
        arrays: what training needs besides, as arrays.
        values: what training needs besides, as JSON holds it.
        previous: the step of the checkpoint that this one takes the place of.

    Returns:
        The checkpoint's directory.
    """
    final = path_of(directory, step)
    weights: Mapping[str, Array]
    if isinstance(model, NgramLanguageModel):
        kind, dtype, weights = NGRAM, np.dtype(np.float64), model.arrays
    else:
        kind = next(name for name, known in KINDS.items() if isinstance(model, known))
        dtype, weights = model.parameters.vector.dtype, model.parameters
    header = {"format": FORMAT, "version": VERSION}
    described = {
        **header,
        "model": kind,
        "config": model.config,
        "dtype": dtype.name,
        **{name: tokenizer.to_dict() for name, tokenizer in vocabularies.items()},
    }
    if [*vocabularies] != ["tokenizer"]:  # as it is where nothing is said
        described["vocabularies"] = [*vocabularies]
    temporary = temporary_name(final)
    temporary.mkdir()
    try:
        save_weights(temporary / "model.safetensors", weights)
        save_weights(temporary / "training.safetensors", arrays)
        write_json(temporary / "model.json", described)
        write_json(temporary / "training.json", {**header, "step": step, **values})
        flush(temporary)
        if _is_checkpoint(final) and _content(final) == _content(temporary):
            shutil.rmtree(temporary)
        else:
            if os.path.lexists(final):
                _set_aside(final)
            temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    flush(directory)
    tidy(final, previous)
    return final


def _content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def _set_aside(path: Path) -> None:
    """Give what stands in a checkpoint's place another name: it may be of use to somebody."""
    aside = temporary_name(path).with_suffix(".aside")
    path.rename(aside)
    _log.warning("%s was not written by this run, and was in the way: it is %s now", path, aside)


def tidy(latest: Path, previous: int | None = None) -> None:
    """Remove the run's checkpoints of the steps before its latest, and what a crash left.

    The one of the step ``previous`` is known to be the run's; others are where they are alike.
    """
    directory = latest.parent
    for path in checkpoints(directory):
        own = step_of(path) == previous or _is_alike(path, latest)
        if step_of(path) < step_of(latest) and own:
            path.rename(temporary_name(path))  # first: no half of it looks like a checkpoint
    for path in directory.glob("*.tmp"):
        if _UNFINISHED.fullmatch(path.name) and _is_folder(path):
            shutil.rmtree(path)


def checkpoints(directory: Path) -> list[Path]:
    """Return a run's finished checkpoints, the latest last."""
    return [path for path in _named(directory) if _is_checkpoint(path)]


def strays(directory: Path, own: Path) -> list[Path]:
    """Return what has the name of a checkpoint in a run's directory, but for the run's own one."""
    return [path for path in _named(directory) if path != own]


def _named(directory: Path) -> list[Path]:
    found = [path for path in directory.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def _is_checkpoint(path: Path) -> bool:
    return _is_folder(path) and not _lacking(path)


def _is_alike(path: Path, own: Path) -> bool:
    """Whether it holds what a run writes, nothing else, and of the same model and tokenizer."""
    described = [(each / "model.json").read_bytes() for each in (path, own)]
    return {file.name for file in path.iterdir()} == set(_FILES) and described[0] == described[1]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _lacking(path: Path) -> list[str]:
    return [name for name in _FILES if not (path / name).is_file()]


def path_of(directory: Path, step: int) -> Path:
    """Return where a run's checkpoint of a step is."""
    return directory / f"checkpoint-{step:08d}"


def step_of(path: Path) -> int:
    """Return the step of a checkpoint.

    Raises:
        ValueError: it has not the name of one.

    >>> step_of(Path("runs", "lstm-1", "checkpoint-00000600"))
    600
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} has not the name of a checkpoint")
    return int(match[1])


def keep_best(saved: Path) -> Path:
    """Keep the model of a checkpoint, until there is a better one; return where.

    Args:
        saved: the checkpoint's directory.
    """
    final = saved.with_name(saved.name.replace("checkpoint", "best", 1))
    if final.exists():  # of a run that has gone on from there before
        return final
    temporary = temporary_name(final)
    temporary.mkdir()
    try:
        for name in _MODEL_FILES:
            shutil.copyfile(saved / name, temporary / name)
        flush(temporary)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for other in _bests(final.parent):
        if other != final:
            other.rename(temporary)  # first: no half of it looks like a model
            shutil.rmtree(temporary)
    return final


def _bests(directory: Path) -> list[Path]:
    """Return what has been kept in a run's directory as its best model, the latest last."""
    found = [path for path in directory.glob("best-*") if _BEST.fullmatch(path.name)]
    return sorted(path for path in found if _is_folder(path) and (path / "model.json").is_file())


def model_directory(directory: str | os.PathLike[str]) -> Path:
    """Return where the model of a run is: the best, where that was kept, or the latest.

    Raises:
        FileNotFoundError: there is none.
    """
    bests = _bests(Path(directory))
    return bests[-1] if bests else latest_checkpoint(directory)


def latest_checkpoint(directory: str | os.PathLike[str]) -> Path:
    """Return the latest checkpoint in a run's directory, or the directory if it is one.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(directory)
    if (path / "model.json").is_file():
        return path
    if found := checkpoints(path):
        return found[-1]
    for broken in filter(_is_folder, _named(path)):
        raise FileNotFoundError(f"{broken} is no checkpoint: it lacks {_lacking(broken)[0]}")
    if (path / "run.json").is_file():
        raise FileNotFoundError(f"{path} is a run without a checkpoint: start another one")
    what = f"{path} holds no checkpoint of npllm" if path.exists() else f"there is no {path}"
    raise FileNotFoundError(f"{what}: name a directory that npllm train wrote")


def model_kind(directory: str | os.PathLike[str]) -> str | None:
    """Return what kind of model a run has, a key of ``KINDS``; None where there is no run.

    Raises:
        ValueError: its description is truncated, foreign or of a later version.
    """
    try:
        path = model_directory(directory)
    except FileNotFoundError:
        return None
    return str(_read_header(path / "model.json").get("model"))


def load_model(
    directory: str | os.PathLike[str],
) -> tuple[LanguageModel | NgramLanguageModel, TrainedTokenizer]:
    """Return a language model and its tokenizer: see :func:`load_model_and_vocabularies`.

    Raises:
        ValueError: the run's model is no language model.
    """
    model, vocabularies = load_model_and_vocabularies(directory)
    others: dict[type[Any], str] = {Classifier: "classify", Translator: "translate"}
    for kind, use in others.items():
        if isinstance(model, kind):
            name = kind.__name__.lower()
            raise ValueError(f"{directory} holds a {name}, no language model: npllm {use} asks it")
    return cast("LanguageModel | NgramLanguageModel", model), vocabularies["tokenizer"]


def load_model_and_vocabularies(
    directory: str | os.PathLike[str],
) -> tuple[Trainable | NgramLanguageModel, dict[str, TrainedTokenizer]]:
    """Return the model of a run, the best that it kept or the latest, and its tokenizers by name.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is truncated, foreign, of a later version, or its parts do not fit together.
    """
    path = model_directory(directory)
    described = _read_header(path / "model.json")
    try:
        if described["dtype"] not in ("float32", "float64"):
            raise ValueError(f"dtype must be float32 or float64, got {described['dtype']}")
        counted, config = described["model"] == NGRAM, dict(described["config"])
        trained: Trainable | None = None
        if not counted:
            make = KINDS[described["model"]]
            trained = make(**config, seed=None, dtype=np.dtype(described["dtype"]))
        names = described.get("vocabularies", ["tokenizer"])
        if not isinstance(names, list):
            raise ValueError(f"vocabularies must be a list of names, got {names!r:.80}")
        vocabularies = {str(name): tokenizer_from_dict(described[name]) for name in names}
        tokens, words = len(vocabularies["tokenizer"].vocabulary), config["vocab_size"]
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path / 'model.json'} does not describe a model: {error}") from None
    if tokens != words:
        raise ValueError(
            f"{path / 'model.json'} is inconsistent: the tokenizer has {tokens} tokens, the model "
            f"{words}"
        )
    weights = load_weights(path / "model.safetensors", integers=counted)
    try:
        if trained is None:
            return NgramLanguageModel.load(config, weights), vocabularies
        trained.parameters.load(weights)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path / 'model.safetensors'} does not fit: {error}") from None
    return trained, vocabularies


def load_training(directory: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and values that :func:`save_checkpoint` was given, and the step.

    Raises:
        OSError: there is no checkpoint, or it cannot be read.
        ValueError: it is truncated, foreign or of a later version.
    """
    path = latest_checkpoint(directory)
    return load_weights(path / "training.safetensors"), _read_header(path / "training.json")


def _read_header(path: Path) -> dict[str, Any]:
    return check_header(path, read_json(path), FORMAT, VERSION)
