"""A training run: a directory that holds its options, metrics and latest checkpoint.

After every step the run can be saved, and a run that goes on from a checkpoint ends with the bits
of a run that was never stopped: the step determines the batch, and the checkpoint holds the rest
(weights, optimizer, carried states, generator, sums of the running averages).
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from npllm import checkpoint, files
from npllm.layers.arrays import Array
from npllm.models import Trainable
from npllm.ngram import NgramLanguageModel
from npllm.training.description import describe, load_options
from npllm.training.directory import check_free, new_directory
from npllm.training.metrics import LARGEST_LOSS, Record, new_record, read_metrics
from npllm.training.options import RESUMABLE, RunOptions
from npllm.training.task import Task
from npllm.training.workers import Workers, usual_workers, worthwhile_workers

if TYPE_CHECKING:
    from npllm.training.ranks import World

# The arrays of a carried state in a checkpoint: an LSTM's, and whatever others there may be.
_STATES = ("state.h", "state.c")

_log = logging.getLogger(__name__)


class DivergedError(ValueError):
    """The loss or the parameters turned NaN or infinite."""


@dataclass(frozen=True)
class Step:
    """What one step of training gave.

    Attributes:
        step: how many were taken.
        loss: the batch's mean, in nats a token.
        tokens: of the batch.
        record: the line of metrics that was due after this step, or None.
    """

    step: int
    loss: float
    tokens: int
    record: Record | None


class Run:
    """Training of one model for one task.

    Make one with :meth:`create` or :meth:`resume`; iterate over :meth:`train`.

    Attributes:
        directory: where it lives.
        options: what determines it.
        task: what it learns.
        model: being trained.
        step: how many steps were taken.
    """

    def __init__(
        self,
        directory: Path,
        options: RunOptions,
        task: Task,
        model: Trainable,
        rng: np.random.Generator,
        world: World | None = None,
    ) -> None:
        self.directory, self.options, self.task, self.model = directory, options, task, model
        self.step = 0
        self._rng = rng
        self._optimizer = options.make_optimizer(model)
        threads, parts = options.threads or 1, options.accumulate
        self._workers = Workers(model, self._optimizer, threads, accumulate=parts, world=world)
        self._schedule = options.make_schedule()
        self._state: tuple[Array, ...] | None = None
        self._loss_sum, self._loss_count = 0.0, 0
        self._losses: list[float] = []  # of the validations
        self._saved = -1  # at which step
        self._told: set[str] = set()  # of what else is named as a checkpoint

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        options: RunOptions,
        *,
        world: World | None = None,
    ) -> Run:
        """Start a run in a new directory, with a checkpoint of step 0 in it.

        Args:
            directory: where it will live.
            options: what determines it.
            world: the ranks that share each batch, in place of threads; this is rank 0.

        Raises:
            OSError: the data cannot be read, or the directory exists or cannot be written.
            ValueError: the data are too few, or not what the task reads.
        """
        directory = Path(directory)
        check_free(directory)
        options = options.located()
        task = options.make_task()
        options = options.counted(task)
        rng = np.random.default_rng(options.seed)
        model = task.make_model(rng)
        if world is None:
            options = _with_threads(options, task, model)
        run = cls(directory, options, task, model, rng, world)
        with new_directory(directory) as run.directory:
            describe(run.directory, options, task.digest)
            files.write_text(run.metrics_path, "")
            run.save()
        run.directory = directory
        return run

    @classmethod
    def resume(
        cls,
        directory: str | os.PathLike[str],
        steps: int | None = None,
        *,
        epochs: int | None = None,
        patience: int | None = None,
        threads: int | None = None,
        accumulate: int | None = None,
        world: World | None = None,
    ) -> Run:
        """Go on with a run from its latest checkpoint.

        Args:
            directory: the run's.
            steps: a new total, in place of the one it was started with.
            epochs: likewise, in passes over the data.
            patience: likewise, of validations without a lower loss.
            threads: likewise; the steps are the same, but for rounding.
            accumulate: likewise.
            world: as for :meth:`create`; there may be another number of ranks than before.

        Raises:
            OSError: there is no run, or it or its data cannot be read.
            ValueError: a file is truncated, foreign or of a later version; the data have changed.
        """
        directory = Path(directory)
        options, digest = load_options(directory)
        others = (steps, epochs, patience, threads, accumulate)
        given: dict[str, Any] = dict(zip(RESUMABLE, others, strict=True))
        if epochs is not None and steps is None:
            given["steps"] = type(options).steps
        options = replace(options, **{n: value for n, value in given.items() if value is not None})
        latest = checkpoint.latest_checkpoint(directory)
        model, vocabularies = checkpoint.load_model_and_vocabularies(latest)
        if isinstance(model, NgramLanguageModel):
            raise ValueError(f"{directory} was counted in one pass: there is nothing to go on with")
        arrays, values = checkpoint.load_training(latest)
        task = options.make_task(vocabularies, digest)
        options = options.counted(task)
        if world is None:
            options = _with_threads(options, task, model)
        run = cls(directory, options, task, model, np.random.default_rng(), world)
        try:
            if values["step"] != checkpoint.step_of(latest):
                raise ValueError(f"it is of step {values['step']}")
            run._restore(arrays, values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{latest} does not fit the run: {error}") from None
        with run._locked():
            run._trim_metrics()
            if not run.ended:
                describe(directory, options, task.digest)
        return run

    @property
    def ended(self) -> bool:
        """Whether all steps were taken, or the loss has not fallen for too long."""
        if self.step >= self.options.steps:
            return True
        if self.options.patience is None or not self._losses:
            return False
        best = self._losses.index(min(self._losses))
        return len(self._losses) - 1 - best >= self.options.patience

    def _is_best(self) -> bool:
        """Whether patience asks for the best model, and none before had so low a loss."""
        *before, last = self._losses
        return self.options.patience is not None and last < min(before, default=math.inf)

    @property
    def metrics_path(self) -> Path:
        """The file of metrics, a JSON object a line."""
        return self.directory / "metrics.jsonl"

    def train(self) -> Iterator[Step]:
        """Take the remaining steps; yield after each, when the run can be saved or left.

        Raises:
            DivergedError: the loss or the parameters turned NaN or infinite; the step is not taken,
                and the last checkpoint stays.
            ValueError: another process trains the run, or has done so in the meantime.
            ChildProcessError: a worker was killed; the last checkpoint stays.

        While it runs, BLAS is held to one thread in the whole process.
        """
        every = self.options
        # a process that is started holds what its parent holds: the lock comes after
        with self._workers.working(), self._locked():
            since, tokens = time.perf_counter(), 0
            while not self.ended:
                loss, norm, count = self._take_step()
                tokens += count
                last = self.step == self.options.steps
                record = None
                due = last or self.step % every.eval_every == 0
                if due or self.step % every.log_every == 0:
                    seconds = time.perf_counter() - since
                    record = self._record(norm, tokens, seconds, validate=due)
                    since, tokens = time.perf_counter(), 0
                best = due and self._is_best()
                if best or self.ended or self.step % every.checkpoint_every == 0:
                    saved = self.save()
                    if best:
                        checkpoint.keep_best(saved)
                yield Step(self.step, loss, count, record)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out of the directory, and tidy up what a crash left there."""
        busy = f"{self.directory} is being trained by another process"
        files.refuse_link(self.directory / "run.lock")  # what it points to would be emptied
        lock = FileLock(self.directory / "run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"{busy}: wait for it, or stop it") from None
        try:
            found = checkpoint.checkpoints(self.directory)
            if found and checkpoint.step_of(found[-1]) > self.step:
                raise ValueError(f"{busy}, or was in the meantime: resume it again")
            if found:
                checkpoint.tidy(found[-1])
            yield
        finally:
            lock.release()

    def save(self) -> Path:
        """Write a checkpoint of the run as it stands; return its directory.

        What else has the name of a checkpoint is left alone, and a warning logged once.

        Raises:
            DivergedError: a parameter, or the perplexity of the next batch, is not finite; the last
                checkpoint stays.
        """
        if not np.isfinite(self.model.parameters.vector).all():
            raise DivergedError(self._diverged("a parameter is not finite", self.step))
        if not (loss := self._next_loss()) < LARGEST_LOSS:
            raise DivergedError(self._diverged(f"the next loss is {loss}", self.step))
        final = checkpoint.path_of(self.directory, self.step)
        if self._saved == self.step and final in checkpoint.checkpoints(self.directory):
            return final  # it was stopped where it had just been saved
        files.flush(self.metrics_path)
        self._workers.collect()
        arrays = {f"optimizer.{name}": v for name, v in self._optimizer.state.items()}
        arrays |= {_state_name(n): array for n, array in enumerate(self._state or ())}
        saved = checkpoint.save_checkpoint(
            self.directory,
            self.step,
            model=self.model,
            vocabularies=self.task.vocabularies,
            arrays=arrays,
            values={
                "optimizer_steps": self._optimizer.steps,
                "generator": self._rng.bit_generator.state,
                "loss_sum": self._loss_sum,
                "loss_tokens": self._loss_count,
            },
            previous=self._saved,
        )
        self._saved = self.step
        for stray in checkpoint.strays(self.directory, saved):
            if stray.name not in self._told:
                _log.warning("%s was not written by this run and is left alone: move it", stray)
                self._told.add(stray.name)
        return saved

    def _restore(self, arrays: dict[str, Array], values: dict[str, Any]) -> None:
        """Go on from a checkpoint's arrays and values, once all of them fit."""
        config, dtype = self.task.model_config(), self.model.parameters.vector.dtype
        if config not in (None, self.model.config) or dtype != self.options.dtype:
            raise ValueError(f"its model is {self.model.config}, {dtype}, the run's {config}")
        step, taken, tokens = (values[n] for n in ("step", "optimizer_steps", "loss_tokens"))
        if not all(isinstance(count, int) and count >= 0 for count in (step, taken, tokens)):
            raise ValueError(f"its counts of steps and tokens are {step}, {taken}, {tokens}")
        rule = "optimizer."
        carried = {n[len(rule) :]: array for n, array in arrays.items() if n.startswith(rule)}
        count = sum(name.startswith("state.") for name in arrays)
        state = tuple(arrays[_state_name(n)] for n in range(count))
        expected = [a.shape for a in self.model.initial_state(self.task.batch_size) or ()]
        if state and [array.shape for array in state] != expected:
            raise ValueError(f"its state must have shapes {expected}")
        self._optimizer.load(taken, carried)
        self._rng.bit_generator.state = values["generator"]
        self._loss_sum, self._loss_count = float(values["loss_sum"]), tokens
        self._state = state or None
        self.step = self._saved = step

    def _take_step(self) -> tuple[float, float, int]:
        """Return the mean loss, the gradient's norm and how many tokens they are over."""
        batch = self.task.batches[self.step]
        state = self._state if batch.continues else None
        rng = self._rng if self.model.config["dropout"] else None
        result = self._workers.differentiate(batch, state, rng)
        loss, norm = result.loss / result.tokens, result.norm
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"the loss is {loss}, the gradient's norm {norm}"
            raise DivergedError(self._diverged(what, self.step + 1))
        self._workers.update(self._schedule(self.step), norm, self.options.clip or math.inf)
        self.step += 1
        self._state = result.state
        self._loss_sum += result.loss
        self._loss_count += result.tokens
        return loss, norm, result.tokens

    def _next_loss(self) -> float:
        """Return the mean loss of the next batch, without dropout."""
        batch = self.task.batches[self.step]
        with np.errstate(over="ignore", invalid="ignore"):
            goes_on = batch.continues and self._state is not None
            state = {"state": self._state} if goes_on else {}
            loss, _ = self.model.score(*batch.arguments, **state)
        return loss / batch.counted

    def _record(self, norm: float, tokens: int, seconds: float, *, validate: bool) -> Record:
        """Append a line of metrics, of so many tokens in so many seconds."""
        record = new_record(self.task.metrics)
        record["step"] = self.step
        record["train_loss"] = self._loss_sum / self._loss_count
        record["learning_rate"] = self._optimizer.lr
        record["gradient_norm"] = norm
        record["tokens_per_second"] = round(tokens / seconds, 1)
        record["seconds"] = round(seconds, 3)
        self._loss_sum, self._loss_count = 0.0, 0
        if validate:
            measured = self.task.evaluate(self._workers)
            if not measured["loss"] < LARGEST_LOSS:
                what = f"the validation loss is {measured['loss']}"
                raise DivergedError(self._diverged(what, self.step))
            record |= {f"val_{name}": value for name, value in measured.items()}
            self._losses.append(measured["loss"])
        files.append_text(self.metrics_path, json.dumps(record, allow_nan=False) + "\n")
        return record

    def _trim_metrics(self) -> None:
        """Drop the lines that were written after the checkpoint: their steps are taken again."""
        kept = [line for line in read_metrics(self.directory) if line["step"] <= self.step]
        self._losses = [line["val_loss"] for line in kept if line["val_loss"] is not None]
        lines = "".join(json.dumps(line) + "\n" for line in kept)
        files.write_text(self.metrics_path, lines)

    def _diverged(self, what: str, step: int) -> str:
        lr, clip = self.options.lr, self.options.clip
        lower = f"lower lr={lr} or " + (f"clip={clip}" if clip else "set clip=1.0")
        found = [
            path
            for path in checkpoint.checkpoints(self.directory)
            if checkpoint.step_of(path) <= self.step
        ]
        kept = f"; the checkpoint {found[-1]} is good" if found else ""
        return f"training diverged at step {step}, {what}: {lower}{kept}"


def _with_threads(options: RunOptions, task: Task, model: Trainable) -> RunOptions:
    """Return the options with as many threads as are worth it, where nobody says how many."""
    if options.threads is not None:
        return options
    numbers = model.activations(options.batch_size, task.window)
    return replace(options, threads=worthwhile_workers(numbers, usual_workers()))


def _state_name(n: int) -> str:
    return _STATES[n] if n < len(_STATES) else f"state.{n}"
