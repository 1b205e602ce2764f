"""A run of a model that is counted, in one pass: the directory of a run, made at once or not."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from npllm import checkpoint, files
from npllm.ngram import NgramLanguageModel
from npllm.text import Tokenizer, WhitespaceTokenizer, split_text
from npllm.text.tokenizers import TrainedTokenizer
from npllm.training.description import describe
from npllm.training.directory import new_directory
from npllm.training.evaluation import Evaluation, score
from npllm.training.language_modelling import (
    LanguageModelling,
    LanguageModellingOptions,
    digest_of,
)
from npllm.training.metrics import new_record


@dataclass(frozen=True)
class Counted:
    """A model of n-grams, and how well it does.

    Attributes:
        directory: where it is kept.
        model: the model.
        tokenizer: its vocabulary.
        tokens: how many it was counted from.
        seconds: how long that took.
        held_out: the measures of the held-out text.
    """

    directory: Path
    model: NgramLanguageModel
    tokenizer: TrainedTokenizer
    tokens: int
    seconds: float
    held_out: Evaluation


def count_run(directory: str | os.PathLike[str], options: LanguageModellingOptions) -> Counted:
    """Count a text, and keep the model in a new directory like that of a run.

    Args:
        directory: where it will live; it appears when all is in it.
        options: of the run.

    Raises:
        OSError: the data cannot be read, or the directory exists or cannot be written.
        ValueError: the text is too short.
    """
    options = options.located()
    text = options.read()
    train, rest = split_text(text, options.held_out)
    with new_directory(Path(directory)) as made:
        tokenizer = options.make_tokenizer(train, text)
        ids = tokenizer.encode(train)
        start = time.perf_counter()
        model = NgramLanguageModel.count(
            ids,
            len(tokenizer.vocabulary),
            order=options.order,
            smoothing=options.smoothing,
            k=options.k,
            end=end_of(tokenizer),
        )
        seconds = time.perf_counter() - start
        try:
            held_out = score(model, tokenizer, rest)
        except ValueError as error:
            raise ValueError(f"the held-out part: {error}, or set a larger held_out") from None
        describe(made, options, digest_of(text))
        own, _ = model.score(ids[None, :-1], ids[None, 1:])
        record = new_record(LanguageModelling.metrics)
        record |= {"step": 1, "train_loss": own / max(1, len(ids) - 1)}
        record |= {f"val_{n}": getattr(held_out, n) for n in LanguageModelling.metrics}
        record |= {"learning_rate": 0.0, "gradient_norm": 0.0}
        record |= {"tokens_per_second": round(len(ids) / seconds, 1), "seconds": round(seconds, 3)}
        files.append_text(made / "metrics.jsonl", json.dumps(record) + "\n")
        checkpoint.save_checkpoint(
            made, 1, model=model, vocabularies={"tokenizer": tokenizer}, arrays={}, values={}
        )
    return Counted(Path(directory), model, tokenizer, len(ids), seconds, held_out)


def end_of(tokenizer: Tokenizer) -> int | None:
    """Return the id that ends a sentence, of a tokenizer that has one."""
    if not isinstance(tokenizer, WhitespaceTokenizer):
        return None
    return tokenizer.vocabulary.index(WhitespaceTokenizer.END)
