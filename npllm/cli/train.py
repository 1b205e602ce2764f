"""``npllm train``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from npllm.checkpoint import load_model
from npllm.cli.flags import flag_of
from npllm.cli.generate import write
from npllm.cli.parser import Commands, add_command, counted, seed
from npllm.cli.train_options import METAVARS, USUAL, add_options, given, task_of
from npllm.datasets import CATALOGUE, find
from npllm.models import MODELS
from npllm.models.language_model import Predictor
from npllm.ngram import NGRAM
from npllm.sampling import Sampling
from npllm.text.tokenizers import TrainedTokenizer
from npllm.training import LanguageModellingOptions, Run
from npllm.training.classification import ClassificationOptions
from npllm.training.counting import count_run
from npllm.training.description import TASKS, load_options
from npllm.training.options import RESUMABLE
from npllm.training.translation import TranslationOptions

Made = TypeVar("Made")
USUAL_SAMPLE = 400  # tokens

_DESCRIPTION = """\
Train a model on a text: to write such texts, or, by --task, to tell their labels or translate them.

The five steps of section 3, over and over: tokens (step 1) go forward through the model (2), the
cross-entropy of the tokens that follow is the loss (3), its gradients come back through the
hand-written backward passes (4), and the optimizer moves the parameters (5).

A run lives in a directory: metrics.jsonl, a JSON object a line, and the latest checkpoint. Ctrl-C
saves one, and so does SIGTERM; npllm train --resume DIR goes on, with as many threads to the same
bits as if it had never been stopped.

  npllm train                                   section 5's model on the Python reference
  npllm train --data book.txt --layers 2 --dropout 0.2 --steps 5000
  npllm train --data book.txt --tokenizer word --tie-weights --out runs/words
  npllm train --model gpt --layers 4 --heads 4 --width 128 --context 64
  npllm train --from runs/lstm-1 --data letters.txt    go on from its weights, on another text
  npllm train --model ngram --order 5           count, in one pass
  npllm train --task classification --data reviews.tsv    learn to tell labels
  npllm train --task translation --source a.txt --target b.txt    learn to translate
  mpiexec -n 4 npllm train --batch-size 64      on four ranks of MPI: pip install '.[mpi]'
"""


def add(commands: Commands) -> None:
    """Add the command: an option for each field of the task's options."""
    parser = add_command(commands, "train", "learn from a text", _DESCRIPTION, _run, ranks=True)
    parser.add_argument("--out", metavar="DIR", help="new directory (default: runs/MODEL-NUMBER)")
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with a run; --steps or --epochs may set a new total; --patience, --threads and "
        "--accumulate may be others",
    )
    sample = parser.add_argument(
        "--sample",
        type=seed,
        metavar="N",
        help="tokens to write at the end, 0: none (default: 400)",
    )
    add_options(parser, sample)


def _run(options: argparse.Namespace) -> int:
    if options.resume is None and options.task in (None, USUAL) and options.model == NGRAM:
        return _count(options)
    task = options.task or (load_options(options.resume)[0].TASK if options.resume else USUAL)
    if options.sample and task != USUAL:
        raise ValueError(f"--sample has no effect with {task}: what it learns writes nothing")
    if options.world is not None and (options.threads or 1) > 1:
        raise ValueError(f"threads must be 1 where ranks share the batch, got {options.threads}")
    run = _resume(options) if options.resume is not None else _create(options)
    workers = counted(run.options.threads or 1, "thread")
    if options.world is not None:
        workers = counted(options.world.size, "rank")
    _introduce(run, workers)
    with _interruptible() as interrupted:
        try:
            for step in _progress(run):
                if interrupted and step < run.options.steps:
                    run.save()
                    resume = f"npllm train --resume {run.directory}"
                    if options.world is not None:
                        resume = f"mpiexec -n {options.world.size} {resume}"
                    print(f"stopped at step {step}; go on with: {resume}")
                    return 128 + interrupted[0]
        except BrokenPipeError:
            run.save()
            raise
    if run.step < run.options.steps:
        print(f"the validation loss has not fallen for {run.options.patience} validations: ended")
    if isinstance(run.options, LanguageModellingOptions):
        model, tokenizer = load_model(run.directory)  # the best, where that was kept
        _show(options, model, tokenizer, run.directory, run.options.seed)
    else:
        use = {ClassificationOptions: "classify", TranslationOptions: "translate"}[
            type(run.options)
        ]
        print(f"\nHow well it does on the rest: npllm {use} {run.directory} --test")
    return 0


def _count(options: argparse.Namespace) -> int:
    """Count a text, in one pass."""
    if options.world is not None:
        raise ValueError("ngram counts in one process: leave out mpiexec")
    counted = _in_new_directory(options, count_run)
    print(f"text   {counted.tokens:,} tokens counted in {counted.seconds:.2f} s")
    print(f"model  {type(counted.model).__name__}, {counted.model.summary}")
    print(f"run    {counted.directory}")
    print(
        f"validation loss {counted.held_out.loss:.4f}  "
        f"perplexity {counted.held_out.perplexity:.3f}  "
        f"bits per character {counted.held_out.bits_per_character:.4f}"
    )
    seed = options.seed or 0
    _show(options, counted.model, counted.tokenizer, counted.directory, seed)
    return 0


def _show(
    options: argparse.Namespace,
    model: Predictor,
    tokenizer: TrainedTokenizer,
    directory: Path,
    seed: int,
) -> None:
    """Print a sample of what a model writes, and how to have more."""
    sample = USUAL_SAMPLE if options.sample is None else options.sample
    if sample:
        print("\nA sample of what it writes:\n")
        rng = np.random.default_rng(seed)
        write(model, tokenizer, tokenizer.decode([0]), sample, rng, Sampling(0.8))
    print(f"\nMore of it: npllm generate {directory} --tokens 500")


def _create(options: argparse.Namespace) -> Run:
    if task_of(options) is LanguageModellingOptions:
        named = given(options, LanguageModellingOptions)
        if "from_" in named and "model" in named:
            raise ValueError(f"--from {named['from_']} is a model: leave out --model")
        model = named.get("model", LanguageModellingOptions.model)
        if named.get("tie_weights") is False and "tie_weights" not in MODELS[model].CHOICES:
            raise ValueError(f"{model}'s head is its embedding: leave out --no-tie-weights")
    return _in_new_directory(options, partial(Run.create, world=options.world))


def _in_new_directory(options: argparse.Namespace, create: Callable[[Path, Any], Made]) -> Made:
    """Return what is created in the directory that was named, or in the next free one."""
    kind = task_of(options)
    chosen: Any = kind(**given(options, kind))
    if options.task is None:
        _tell_of_tasks(options.data)
    if options.out is not None:
        if not Path(options.out).name:
            raise ValueError(f"--out must name a new directory, got {options.out}")
        if Path(options.out, "run.json").exists():
            raise ValueError(
                f"{options.out} already holds a run: go on with --resume {options.out}, or choose "
                "another --out"
            )
        return create(Path(options.out), chosen)
    while True:
        free = _free_directory(chosen.model)
        try:
            return create(free, chosen)
        except FileExistsError:
            if not (free / "run.json").exists():
                raise  # it is no run that was started at the same moment


def _resume(options: argparse.Namespace) -> Run:
    if options.out is not None:
        raise ValueError("--resume goes on in its own directory: leave out --out")
    recorded, _ = load_options(options.resume)
    if options.task not in (None, recorded.TASK):
        raise ValueError(f"{options.resume} learns {recorded.TASK}: leave out --task")
    for name, value in given(options, type(recorded)).items():
        flag, same = flag_of(name), value
        if name in METAVARS:
            same = os.path.abspath(find(value, recorded.DATA) if name == "data" else value)
        if name not in RESUMABLE and same != getattr(recorded, name):
            own = getattr(recorded, name)
            was = f"{flag}={own}" if own is not None else f"the default of {flag}"
            raise ValueError(
                f"{options.resume} holds a run with {was}, not {value}: leave out {flag}, or start "
                "another run"
            )
    others = {name: getattr(options, name) for name in RESUMABLE}
    run = Run.resume(options.resume, **others, world=options.world)
    if run.step < run.options.steps and run.ended:
        raise ValueError(
            f"{options.resume} has ended at step {run.step}, its loss having not fallen for "
            f"{counted(run.options.patience or 0, 'validation')}: --patience sets more"
        )
    if run.ended:
        raise ValueError(
            f"{options.resume} has taken {counted(run.step, 'step')}, of {run.options.steps}: "
            "--steps sets more"
        )
    return run


def _free_directory(model: str) -> Path:
    number = 1
    while (directory := Path("runs") / f"{model}-{number}").exists():
        number += 1
    return directory


def _introduce(run: Run, workers: str) -> None:
    options, task, size = run.options, run.task, run.model.parameters.vector.size
    print(f"text   {task.summary}")
    print(f"model  {type(run.model).__name__}, {size:,} parameters, {options.dtype}")
    print(f"steps  {run.step} to {options.steps} of {task.batch_size} x {task.window} tokens,")
    if task.batch_size < options.batch_size:
        print(f"       not {options.batch_size}: there are no more to learn from,")
    print(f"       {options.optimizer}, {workers}")
    print(f"run    {run.directory}", flush=True)


def _tell_of_tasks(data: str | None) -> None:
    """Say what else than words can be learned from a data set."""
    if data is None or data not in CATALOGUE or os.path.isfile(data):
        return
    for task, kind in TASKS.items():
        if task != USUAL and CATALOGUE[data].kind == kind.DATA:
            print(f"note   {data} has {kind.DATA} too: --task {task} learns them")


def _progress(run: Run) -> Iterator[int]:
    """Train with a progress bar, on a terminal; print each validation; yield after each step."""
    total = run.options.steps
    hidden = None if sys.stderr is not None else True  # None: where it is no terminal
    unit = "texts" if run.options.DATA == "labels" else "tokens"
    bar = tqdm(total=total, initial=run.step, unit="step", dynamic_ncols=True, disable=hidden)
    with logging_redirect_tqdm(), bar:  # what the run has to tell goes above the bar
        for step in run.train():
            bar.update(1)
            if record := step.record:
                speed = f"{record['tokens_per_second']:,.0f}"
                bar.set_postfix({"loss": f"{record['train_loss']:.3f}", f"{unit}/s": speed})
                if record["val_loss"] is not None:
                    line = (
                        f"step {record['step']:>{len(str(total))}}"
                        f"  train loss {record['train_loss']:.4f}"
                        f"  validation loss {record['val_loss']:.4f}"
                    )
                    for name in run.task.metrics[1:]:
                        digits = 3 if name == "perplexity" else 4
                        line += f"  {name.replace('_', ' ')} {record[f'val_{name}']:.{digits}f}"
                    tqdm.write(line, file=sys.stdout)
            yield step.step


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Turn the first Ctrl-C, or SIGTERM, into an entry of the list; the second acts at once."""
    received: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    previous: dict[int, Any] = {}
    for wanted in (signal.SIGINT, signal.SIGTERM):
        previous[wanted] = signal.signal(wanted, receive)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
