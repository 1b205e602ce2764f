"""The options of ``npllm train``: a flag for each field of each task's options."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from npllm.cli.flags import flag_of, with_flags
from npllm.cli.parser import number, positive, seed
from npllm.training.description import TASKS
from npllm.training.language_modelling import LanguageModellingOptions
from npllm.training.options import RunOptions

USUAL = LanguageModellingOptions.TASK
METAVARS = {"data": "FILE", "from_": "MODEL", "source": "FILE", "target": "FILE"}

_GROUPS = {
    "text": "step 1, the text",
    "model": "steps 2 to 4, the model",
    "optimizer": "step 5, the update",
    "run": "the run",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--task``, and a flag for each option that a task has; those of all tasks come last."""
    parser.add_argument(
        "--task",
        choices=[*TASKS],
        help=f"what is learned (default: {USUAL}); the options of others are told behind a ;",
    )
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
    hints: dict[str, Any] = {}
    for kind in TASKS.values():
        hints |= typing.get_type_hints(kind)
    flags = {name: flag_of(name) for name in hints}
    for name, owners in _options().items():
        first = next(iter(owners.values()))
        choices = dict.fromkeys(c for own in owners.values() for c in own.metadata["choices"])
        arguments: dict[str, Any] = {
            "help": with_flags("; ".join(_helps(owners)), flags),
            "default": None,
            "dest": name,
        }
        if hints[name] is bool:
            arguments["action"] = argparse.BooleanOptionalAction
        elif choices:
            arguments["choices"] = [*choices]
        elif hints[name] in (str, str | None):
            arguments["metavar"] = METAVARS.get(name, "NAME")
        elif hints[name] is float:
            arguments |= {"type": number, "metavar": "X"}
        else:
            integer = seed if name == "seed" else positive
            arguments |= {"type": integer, "metavar": "N"}
        groups[first.metadata["group"]].add_argument(flags[name], **arguments)


def _options() -> dict[str, dict[str, Field[object]]]:
    """Return the fields by their names, and of each by the tasks that have it."""
    found: dict[str, dict[str, Field[object]]] = {}
    for task, kind in TASKS.items():
        for option in fields(kind):
            found.setdefault(option.name, {})[task] = option
    of_every_run = {option.name for option in fields(RunOptions)}
    return dict(sorted(found.items(), key=lambda item: item[0] in of_every_run))


def _helps(owners: dict[str, Field[object]]) -> Iterator[str]:
    """Yield what an option is, of each task that says another thing of it."""
    said: set[str] = set()
    for task, option in owners.items():
        assert option.default is not MISSING
        text = str(option.metadata["help"])
        if option.default not in (None, ""):
            text += f" (default: {'no' if option.default is False else option.default})"
        if text not in said:
            yield text if task == USUAL else f"of {task}: {text}"
        said.add(text)


def task_of(options: argparse.Namespace) -> type[RunOptions]:
    """Return the options of the task that was named, or of the usual one."""
    return TASKS[options.task or USUAL]


def given(options: argparse.Namespace, kind: type[RunOptions]) -> dict[str, Any]:
    """Return the options of a task that were named on the command line.

    Raises:
        ValueError: one is another task's, or has a value that only another task knows.
    """
    named = {name: v for name in _options() if (v := getattr(options, name)) is not None}
    for name, value in named.items():
        owners = _options()[name]
        if kind.TASK not in owners:
            raise ValueError(f"{flag_of(name)} has no effect with {kind.TASK}")
        takers = [task for task, own in owners.items() if value in own.metadata["choices"]]
        if takers and kind.TASK not in takers:
            tasks = " or ".join(f"--task {task}" for task in takers)
            raise ValueError(f"{flag_of(name)} {value} goes with {tasks}, not with {kind.TASK}")
    return named
