"""The measures of a run over its steps: metrics.jsonl, a JSON object a line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

# A larger mean loss, in nats, has no finite perplexity exp(loss); NaN is not below it either.
LARGEST_LOSS = math.log(np.finfo(np.float64).max)
# Of every run; those of its task stand behind the training loss, with val_ in front.
OF_TRAINING = ("step", "train_loss", "learning_rate", "gradient_norm", "tokens_per_second")

Record: TypeAlias = dict[str, float | None]  # a line: None where nothing was measured


def new_record(metrics: tuple[str, ...]) -> Record:
    """Return a line without values.

    >>> list(new_record(("loss",)))[:4]
    ['step', 'train_loss', 'val_loss', 'learning_rate']
    """
    step, loss, *rest = OF_TRAINING
    return dict.fromkeys((step, loss, *(f"val_{name}" for name in metrics), *rest, "seconds"))


def read_metrics(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics; a last line cut short by a crash is left out.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: a line is no JSON object.
    """
    path = Path(directory) / "metrics.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{directory} has no metrics.jsonl, as a run of npllm train has")
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1].splitlines()
    try:
        lines = [json.loads(line) for line in complete]
    except ValueError:
        lines = [None]
    if not all(map(_is_record, lines)):
        raise ValueError(f"{path} is no metrics file of npllm")
    return lines


def _is_record(line: object) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("step"), int):
        return False
    measured = {name: value for name, value in line.items() if name.startswith("val_")}
    values = [line.get(name) for name in OF_TRAINING]
    return "val_loss" in measured and all(
        isinstance(value, (int, float)) or (value is None and index >= len(OF_TRAINING))
        for index, value in enumerate([*values, *measured.values()])
    )
