"""Language modelling, the first task: to predict the next token of a text."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, NamedTuple

import numpy as np

from npllm.datasets import find
from npllm.files import Json
from npllm.models import MODELS, LanguageModel
from npllm.ngram import NGRAM, SMOOTHINGS, NgramLanguageModel
from npllm.text import (
    ContiguousBatches,
    ShuffledWindows,
    load_text,
    split_text,
)
from npllm.text.made import SIZED, make_tokenizer
from npllm.text.tokenizers import Ids, TrainedTokenizer
from npllm.training.evaluation import evaluate
from npllm.training.options import RunOptions, option
from npllm.training.workers import Workers

# the options that have an effect with a model of n-grams
_OF_TEXT = ("data", "model", "tokenizer", "vocab_size", "held_out", "seed")
_OF_COUNTING = (*_OF_TEXT, "order", "smoothing", "k")
# the options that a model which is there already has for itself
_OF_A_MODEL = (
    *("tokenizer", "vocab_size", "embed_size", "hidden_size", "width", "heads", "kv_heads"),
    *("sliding_window", "layers", "tie_weights"),
)


@dataclass(frozen=True)
class LanguageModellingOptions(RunOptions):
    """The options of a run that learns to predict the next token of a text.

    Raises:
        ValueError: a value is out of its range, or has no effect with another.
    """

    TASK: ClassVar[str] = "language-modelling"
    DATA: ClassVar[str] = "text"
    OPTION_OF: ClassVar[Mapping[str, str]] = {"num_layers": "layers", "window": "sliding_window"}

    data: str | None = option(
        None,
        "text",
        "UTF-8 text to learn from (default: the Python language reference, if none is named)",
    )
    model: str = option(
        "lstm",
        "model",
        "architecture: lstm is section 5's; gpt and llama are Transformers; ngram counts the words "
        "after each few, in one pass",
        (*MODELS, NGRAM),
    )
    tokenizer: str = option(
        "character",
        "text",
        "what a token is: a character; a frequent word, with rare ones spelled out, in Chinese too "
        "(jieba); a frequent piece of a word, in bytes (bpe); or whatever white space sets apart "
        "in a line, rare ones being unknown",
        ("character", "word", "jieba", "bpe", "whitespace"),
    )
    vocab_size: int = option(10_000, "text", "tokens at most, for words and bpe")
    embed_size: int = option(256, "model", "width E of the embedding, of lstm")
    hidden_size: int = option(256, "model", "width H of the LSTM, of lstm")
    width: int = option(128, "model", "width E of gpt and llama")
    heads: int = option(4, "model", "attention heads, of gpt and llama")
    kv_heads: int | None = option(
        None, "model", "key and value heads that the heads share, of llama (default: as many)"
    )
    sliding_window: int | None = option(
        None, "model", "how far back a token sees, itself included, of llama (default: all the way)"
    )
    from_: str | None = option(
        None,
        "model",
        "run or public model whose weights and tokens to begin with (fine-tuning)",
    )
    order: int = option(5, "model", "words of the longest n-grams, of ngram")
    smoothing: str = option(
        "kneser-ney",
        "model",
        "what ngram leaves to the unseen; kneser-ney is the modified one",
        SMOOTHINGS,
    )
    k: float = option(1.0, "model", "what add-k adds to each count, of ngram")
    context: int = option(64, "model", "positions of gpt and llama, and the length of a window")
    layers: int = option(1, "model", "layers, or blocks, on top of one another")
    dropout: float = option(0.0, "model", "share of activations zeroed while training")
    tie_weights: bool = option(
        False,
        "model",
        "use one matrix for embedding and output, of lstm (needs E = H) and llama; gpt always does",
    )
    length: int = option(64, "text", "T, tokens that a gradient reaches back, of lstm")
    windows: str | None = option(
        None,
        "text",
        "batches: contiguous reads on with the state carried, shuffled draws windows (default: "
        "contiguous for lstm, shuffled for gpt and llama, which carry no state)",
        ("contiguous", "shuffled"),
    )
    held_out: float = option(0.1, "text", "share of the text, its end, kept for validation")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("vocab_size", "embed_size", "hidden_size", "width", "heads", "kv_heads")
        self.check_positive("sliding_window", "context", "layers", "length", "order")
        self.check_shares("dropout")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie strictly between 0 and 1, got {self.held_out}")
        for name in _OF_A_MODEL if self.from_ is not None else ():
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{name} must be left out: with from_ it is the model's own")
        self.check_effect("vocab_size", self.tokenizer, [*SIZED])
        for name in ("order", "smoothing", "k"):
            self.check_effect(name, self.model, [NGRAM])
        if self.model == NGRAM:
            self._check_counted()
            return
        if self.from_ is not None:
            return
        self.check_taken(MODELS, self.model)
        endless = [kind for kind, model in MODELS.items() if "context" not in model.CHOICES]
        self.check_effect("length", self.model, endless)
        if self.sliding_window is not None and self.sliding_window >= self.context:
            raise ValueError(
                f"sliding_window must be below context={self.context}, to have an effect, got "
                f"{self.sliding_window}"
            )

    def _check_counted(self) -> None:
        """Raise ValueError where an option is given that a model of n-grams does not have."""
        for each in fields(self):
            if each.name not in _OF_COUNTING:
                self.check_effect(each.name, self.model, [*MODELS])
        self.check_effect("k", self.smoothing, ["add-k"])
        if not 0 < self.k < math.inf:
            raise ValueError(f"k must be positive and finite, got {self.k}")

    @property
    def carries_state(self) -> bool:
        """Whether the model goes on from one window to the next, having no last position."""
        return "context" not in MODELS[self.model].CHOICES

    @property
    def window_name(self) -> str:
        """The option that is T."""
        return "length" if self.carries_state else "context"

    @property
    def window(self) -> int:
        """T, how many tokens a window has."""
        return int(getattr(self, self.window_name))

    def located(self) -> LanguageModellingOptions:
        """Return the options with absolute paths: a run will be resumed from anywhere."""
        options = self
        if self.data is not None:
            options = replace(self, data=os.path.abspath(find(self.data, self.DATA)))
        if self.from_ is None:
            return options
        start = start_of(self.from_)
        kind = next(name for name, of in MODELS.items() if isinstance(start.model, of))
        from_ = os.path.abspath(self.from_) if os.path.exists(self.from_) else self.from_
        return replace(options, model=kind, from_=from_)

    def read(self, digest: str | None = None) -> str:
        """Return the text.

        Raises:
            OSError: it cannot be read.
            ValueError: it is empty or not UTF-8, or has another digest than the one given.
        """
        try:
            text = load_text(self.data)
        except FileNotFoundError:
            if digest is None:
                raise
            raise FileNotFoundError(
                f"the text of the run has gone ({self.data}): restore it, or start another run"
            ) from None
        if digest not in (None, digest_of(text)):
            raise ValueError(
                f"the text of the run has changed since ({self.data or 'the default corpus'}): "
                "restore it, or start another run"
            )
        return text

    def make_task(
        self,
        vocabularies: Mapping[str, TrainedTokenizer] | None = None,
        digest: str | None = None,
    ) -> LanguageModelling:
        """Return the text in batches, its tokenizer made from it where there is none yet."""
        text = self.read(digest)
        train, _ = split_text(text, self.held_out)
        if vocabularies is not None:
            return LanguageModelling(self, text, vocabularies["tokenizer"])
        if self.from_ is None:
            return LanguageModelling(self, text, self.make_tokenizer(train, text))
        start = start_of(self.from_)
        positions = start.model.context
        if positions is not None and self.context > positions:
            raise ValueError(
                f"context={self.context} is more than the {positions} positions of {self.from_}"
            )
        return LanguageModelling(self, text, start.tokenizer, start.model)

    def make_tokenizer(self, train: str, text: str) -> TrainedTokenizer:
        """Return the tokenizer: words of the training part, characters of the whole text."""
        return make_tokenizer(self.tokenizer, train, text, self.vocab_size)

    def model_config(self, vocab_size: int) -> dict[str, Json]:
        """Return what the model is made with; what is None is left to it."""
        config = self.arguments(MODELS[self.model].CHOICES)
        return {"vocab_size": vocab_size} | {a: v for a, v in config.items() if v is not None}

    def make_model(self, vocab_size: int, rng: np.random.Generator) -> LanguageModel:
        """Return the model with fresh weights."""
        config = self.model_config(vocab_size)
        return MODELS[self.model](**config, seed=rng, dtype=np.dtype(self.dtype))

    def make_batches(self, ids: Ids, batch_size: int) -> ContiguousBatches | ShuffledWindows:
        """Return the batches of a text."""
        kind = self.windows or ("contiguous" if self.carries_state else "shuffled")
        if kind == "shuffled":
            return ShuffledWindows(ids, batch_size, self.window, self.seed)
        return ContiguousBatches(ids, batch_size, self.window)


class LanguageModelling:
    """A text to learn from, and its end to be measured by.

    Args:
        options: of the run.
        text: of which ``held_out`` is kept.
        tokenizer: its vocabulary.
        start: the model whose weights are begun with; fresh ones where None.

    Attributes:
        options: of the run.
        tokenizer: the text's.
        validation: the held-out text.
        train_tokens: how many tokens there are to learn from.
        batch_size: of the options, or as many windows as the text has.
        window: T.
        batches: of the rest of the text.
        digest: of the text.

    Raises:
        ValueError: a part of the text is too short.
    """

    metrics = ("loss", "perplexity", "bits_per_character")

    def __init__(
        self,
        options: LanguageModellingOptions,
        text: str,
        tokenizer: TrainedTokenizer,
        start: LanguageModel | None = None,
    ) -> None:
        train, self.validation = split_text(text, options.held_out)
        ids = tokenizer.encode(train)
        windows = (len(ids) - 1) // options.window
        if windows < 1:
            raise ValueError(
                f"the training part of the text has {len(ids)} tokens, and a window of "
                f"{options.window_name}={options.window} needs {options.window + 1}: use a longer "
                "text, or a shorter window"
                f"{' or a smaller vocab_size' if options.tokenizer == 'bpe' else ''}"
            )
        self.options, self.tokenizer, self.window = options, tokenizer, options.window
        self._start = start
        self.train_tokens = len(ids)
        self.batch_size = min(options.batch_size, windows)
        self.batches = options.make_batches(ids, self.batch_size)
        self.digest = digest_of(text)
        self._validation_ids = tokenizer.encode(self.validation)
        if min(len(self._validation_ids), len(self.validation)) < 2:
            raise ValueError(
                f"the held-out part of the text has {len(self._validation_ids)} tokens, and 2 are "
                "needed: use a longer text or a larger held_out"
            )

    @property
    def summary(self) -> str:
        """What there is to learn from."""
        return (
            f"{self.options.data or 'the Python language reference'}: {self.train_tokens:,} tokens "
            f"to learn from, {len(self.validation):,} characters held out, vocabulary "
            f"{len(self.tokenizer.vocabulary)}"
        )

    @property
    def vocabularies(self) -> dict[str, TrainedTokenizer]:
        """The tokenizer, by the name that a checkpoint has for it."""
        return {"tokenizer": self.tokenizer}

    def make_model(self, rng: np.random.Generator) -> LanguageModel:
        """Return the model with fresh weights, or with those that are begun with."""
        if self._start is None:
            return self.options.make_model(len(self.tokenizer.vocabulary), rng)
        config = {**self._start.config, "dropout": self.options.dropout}
        dtype = np.dtype(self.options.dtype)
        model: LanguageModel = MODELS[self.options.model](**config, seed=None, dtype=dtype)
        model.parameters.vector[...] = self._start.parameters.vector
        return model

    def model_config(self) -> dict[str, Json] | None:
        """Return the config of the model, its own defaults filled in.

        None of one that was begun with, which has its own.
        """
        if self.options.from_ is not None:
            return None
        config = self.options.model_config(len(self.tokenizer.vocabulary))
        return dict(MODELS[self.options.model](**config, seed=None).config)

    def evaluate(self, workers: Workers) -> dict[str, float]:
        """Return loss, perplexity and bits per character of the held-out text."""
        result = evaluate(workers, self.tokenizer, self._validation_ids)
        return {name: getattr(result, name) for name in self.metrics}


class Start(NamedTuple):
    """A model to begin with.

    Attributes:
        model: with its weights.
        tokenizer: its own.
    """

    model: LanguageModel
    tokenizer: TrainedTokenizer


def start_of(name: str) -> Start:
    """Return a run's or a public model.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is one of n-grams, or its tokenizer does not fit.
    """
    from npllm.loading import load

    model, tokenizer, *_ = load(name)
    if isinstance(model, NgramLanguageModel) or not isinstance(tokenizer, TrainedTokenizer):
        raise ValueError(f"{name} is a model of n-grams, which cannot be trained further")
    tokens, words = len(tokenizer.vocabulary), model.config["vocab_size"]
    if tokens != words:
        raise ValueError(f"{name} has {words} words, and its tokenizer {tokens}: it cannot be kept")
    return Start(model, tokenizer)


def digest_of(text: str) -> str:
    """Return what tells one text from another."""
    return hashlib.sha256(text.encode()).hexdigest()
