"""Classification, a task: to tell the label of a text, whatever the labels are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.datasets import find
from npllm.files import Json
from npllm.layers import log_softmax_forward
from npllm.layers.arrays import Array, tally
from npllm.models import CLASSIFIERS, AnyClassifier
from npllm.text.labelled import (
    Cleaned,
    Labelled,
    cleaned,
    label_names,
    read_labelled,
    split_labelled,
)
from npllm.text.made import SIZED, known, make_tokenizer
from npllm.text.padded_batches import LabelledBatches, padded
from npllm.text.tokenizers import (
    Ids,
    LabelTokenizer,
    TrainedTokenizer,
)
from npllm.training.options import RunOptions, check_parts, option
from npllm.training.shares import slices
from npllm.training.workers import Workers

ROWS = 64  # texts that are scored at a time


@dataclass(frozen=True)
class ClassificationOptions(RunOptions):
    """The options of a run that learns to tell the labels of texts.

    Raises:
        ValueError: a value is out of its range, or has no effect with another.
    """

    TASK: ClassVar[str] = "classification"
    DATA: ClassVar[str] = "labels"
    OPTION_OF: ClassVar[Mapping[str, str]] = {"num_layers": "layers", "context": "length"}

    data: str = option("", "text", "table of texts and labels: .tsv, .csv or .jsonl")
    text_column: str = option("text", "text", "the column of the texts")
    label_column: str = option("label", "text", "the column of their labels")
    model: str = option(
        "bag",
        "model",
        "bag is the mean of the words; bilstm an LSTM both ways, weighed by attention; encoder a "
        "Transformer's",
        tuple(CLASSIFIERS),
    )
    tokenizer: str = option(
        "word",
        "text",
        "what a token is: a character; a frequent word, in Chinese too (jieba); or a frequent "
        "piece of a word (bpe)",
        ("character", "word", "jieba", "bpe"),
    )
    vocab_size: int = option(10_000, "text", "tokens at most, for words and bpe")
    length: int = option(256, "text", "tokens of a text that are read; what comes behind is not")
    embed_size: int = option(128, "model", "width E of the embedding, of bag and bilstm")
    hidden_size: int = option(128, "model", "width H of the LSTM, of bilstm")
    width: int = option(128, "model", "width E of encoder")
    heads: int = option(4, "model", "attention heads, of encoder")
    layers: int = option(1, "model", "layers, or blocks, of bilstm and encoder")
    dropout: float = option(0.0, "model", "share of activations zeroed while training")
    held_out: float = option(0.1, "text", "share of the texts kept for validation")
    test: float = option(0.1, "text", "share of the texts kept for the end")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("vocab_size", "length", "embed_size", "hidden_size", "width", "heads")
        self.check_positive("layers")
        self.check_shares("dropout")
        check_parts(self.held_out, self.test, "texts")
        self.check_effect("vocab_size", self.tokenizer, [*SIZED])
        self.check_taken(CLASSIFIERS, self.model, besides=["context"])  # it is the length

    def located(self) -> ClassificationOptions:
        """Return the options with absolute paths: a run will be resumed from anywhere."""
        if not self.data:
            raise ValueError("data must name a table of texts and labels: .tsv, .csv or .jsonl")
        return replace(self, data=os.path.abspath(find(self.data, self.DATA)))

    def read(self, digest: str | None = None) -> Cleaned:
        """Return the texts, each once.

        Raises:
            OSError: they cannot be read.
            ValueError: they are not whole, or have another digest than the one given.
        """
        found = cleaned(read_labelled(self.data, self.text_column, self.label_column))
        if not found.kept.texts:
            raise ValueError(f"{self.data}: every text stands under several labels")
        if digest not in (None, digest_of(found.kept)):
            raise ValueError(
                f"the texts of the run have changed since ({self.data}): restore them, or start "
                "another run"
            )
        return found

    def make_task(
        self,
        vocabularies: Mapping[str, TrainedTokenizer] | None = None,
        digest: str | None = None,
    ) -> Classification:
        """Return the texts in batches, the tokenizer made from them where there is none yet."""
        found = self.read(digest)
        train, validation, test = split_labelled(found.kept, [self.held_out, self.test], self.seed)
        if vocabularies is None:
            labels = LabelTokenizer(label_names(found.kept.labels))
            vocabularies = {"tokenizer": self.make_tokenizer(train, found.kept), "labels": labels}
        return Classification(self, found, (train, validation, test), vocabularies)

    def make_tokenizer(self, train: Labelled, whole: Labelled) -> TrainedTokenizer:
        """Return the tokenizer: words of what is learned from, characters of all texts."""
        one, both = (
            "\n".join(_spaced(text, self.tokenizer) for text in part.texts)
            for part in (train, whole)
        )
        return make_tokenizer(self.tokenizer, one, both, self.vocab_size)

    def model_config(self, vocab_size: int, classes: int) -> dict[str, Json]:
        """Return what the model is made with."""
        config = self.arguments(CLASSIFIERS[self.model].CHOICES)
        return {"vocab_size": vocab_size, "classes": classes, **config}


class Results(NamedTuple):
    """How well labels are told.

    Attributes:
        loss: the mean of -log p of the right label, in nats.
        confusion: (C, C), how many texts of each label were told to be of each.
    """

    loss: float
    confusion: npt.NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """The share of texts whose label is told."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def f1(self) -> float:
        """The mean of 2 hits / (2 hits + misses + false alarms), over the labels that occur.

        >>> Results(0.0, np.array([[2, 0], [1, 1]])).f1  # 4 / 5 and 2 / 3
        0.7333333333333334
        """
        hits = np.diag(self.confusion)
        both = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        return float((2 * hits[both > 0] / both[both > 0]).mean())


class Classification:
    """Labelled texts to learn from, to validate with, and for the end.

    Args:
        options: of the run.
        found: the texts, cleaned.
        parts: of them: to learn from, to validate with, to test.
        vocabularies: the texts' ``tokenizer``, and the ``labels``.

    Attributes:
        options: of the run.
        tokenizer: the texts'.
        labels: the names of the classes.
        parts: as given.
        batch_size: of the options, or as many texts as there are.
        batches: to learn from.
        window: how many tokens a text has, in the mean.
        digest: of the texts.
    """

    metrics = ("loss", "accuracy", "f1")

    def __init__(
        self,
        options: ClassificationOptions,
        found: Cleaned,
        parts: tuple[Labelled, Labelled, Labelled],
        vocabularies: Mapping[str, TrainedTokenizer],
    ) -> None:
        self.options, self._found, self.parts = options, found, parts
        self.tokenizer, self.labels = vocabularies["tokenizer"], vocabularies["labels"]
        if len(self.labels.vocabulary) < 2:
            raise ValueError(f"{options.data} has one label only: there is nothing to tell apart")
        for name, part in zip(("to learn from", "held out", "to test"), parts, strict=True):
            if not part.texts:
                raise ValueError(f"there are no texts {name}: use more texts, or another share")
        train, validation, _ = ([self.encode(text) for text in part.texts] for part in parts)
        self.batch_size = min(options.batch_size, len(train))
        self.batches = LabelledBatches(train, self.classes(parts[0]), self.batch_size, options.seed)
        self.window = max(1, round(sum(map(len, train)) / len(train)))
        self.digest = digest_of(found.kept)
        self._validation = validation, self.classes(parts[1])

    def encode(self, text: str) -> Ids:
        """Return as many ids of a text as are read: see :func:`ids_of`."""
        return ids_of(text, self.tokenizer, self.options.length)

    def classes(self, part: Labelled) -> Ids:
        """Return the class of each text."""
        places = {label: i for i, label in enumerate(self.labels.vocabulary)}
        return np.array([places[label] for label in part.labels], np.int64)

    @property
    def summary(self) -> str:
        """What there is to learn from."""
        train, validation, test = (len(part.texts) for part in self.parts)
        return (
            f"{self.options.data}: {train:,} texts to learn from, {validation:,} to validate, "
            f"{test:,} to test; {self._found.repeated:,} repeated and {self._found.contradicted:,} "
            f"contradicted left out; {len(self.labels.vocabulary)} labels, vocabulary "
            f"{len(self.tokenizer.vocabulary)}"
        )

    @property
    def vocabularies(self) -> dict[str, TrainedTokenizer]:
        """The texts' tokenizer and the labels."""
        return {"tokenizer": self.tokenizer, "labels": self.labels}

    def make_model(self, rng: np.random.Generator) -> AnyClassifier:
        """Return the model with fresh weights."""
        model: AnyClassifier = CLASSIFIERS[self.options.model](
            **self.model_config(), seed=rng, dtype=np.dtype(self.options.dtype)
        )
        return model

    def model_config(self) -> dict[str, Json]:
        """Return the config of the model."""
        sizes = len(self.tokenizer.vocabulary), len(self.labels.vocabulary)
        return self.options.model_config(*sizes)

    def evaluate(self, workers: Workers) -> dict[str, float]:
        """Return loss, accuracy and F1 of the texts to validate with."""
        found = results(workers, *self._validation)
        return {name: getattr(found, name) for name in self.metrics}


def results(workers: Workers, texts: Sequence[Ids], classes: Ids) -> Results:
    """Return how well the labels of texts are told.

    Args:
        workers: each scores its share of the texts with its model.
        texts: the ids of each, at least one.
        classes: (N,).
    """
    order = np.argsort([len(text) for text in texts], kind="stable")  # little is filled up
    shares = [
        ([texts[i] for i in order[rows]],)
        for rows in slices(len(order), min(workers.count, len(order)))
    ]
    return told(np.concatenate(workers.map(log_probabilities, shares)), classes[order])


def told(log_p: Array, classes: Ids) -> Results:
    """Return how well log p (N, C) tells the classes (N,)."""
    size = log_p.shape[-1]
    pairs = classes * size + log_p.argmax(axis=-1)
    confusion = tally(pairs, size=size * size).reshape(size, size)
    return Results(-float(log_p[np.arange(len(classes)), classes].mean()), confusion)


def log_probabilities(model: AnyClassifier, texts: Sequence[Ids]) -> Array:
    """Return log p (N, C) of the classes of each text."""
    found = []
    for start in range(0, len(texts), ROWS):
        scores, _ = model.forward(*padded(texts[start : start + ROWS]))
        found.append(log_softmax_forward(scores.astype(np.float64))[0])
    return np.concatenate(found)


def ids_of(text: str, tokenizer: TrainedTokenizer, length: int) -> Ids:
    """Return the first ids of a text, characters left out that the vocabulary lacks.

    Raises:
        ValueError: nothing of it is in the vocabulary.
    """
    found = known(tokenizer, text)
    if not found.strip():
        raise ValueError(f"the vocabulary has nothing of the text {text!r:.80}")
    return tokenizer.encode(known(tokenizer, _spaced(found, tokenizer.kind)))[:length]


def _spaced(text: str, tokenizer: str) -> str:
    """Return a text with a space before it, if words have one: so its first is as elsewhere."""
    return f" {text}" if tokenizer in ("word", "bpe") else text


def digest_of(texts: Labelled) -> str:
    """Return what tells labelled texts from others."""
    whole = "\x1e".join(f"{t}\x1f{n}" for t, n in zip(texts.texts, texts.labels, strict=True))
    return hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()
