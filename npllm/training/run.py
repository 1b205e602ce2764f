"""A training run: a directory that holds its options, metrics and latest checkpoint.

After every step the run can be saved, and a run that goes on from a checkpoint ends with the bits
of a run that was never stopped: the step determines the batch, and the checkpoint holds the rest
(weights, optimizer, carried states, generator, sums of the running averages).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from npllm import checkpoint, files
from npllm.models import LanguageModel
from npllm.optim import clip_global_norm
from npllm.text import load_text, split_text
from npllm.text.tokenizers import TrainedTokenizer
from npllm.training.evaluation import evaluate
from npllm.training.options import Options
from npllm.training.shards import Workers, sharded_loss_and_gradients, usual_shards, workers

FORMAT = "npllm-run"
VERSION = 1


# A larger mean loss, in nats, has no finite perplexity exp(loss); NaN is not below it either.
LARGEST_LOSS = math.log(np.finfo(np.float64).max)
# Activations of a step, B H, below which a shard is not worth a thread; see benchmarks/.
SMALLEST_SHARD = 2048
METRICS = (
    *("step", "train_loss", "val_loss", "val_perplexity", "val_bits_per_character"),
    *("learning_rate", "gradient_norm", "tokens_per_second"),
)


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
    record: dict[str, Any] | None


class Run:
    """Training of one model on one text.

    Make one with :meth:`create` or :meth:`resume`; iterate over :meth:`train`.

    Attributes:
        directory: where it lives.
        options: what determines it.
        batch_size: of the options, or as many windows as the text has.
        model: being trained.
        tokenizer: its vocabulary.
        step: how many steps were taken.
        validation: the held-out text.
    """

    def __init__(
        self,
        directory: Path,
        options: Options,
        text: str,
        model: LanguageModel,
        tokenizer: TrainedTokenizer,
        rng: np.random.Generator,
    ) -> None:
        train, self.validation = split_text(text, options.held_out)
        ids = tokenizer.encode(train)
        windows = (len(ids) - 1) // options.window
        if windows < 1:
            name = "length" if options.model == "lstm" else "context"
            raise ValueError(
                f"the training part of the text has {len(ids)} tokens, and a window of "
                f"{name}={options.window} needs {options.window + 1}: use a longer text, or a "
                f"shorter window{' or a smaller vocab_size' if options.tokenizer == 'bpe' else ''}"
            )
        self.directory, self.options = directory, options
        self.model, self.tokenizer = model, tokenizer
        self.batch_size = min(options.batch_size, windows)
        self.train_tokens = len(ids)
        self.step = 0
        self._rng = rng
        self._batches = options.make_batches(ids, self.batch_size)
        self._validation_ids = tokenizer.encode(self.validation)
        if min(len(self._validation_ids), len(self.validation)) < 2:
            raise ValueError(
                f"the held-out part of the text has {len(self._validation_ids)} tokens, and 2 are "
                "needed: use a longer text or a larger held_out"
            )
        self._optimizer = options.make_optimizer(model)
        self._schedule = options.make_schedule()
        self._text_digest = _digest(text)
        self._state: tuple[Any, ...] | None = None
        self._loss_sum, self._loss_tokens = 0.0, 0
        self._told: set[str] = set()  # of what else is named as a checkpoint

    @classmethod
    def create(cls, directory: str | os.PathLike[str], options: Options) -> Run:
        """Start a run in a new directory, with a checkpoint of step 0 in it.

        Raises:
            OSError: the text cannot be read, or the directory exists or cannot be written.
            ValueError: the text is empty, too short or not UTF-8.
        """
        directory = Path(directory)
        if not directory.name:
            raise ValueError(f"a run needs a new directory of its own, got {directory}")
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            holds = "already holds files:" if directory.is_dir() else "already is a file:"
            if (directory / "run.json").exists():
                holds = "already holds a run: resume it, or"
            raise FileExistsError(f"{directory} {holds} choose another directory")
        text = load_text(options.data)
        if options.data is not None:  # the run will be resumed from anywhere
            options = replace(options, data=os.path.abspath(options.data))
        if options.threads is None:
            options = replace(options, threads=_worthwhile_threads(options))
        train, _ = split_text(text, options.held_out)
        tokenizer = options.make_tokenizer(train, text)
        rng = np.random.default_rng(options.seed)
        model = options.make_model(len(tokenizer.vocabulary), rng)
        run = cls(directory, options, text, model, tokenizer, rng)
        # the directory appears with its first checkpoint in it, or not at all
        directory.parent.mkdir(parents=True, exist_ok=True)
        run.directory = files.temporary_name(directory)
        try:
            run.directory.mkdir()
            run._describe()
            files.write_text(run.metrics_path, "")
            run.save()
            if directory.exists():
                directory.rmdir()
            run.directory.rename(directory)
            files.flush(directory.parent)
        except BaseException:
            shutil.rmtree(run.directory, ignore_errors=True)
            raise
        run.directory = directory
        return run

    @classmethod
    def resume(cls, directory: str | os.PathLike[str], steps: int | None = None) -> Run:
        """Go on with a run from its latest checkpoint.

        Args:
            directory: the run's.
            steps: a new total, in place of the one it was started with.

        Raises:
            OSError: there is no run, or it or its text cannot be read.
            ValueError: a file is truncated, foreign or of a later version; the text has changed.
        """
        directory = Path(directory)
        options, text = load_recorded(directory)
        if steps is not None:
            options = replace(options, steps=steps)
        latest = checkpoint.latest_checkpoint(directory)
        model, tokenizer = checkpoint.load_model(latest)
        arrays, values = checkpoint.load_training(latest)
        run = cls(directory, options, text, model, tokenizer, np.random.default_rng())
        try:
            if values["step"] != checkpoint.step_of(latest):
                raise ValueError(f"it is of step {values['step']}")
            run._restore(arrays, values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{latest} does not fit the run: {error}") from None
        with run._locked():
            run._trim_metrics()
            if run.step < options.steps:
                run._describe()
        return run

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

        While it runs, BLAS is held to one thread in the whole process.
        """
        every = self.options
        with self._locked(), workers(self.options.threads or 1) as pool:
            since, tokens = time.perf_counter(), 0
            while self.step < self.options.steps:
                loss, norm, count = self._take_step(pool)
                tokens += count
                last = self.step == self.options.steps
                record = None
                due = last or self.step % every.eval_every == 0
                if due or self.step % every.log_every == 0:
                    seconds = time.perf_counter() - since
                    record = self._record(norm, tokens / seconds, pool if due else None)
                    since, tokens = time.perf_counter(), 0
                if last or self.step % every.checkpoint_every == 0:
                    self.save()
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
            latest = checkpoint.latest_step(self.directory)
            if latest > self.step:
                raise ValueError(f"{busy}, or was in the meantime: resume it again")
            checkpoint.tidy(self.directory, latest)
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
        files.flush(self.metrics_path)
        arrays = {f"optimizer.{name}": v for name, v in self._optimizer.state.items()}
        if self._state is not None:
            arrays |= {"state.h": self._state[0], "state.c": self._state[1]}
        saved = checkpoint.save_checkpoint(
            self.directory,
            self.step,
            model=self.model,
            tokenizer=self.tokenizer,
            arrays=arrays,
            values={
                "optimizer_steps": self._optimizer.steps,
                "generator": self._rng.bit_generator.state,
                "loss_sum": self._loss_sum,
                "loss_tokens": self._loss_tokens,
            },
        )
        for stray in checkpoint.strays(self.directory, saved):
            if stray.name not in self._told:
                _log.warning("%s was not written by this run and is left alone: move it", stray)
                self._told.add(stray.name)
        return saved

    def _describe(self) -> None:
        """Write what the run is determined by."""
        described = {
            "format": FORMAT,
            "version": VERSION,
            "text_sha256": self._text_digest,
            "options": asdict(self.options),
        }
        files.write_json(self.directory / "run.json", described)

    def _restore(self, arrays: dict[str, Any], values: dict[str, Any]) -> None:
        """Go on from a checkpoint's arrays and values, once all of them fit."""
        config = self.options.model_config(len(self.tokenizer.vocabulary))
        own = {name: value for name, value in self.model.config.items() if name in config}
        if own != config or self.model.parameters.vector.dtype != self.options.dtype:
            raise ValueError(f"its model is {self.model.config}, the run's {config}")
        step, taken, tokens = (values[n] for n in ("step", "optimizer_steps", "loss_tokens"))
        if not all(isinstance(count, int) and count >= 0 for count in (step, taken, tokens)):
            raise ValueError(f"its counts of steps and tokens are {step}, {taken}, {tokens}")
        rule = "optimizer."
        carried = {n[len(rule) :]: array for n, array in arrays.items() if n.startswith(rule)}
        states = [array for name, array in sorted(arrays.items()) if name.startswith("state.")]
        shape = (config["num_layers"], self.batch_size, config.get("hidden_size"))
        if states and [array.shape for array in states] != [shape, shape]:
            raise ValueError(f"its states must be two of shape {shape}")
        self._optimizer.load(taken, carried)
        self._rng.bit_generator.state = values["generator"]
        self._loss_sum, self._loss_tokens = float(values["loss_sum"]), tokens
        self._state = (arrays["state.h"], arrays["state.c"]) if states else None
        self.step = step

    def _take_step(self, pool: Workers) -> tuple[float, float, int]:
        """Return the mean loss, the gradient's norm and how many tokens they are over."""
        batch = self._batches[self.step]
        state = self._state if batch.continues else None
        rng = self._rng if self.options.dropout else None
        result = sharded_loss_and_gradients(pool, self.model, batch.ids, batch.targets, state, rng)
        loss = result.loss / result.tokens
        result.gradients.vector /= result.tokens
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges is told, not warned of
            norm = clip_global_norm(result.gradients, self.options.clip or math.inf)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"the loss is {loss}, the gradient's norm {norm}"
                raise DivergedError(self._diverged(what, self.step + 1))
            self._optimizer.lr = self._schedule(self.step)
            self._optimizer.step(result.gradients)
        self.step += 1
        self._state = result.state
        self._loss_sum += result.loss
        self._loss_tokens += result.tokens
        return loss, norm, result.tokens

    def _next_loss(self) -> float:
        """Return the mean loss of the next batch, without dropout."""
        batch = self._batches[self.step]
        with np.errstate(over="ignore", invalid="ignore"):
            state = self._state if batch.continues else None
            loss, _ = self.model.score(batch.ids, batch.targets, state)
        return loss / batch.targets.size

    def _record(self, norm: float, speed: float, pool: Workers | None) -> dict[str, Any]:
        """Append a line of metrics, with validation where a pool is given."""
        record: dict[str, Any] = dict.fromkeys(METRICS)
        record["step"] = self.step
        record["train_loss"] = self._loss_sum / self._loss_tokens
        record["learning_rate"] = self._optimizer.lr
        record["gradient_norm"] = norm
        record["tokens_per_second"] = round(speed, 1)
        self._loss_sum, self._loss_tokens = 0.0, 0
        if pool is not None:
            result = evaluate(self.model, self.tokenizer, self._validation_ids, pool)
            if not result.loss < LARGEST_LOSS:
                what = f"the validation loss is {result.loss}"
                raise DivergedError(self._diverged(what, self.step))
            record["val_loss"] = result.loss
            record["val_perplexity"] = result.perplexity
            record["val_bits_per_character"] = result.bits_per_character
        files.append_text(self.metrics_path, json.dumps(record, allow_nan=False) + "\n")
        return record

    def _trim_metrics(self) -> None:
        """Drop the lines that were written after the checkpoint: their steps are taken again."""
        kept = [line for line in read_metrics(self.directory) if line["step"] <= self.step]
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


def load_options(directory: str | os.PathLike[str]) -> tuple[Options, str]:
    """Return the options of a run and the digest of its text.

    Raises:
        OSError: there is no run, or it cannot be read.
        ValueError: it is truncated, foreign or of a later version.
    """
    path = Path(directory) / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{directory} holds no run: name a directory npllm train wrote")
    described = files.read_json(path)
    files.check_header(path, described, FORMAT, VERSION)
    try:
        return Options(**described["options"]), described["text_sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a run: {error}") from None


def load_recorded(directory: str | os.PathLike[str]) -> tuple[Options, str]:
    """Return the options of a run and its text.

    Raises:
        OSError: there is no run, or it or its text cannot be read.
        ValueError: it is truncated, foreign or of a later version; the text has changed.
    """
    options, digest = load_options(directory)
    text = load_text(options.data)
    if _digest(text) != digest:
        raise ValueError(
            f"the text of the run has changed since ({options.data or 'the default corpus'}): "
            "restore it, or start another run"
        )
    return options, text


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


def _is_record(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("step"), int):
        return False
    values = [line.get(name, "missing") for name in METRICS]
    return all(
        isinstance(value, (int, float)) or (value is None and name.startswith("val_"))
        for name, value in zip(METRICS, values, strict=True)
    )


def _worthwhile_threads(options: Options) -> int:
    """Return how many threads pay: small shards cost more in handing Python's lock over."""
    # an LSTM works step by step; a Transformer on all positions at once
    rows = options.batch_size * (1 if options.model == "lstm" else options.context)
    width = options.hidden_size if options.model == "lstm" else options.width
    worthwhile = rows * width // SMALLEST_SHARD
    return max(1, min(usual_shards(), worthwhile))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
