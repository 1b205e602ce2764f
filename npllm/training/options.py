"""What every run is determined by, whatever its task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

from npllm.models import Trainable
from npllm.optim import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    Schedule,
    constant,
    step_decay,
    warmup_cosine,
)
from npllm.text.tokenizers import TrainedTokenizer
from npllm.training.task import Task


def option(default: object, group: str, text: str, choices: tuple[str, ...] = ()) -> Any:
    """Return the field of an option: its default, its group in the help, and what it means."""
    return field(default=default, metadata={"group": group, "help": text, "choices": choices})


# what a run that goes on may have another of
RESUMABLE = ("steps", "epochs", "patience", "threads", "accumulate")

# what a value may be, by its type
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
}


@dataclass(frozen=True)
class RunOptions(ABC):
    """The options of a run, each with its default, what it means and what it may be.

    Those of a task are a class below this one.

    Raises:
        ValueError: a value is out of its range.
    """

    TASK: ClassVar[str]  # its name in run.json
    DATA: ClassVar[str]  # what kind it learns from, a key of npllm.datasets.FILES
    # what an argument of a model is called among the options, where that is another name
    OPTION_OF: ClassVar[Mapping[str, str]] = {"num_layers": "layers"}

    optimizer: str = option("adam", "optimizer", "update rule", ("adam", "adamw", "sgd", "rmsprop"))
    lr: float = option(4e-3, "optimizer", "learning rate, the highest of the schedule")
    momentum: float = option(0.0, "optimizer", "of sgd and rmsprop")
    nesterov: bool = option(False, "optimizer", "look ahead, with sgd and a momentum")
    weight_decay: float = option(0.0, "optimizer", "pull of the weights towards zero")
    schedule: str = option(
        "cosine",
        "optimizer",
        "of the learning rate: constant; step, a fall every decay_every steps; "
        "or cosine, a linear rise and a fall to a hundredth",
        ("constant", "step", "cosine"),
    )
    warmup: float = option(0.02, "optimizer", "share of the steps in which cosine rises")
    decay: float = option(0.1, "optimizer", "factor of the step schedule")
    decay_every: int = option(200, "optimizer", "steps between two factors")
    clip: float = option(
        1.0, "optimizer", "longest gradient (Euclidean norm over all parameters); 0: any"
    )
    batch_size: int = option(32, "text", "B, sequences side by side")
    accumulate: int = option(
        1,
        "run",
        "parts in which each process takes its rows: less memory, and the same step to rounding",
    )
    steps: int = option(800, "run", "updates of the parameters")
    epochs: int | None = option(None, "run", "passes over the data, in place of steps")
    patience: int | None = option(
        None, "run", "validations without a lower loss after which training ends (default: never)"
    )
    seed: int = option(
        0, "run", "seed of every random draw: the same seed and threads give the same bits"
    )
    dtype: str = option("float32", "run", "of all arithmetic", ("float32", "float64"))
    threads: int | None = option(
        None,
        "run",
        "cores to use, each on a share of a batch, a process each (default: all, to 4; 1 if small)",
    )
    log_every: int = option(10, "run", "steps between two lines of metrics")
    eval_every: int = option(100, "run", "steps between two validations")
    checkpoint_every: int = option(100, "run", "steps between two checkpoints")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, choices = getattr(self, each.name), each.metadata["choices"]
            kinds = _KINDS[str(each.type).removesuffix(" | None")]
            if type(value) not in kinds and value is not each.default:
                expected = " or ".join(kind.__name__ for kind in kinds)
                raise ValueError(f"{each.name} must be {expected}, got {value!r}")
            if choices and value not in choices and value is not each.default:
                raise ValueError(f"{each.name} must be one of {', '.join(choices)}, got {value}")
        self.check_positive("batch_size", "steps", "threads", "log_every", "eval_every")
        self.check_positive("checkpoint_every", "decay_every", "accumulate", "epochs", "patience")
        if self.epochs is not None and self.steps != type(self).steps:
            raise ValueError(f"epochs={self.epochs} takes the place of steps: leave out one")
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate must be at most batch_size={self.batch_size}, got {self.accumulate}"
            )
        for name in ("clip", "lr", "momentum", "weight_decay", "decay", "seed"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be 0 or more, and finite, got {getattr(self, name)}")
        self.check_shares("warmup")
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"momentum is for sgd and rmsprop, not for {self.optimizer}")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov is for sgd, not for {self.optimizer}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0: set momentum=0.9, say")
        self.check_effect("warmup", self.schedule, ["cosine"])
        self.check_effect("decay", self.schedule, ["step"])
        self.check_effect("decay_every", self.schedule, ["step"])

    def check_positive(self, *names: str) -> None:
        """Raise ValueError, naming it, where one is given and below 1."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def check_shares(self, *names: str) -> None:
        """Raise ValueError, naming it, where one does not lie in [0, 1)."""
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")

    def check_effect(self, name: str, chosen: str, wanted: list[str]) -> None:
        """Raise ValueError where an option is given that has no effect with what was chosen."""
        if chosen not in wanted and getattr(self, name) != getattr(type(self), name):
            known = " and ".join(wanted)
            raise ValueError(f"{name} is for {known}, and has no effect with {chosen}")

    def check_taken(
        self, models: Mapping[str, type[Trainable]], chosen: str, besides: Collection[str] = ()
    ) -> None:
        """Raise ValueError where an option is given that the chosen model does not take.

        Args:
            models: all of them, by their names.
            chosen: one of the names.
            besides: arguments that no option is for alone.
        """
        for argument in dict.fromkeys(a for model in models.values() for a in model.CHOICES):
            takers = [name for name, model in models.items() if argument in model.CHOICES]
            if argument not in besides:
                self.check_effect(self.OPTION_OF.get(argument, argument), chosen, takers)

    def arguments(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the values of a model's arguments."""
        return {name: getattr(self, self.OPTION_OF.get(name, name)) for name in names}

    def counted(self, task: Task) -> RunOptions:
        """Return the options with the steps that the epochs are."""
        if self.epochs is None:
            return self
        return replace(self, steps=self.epochs * task.batches.steps_per_epoch, epochs=None)

    @abstractmethod
    def located(self) -> RunOptions:
        """Return the options with absolute paths: a run will be resumed from anywhere."""

    @abstractmethod
    def make_task(
        self,
        vocabularies: Mapping[str, TrainedTokenizer] | None = None,
        digest: str | None = None,
    ) -> Task:
        """Return what the run learns.

        Args:
            vocabularies: of a checkpoint; made from the data where None.
            digest: that the data must have.

        Raises:
            OSError: the data cannot be read.
            ValueError: they are too few, or have another digest.
        """

    def make_optimizer(self, model: Trainable) -> Optimizer:
        """Return the update rule of a model's parameters."""
        p, decay = model.parameters, self.weight_decay
        if self.optimizer == "sgd":
            return SGD(p, self.lr, self.momentum, weight_decay=decay, nesterov=self.nesterov)
        if self.optimizer == "rmsprop":
            return RMSprop(p, self.lr, weight_decay=decay, momentum=self.momentum)
        return {"adam": Adam, "adamw": AdamW}[self.optimizer](p, self.lr, weight_decay=decay)

    def make_schedule(self) -> Schedule:
        """Return the learning rate of each step."""
        if self.schedule == "constant":
            return constant(self.lr)
        if self.schedule == "step":
            return step_decay(self.lr, self.decay_every, self.decay)
        return warmup_cosine(self.lr, int(self.warmup * self.steps), self.steps, self.lr / 100)


def check_parts(held_out: float, test: float, what: str) -> None:
    """Raise ValueError unless two shares are positive and leave something to learn from."""
    if not (held_out > 0 and test > 0 and held_out + test < 1):
        raise ValueError(
            f"held_out={held_out} and test={test} must be above 0 and leave {what} to learn from"
        )
