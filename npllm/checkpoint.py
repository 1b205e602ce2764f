"""State on disk: safetensors and JSON, no pickle.

A checkpoint is a directory of four files. ``model.safetensors`` holds the weights under the names
of the framework's module, so it loads there as it is; ``model.json`` says what model and tokenizer
they belong to; ``training.safetensors`` and ``training.json`` hold what training needs to go on. It
is written under a temporary name, flushed and renamed: a crash leaves the last good one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from npllm.files import check_header, flush, read_json, replacing, write_json
from npllm.layers.arrays import Array
from npllm.models import MODELS, LanguageModel
from npllm.text.tokenizers import TrainedTokenizer, tokenizer_from_dict

FORMAT = "npllm-checkpoint"
VERSION = 1

_PREFIX = "checkpoint-"


def save_weights(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays to a safetensors file, ready for any framework that reads the format."""
    # the library writes the buffer of a strided array as it lies in memory
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    # the format's readers take "pt" to mean: plain tensors, no transposing on the way in
    content = save(contiguous, metadata={"format": "pt"})
    with replacing(path) as file:
        file.write(content)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read a safetensors file.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is truncated, no safetensors file, or of a dtype that NumPy has not.
    """
    with open(path, "rb"):  # what keeps the file from being read is said as Python says it
        pass
    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is no complete safetensors file: {error}") from None


def save_checkpoint(
    directory: Path,
    step: int,
    *,
    model: LanguageModel,
    tokenizer: TrainedTokenizer,
    arrays: Mapping[str, Array],
    values: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a step into a run's directory; remove those before it.

    Args:
        directory: the run's, must exist.
        step: how many steps were taken.
        model: whose weights and sizes are written.
        tokenizer: is written beside them.
        arrays: what training needs besides, as arrays.
        values: what training needs besides, as JSON holds it.

    Returns:
        The checkpoint's directory.
    """
    final = directory / f"{_PREFIX}{step:08d}"
    if final.exists():  # the run was stopped at the step where it had just been saved
        return final
    temporary = directory / f"{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    kind = next(name for name, model_class in MODELS.items() if isinstance(model, model_class))
    header = {"format": FORMAT, "version": VERSION}
    described = {
        **header,
        "model": kind,
        "config": model.config,
        "dtype": model.parameters.vector.dtype.name,
        "tokenizer": tokenizer.to_dict(),
    }
    save_weights(temporary / "model.safetensors", model.parameters)
    save_weights(temporary / "training.safetensors", arrays)
    write_json(temporary / "model.json", described)
    write_json(temporary / "training.json", {**header, "step": step, **values})
    flush(temporary)
    temporary.rename(final)
    flush(directory)
    tidy(directory)
    return final


def tidy(directory: Path) -> None:
    """Remove all checkpoints but the latest, and what a crash left unfinished."""
    for path in [*checkpoints(directory)[:-1], *directory.glob(f"{_PREFIX}*.tmp")]:
        shutil.rmtree(path)


def checkpoints(directory: Path) -> list[Path]:
    """Return a run's finished checkpoints, the latest last."""
    steps = {path: path.name[len(_PREFIX) :] for path in directory.glob(f"{_PREFIX}*")}
    finished = [path for path, step in steps.items() if step.isascii() and step.isdecimal()]
    return sorted(finished, key=lambda path: int(steps[path]))


def latest_step(directory: Path) -> int:
    """Return the step of a run's latest checkpoint, -1 where there is none."""
    found = checkpoints(directory)
    return int(found[-1].name[len(_PREFIX) :]) if found else -1


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
    raise FileNotFoundError(
        f"{path} holds no checkpoint of npllm: name a directory that npllm train wrote"
    )


def load_model(
    directory: str | os.PathLike[str],
) -> tuple[LanguageModel, TrainedTokenizer]:
    """Return the model and the tokenizer of a run's latest checkpoint.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is truncated, foreign, of a later version, or its parts do not fit together.
    """
    path = latest_checkpoint(directory)
    described = _read_header(path / "model.json")
    try:
        if described["dtype"] not in ("float32", "float64"):
            raise ValueError(f"dtype must be float32 or float64, got {described['dtype']}")
        model = MODELS[described["model"]](
            **described["config"], dtype=np.dtype(described["dtype"])
        )
        tokenizer = tokenizer_from_dict(described["tokenizer"])
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path / 'model.json'} does not describe a model: {error}") from None
    if len(tokenizer.vocabulary) != model.config["vocab_size"]:
        raise ValueError(
            f"{path / 'model.json'} is inconsistent: the tokenizer has "
            f"{len(tokenizer.vocabulary)} tokens, the model {model.config['vocab_size']}"
        )
    try:
        model.parameters.load(load_weights(path / "model.safetensors"))
    except ValueError as error:
        raise ValueError(f"{path / 'model.safetensors'} does not fit: {error}") from None
    return model, tokenizer


def load_training(directory: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and values that :func:`save_checkpoint` was given, and the step.

    Raises:
        OSError: there is no checkpoint, or it cannot be read.
        ValueError: it is truncated, foreign or of a later version.
    """
    path = latest_checkpoint(directory)
    return load_weights(path / "training.safetensors"), _read_header(path / "training.json")


def _read_header(path: Path) -> dict[str, Any]:
    value = read_json(path)
    check_header(path, value, FORMAT, VERSION)
    return value
