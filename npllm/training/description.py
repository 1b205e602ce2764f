"""run.json: what a run is determined by."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from npllm import files
from npllm.training.classification import ClassificationOptions
from npllm.training.language_modelling import LanguageModellingOptions
from npllm.training.options import RunOptions
from npllm.training.translation import TranslationOptions

FORMAT = "npllm-run"
VERSION = 1

# Before there were several, runs said nothing of their task.
TASKS: dict[str, type[RunOptions]] = {
    kind.TASK: kind
    for kind in (LanguageModellingOptions, ClassificationOptions, TranslationOptions)
}
_FIRST = LanguageModellingOptions.TASK


def describe(directory: Path, options: RunOptions, digest: str) -> None:
    """Write the options of a run and the digest of its data."""
    described = {
        "format": FORMAT,
        "version": VERSION,
        "task": options.TASK,
        "text_sha256": digest,
        "options": asdict(options),
    }
    files.write_json(directory / "run.json", described)


def load_options(directory: str | os.PathLike[str]) -> tuple[RunOptions, str]:
    """Return the options of a run and the digest of its data.

    Raises:
        OSError: there is no run, or it cannot be read.
        ValueError: it is truncated, foreign or of a later version.
    """
    path = Path(directory) / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{directory} holds no run: name a directory npllm train wrote")
    described = files.check_header(path, files.read_json(path), FORMAT, VERSION)
    try:
        options = TASKS[described.get("task", _FIRST)](**described["options"])
        return options, described["text_sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a run: {error}") from None
