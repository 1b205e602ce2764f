"""Models side by side on one text: how well, how fast, how large."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from npllm.figures import escaped, fonts_for, new_figure, save_figure
from npllm.loading import load
from npllm.ngram import NgramLanguageModel
from npllm.threads import blas_held
from npllm.training.evaluation import Evaluation, score
from npllm.training.metrics import read_metrics


@dataclass(frozen=True)
class Measured:
    """A model on a text.

    Attributes:
        name: as it was asked for.
        kind: what model it is.
        parameters: how many numbers it has learned; of n-grams a probability and a weight each.
        evaluation: the measures of the text.
        score_seconds: how long they took.
        memory: the most bytes that the process held which took them; None where nothing tells.
        training: the seconds and the bits per character of each validation; empty of what npllm
            did not train.
    """

    name: str
    kind: str
    parameters: int
    evaluation: Evaluation
    score_seconds: float
    memory: int | None
    training: tuple[tuple[float, float], ...]


def measure(names: Sequence[str], text: str, threads: int) -> list[Measured]:
    """Return the measures of models, each taken in a process of its own, one after the other.

    Args:
        names: of runs, files or public models.
        text: which all of them score.
        threads: cores that each may use.

    Raises:
        OSError: one cannot be read.
        ValueError: one cannot score the text.
        ChildProcessError: a process was killed.
    """
    # a Python without processes can still import what is here
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    found = []
    for name in names:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            try:
                found.append(pool.submit(_measured, name, text, threads).result())
            except BrokenProcessPool:
                raise ChildProcessError(f"the process that scored with {name} was killed") from None
    return found


def _measured(name: str, text: str, threads: int) -> Measured:
    with blas_held(threads):
        model, tokenizer, *_ = load(name)
        start = time.perf_counter()
        try:
            evaluation = score(model, tokenizer, text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        seconds = time.perf_counter() - start
    if isinstance(model, NgramLanguageModel):
        parameters = 2 * model.size
    else:
        parameters = model.parameters.vector.size
    return Measured(
        name=name,
        kind=type(model).__name__.removesuffix("LanguageModel"),
        parameters=parameters,
        evaluation=evaluation,
        score_seconds=seconds,
        memory=_most_memory(),
        training=_training(name),
    )


def _most_memory() -> int | None:
    """Return the most bytes that this process has held."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _training(name: str) -> tuple[tuple[float, float], ...]:
    """Return the seconds and the bits per character of each validation of a run."""
    if not Path(name, "metrics.jsonl").is_file():
        return ()
    seconds, found = 0.0, []
    for record in read_metrics(name):
        seconds += record.get("seconds") or math.nan  # earlier versions did not say
        if record["val_loss"] is not None:
            found.append((seconds, record["val_bits_per_character"]))
    return tuple(found)


HEADINGS = (
    "model",
    "kind",
    "parameters",
    "bits/character",
    "perplexity",
    "training s",
    "scoring s",
    "memory MB",
)


def table(found: Sequence[Measured]) -> list[str]:
    """Return the lines of a table in Markdown, the best model first."""
    rows = [HEADINGS, ("---", "---", *["---:"] * (len(HEADINGS) - 2))]
    for each in sorted(found, key=lambda one: one.evaluation.bits_per_character):
        trained = each.training[-1][0] if each.training else math.nan
        rows.append(
            (
                each.name,
                each.kind,
                f"{each.parameters:,}",
                f"{each.evaluation.bits_per_character:.4f}",
                f"{each.evaluation.perplexity:,.3f}",
                "-" if math.isnan(trained) else f"{trained:,.1f}",
                f"{each.score_seconds:.2f}",
                "-" if each.memory is None else f"{each.memory / 1e6:,.0f}",
            )
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def plot(found: Sequence[Measured], out: str | os.PathLike[str]) -> None:
    """Draw the perplexity of a character over the time of training, as PNG.

    A run's curve is that of its own held-out text, its last point that of the text of all.

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib is missing, or no model tells of its training.
    """
    told = [each for each in found if each.training and not math.isnan(each.training[-1][0])]
    if not told:
        raise ValueError("no model among them tells how long it was trained: train one with npllm")
    figure = new_figure(8, 5)
    axes = figure.subplots()
    for each in told:
        seconds, bits = zip(*each.training, strict=True)
        end = each.evaluation.bits_per_character
        (line,) = axes.plot(seconds, [2**b for b in bits], linewidth=1)
        label = f"{escaped(each.name)}: {2**end:.2f}"
        axes.plot(seconds[-1:], [2**end], "o", color=line.get_color(), label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="training time (s)",
        ylabel="perplexity of a character",
        title="Models side by side",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(prop={"family": fonts_for(each.name for each in told)})
    save_figure(figure, out)
