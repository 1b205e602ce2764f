"""The options of ``npllm train``: a flag for each field of each task's options."""

from __future__ import annotations

import argparse
import typing
from dataclasses import MISSING, Field, fields
from typing import Any, TypeAlias

from npllm.cli.flags import flag_of, with_flags
from npllm.cli.parser import no_such, number, positive, seed
from npllm.training.description import TASKS
from npllm.training.language_modelling import LanguageModellingOptions
from npllm.training.options import RunOptions

USUAL = LanguageModellingOptions.TASK
METAVARS = {"data": "FILE", "from_": "MODEL", "source": "FILE", "target": "FILE"}

Owners: TypeAlias = dict[str, Field[object]]  # an option of each task that has it

_GROUPS = {
    "text": "step 1, the text",
    "model": "steps 2 to 4, the model",
    "optimizer": "step 5, the update",
    "run": "the run",
}


def add_options(parser: argparse.ArgumentParser, of_writing: argparse.Action) -> None:
    """Add ``--task``, and a flag for each option that a task has; those of all tasks come last.

    Args:
        parser: the command's.
        of_writing: an option that has an effect with the usual task alone.
    """
    options = _options()
    actions: dict[str, argparse.Action] = {}

    class Task(argparse.Action):
        """Sets the task, and what a ``--help`` behind it tells of."""

        def __call__(
            self, _: object, namespace: argparse.Namespace, values: Any, __: str | None = None
        ) -> None:
            namespace.task = values
            tell(values)

    how = of_writing.help

    def tell(task: str) -> None:
        of_writing.help = how if task == USUAL else argparse.SUPPRESS
        for name, action in actions.items():
            own = options[name].get(task)
            action.help = argparse.SUPPRESS if own is None else with_flags(_help(own), flags)
            if own is not None and own.metadata["choices"]:
                action.metavar = f"{{{','.join(own.metadata['choices'])}}}"

    parser.add_argument(
        "--task",
        action=Task,
        choices=[*TASKS],
        help=f"what is learned (default: {USUAL}); --task NAME --help tells of another's options",
    )
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
    hints: dict[str, Any] = {}
    for kind in TASKS.values():
        hints |= typing.get_type_hints(kind)
    flags = {name: flag_of(name) for name in hints}
    for name, owners in options.items():
        group = groups[next(iter(owners.values())).metadata["group"]]
        read_as = _kind(name, hints[name])
        actions[name] = group.add_argument(flags[name], dest=name, **read_as)
    tell(USUAL)


def _kind(name: str, hint: object) -> dict[str, Any]:
    """Return how argparse reads an option; what it may be is a matter of the task."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    if hint in (str, str | None):
        return {"metavar": METAVARS.get(name, "NAME")}
    if hint is float:
        return {"type": number, "metavar": "X"}
    return {"type": seed if name == "seed" else positive, "metavar": "N"}


def _help(option: Field[object]) -> str:
    """Return what an option is, and its default."""
    assert option.default is not MISSING
    text = str(option.metadata["help"])
    if option.default in (None, ""):
        return text
    return f"{text} (default: {'no' if option.default is False else option.default})"


def _options() -> dict[str, Owners]:
    """Return the fields by their names, and of each by the tasks that have it."""
    found: dict[str, Owners] = {}
    for task, kind in TASKS.items():
        for option in fields(kind):
            found.setdefault(option.name, {})[task] = option
    of_every_run = {option.name for option in fields(RunOptions)}
    return dict(sorted(found.items(), key=lambda item: item[0] in of_every_run))


def task_of(options: argparse.Namespace) -> type[RunOptions]:
    """Return the options of the task that was named, or of the usual one."""
    return TASKS[options.task or USUAL]


def given(options: argparse.Namespace, kind: type[RunOptions]) -> dict[str, Any]:
    """Return the options of a task that were named on the command line.

    Raises:
        ValueError: one is another task's, or has a value that only another task knows.
    """
    known = _options()
    named = {name: v for name in known if (v := getattr(options, name)) is not None}
    for name, value in named.items():
        owners = known[name]
        if kind.TASK not in owners:
            takers = " or ".join(f"--task {task}" for task in owners)
            raise ValueError(f"{flag_of(name)} has no effect with {kind.TASK}: it is for {takers}")
        choices = {task: own.metadata["choices"] for task, own in owners.items()}
        if not choices[kind.TASK] or value in choices[kind.TASK]:
            continue
        takers = " or ".join(f"--task {task}" for task, own in choices.items() if value in own)
        if takers:
            raise ValueError(f"{flag_of(name)} {value} goes with {takers}, not with {kind.TASK}")
        options.parser.error(f"argument {flag_of(name)}: {no_such(value, choices[kind.TASK])}")
    return named
