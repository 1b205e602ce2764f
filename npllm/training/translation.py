"""Translation, a task: to write in one language what a text says in another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from npllm.datasets import find
from npllm.files import Json
from npllm.generation import beam_search
from npllm.models import TRANSLATORS, AnyTranslator
from npllm.text.made import SIZED, known, make_tokenizer
from npllm.text.padded_batches import PairedBatches, paired
from npllm.text.paired import Paired, read_paired, split_paired
from npllm.text.tokenizers import Ids, TrainedTokenizer
from npllm.training.options import RunOptions, check_parts, option
from npllm.training.shares import slices
from npllm.training.workers import Workers

ROWS = 32  # pairs that are scored at a time


@dataclass(frozen=True)
class TranslationOptions(RunOptions):
    """The options of a run that learns to translate.

    Raises:
        ValueError: a value is out of its range, or has no effect with another.
    """

    TASK: ClassVar[str] = "translation"
    DATA: ClassVar[str] = "pairs"
    OPTION_OF: ClassVar[Mapping[str, str]] = {"num_layers": "layers", "context": "length"}

    data: str | None = option(
        None,
        "text",
        "table of texts and translations, columns source and target: .tsv, .csv or .jsonl",
    )
    source: str | None = option(
        None, "text", "file of texts, a line each; their translations are a file too"
    )
    target: str | None = option(None, "text", "file of their translations, as many lines")
    model: str = option(
        "transformer",
        "model",
        "transformer is Vaswani's; lstm is Luong's, two LSTMs with attention",
        tuple(TRANSLATORS),
    )
    tokenizer: str = option(
        "bpe",
        "text",
        "what a token is, of either language: a character; a frequent word, in Chinese too "
        "(jieba); or a frequent piece of a word (bpe)",
        ("character", "word", "jieba", "bpe"),
    )
    vocab_size: int = option(4000, "text", "tokens at most, of either language")
    share_words: bool = option(
        False, "model", "one vocabulary and one table for both languages, of transformer"
    )
    length: int = option(128, "text", "tokens of a text at most; longer ones are left out")
    embed_size: int = option(256, "model", "width E of the embedding, of lstm")
    hidden_size: int = option(256, "model", "width H of the LSTMs, of lstm")
    width: int = option(256, "model", "width E of transformer")
    heads: int = option(4, "model", "attention heads, of transformer")
    layers: int = option(2, "model", "layers, or blocks, of encoder and decoder")
    dropout: float = option(0.1, "model", "share of activations zeroed while training")
    label_smoothing: float = option(
        0.1, "model", "share of the probability that goes to all words alike, in training"
    )
    # with four times as much the Transformer learns nothing: its norms stand behind the sums
    lr: float = option(1e-3, "optimizer", "learning rate, the highest of the schedule")
    held_out: float = option(0.05, "text", "share of the pairs kept for validation")
    test: float = option(0.05, "text", "share of the pairs, their end, kept for the end")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("vocab_size", "length", "embed_size", "hidden_size", "width", "heads")
        self.check_positive("layers")
        self.check_shares("dropout", "label_smoothing")
        check_parts(self.held_out, self.test, "pairs")
        self.check_effect("vocab_size", self.tokenizer, [*SIZED])
        self.check_taken(TRANSLATORS, self.model, besides=["context"])  # it is the length

    def located(self) -> TranslationOptions:
        """Return the options with absolute paths: a run will be resumed from anywhere."""
        if (self.source is None) != (self.target is None):
            raise ValueError(
                "source=FILE and target=FILE go together: name the texts and their translations"
            )
        if self.data is None and self.source is None:
            raise ValueError(
                "name a table or a data set, data=NAME, or two files of lines, source=FILE and "
                "target=FILE"
            )
        if self.data is not None and self.source is not None:
            raise ValueError(
                f"data={self.data} has both languages: leave it out, or source and target"
            )
        paths = {name: getattr(self, name) for name in ("data", "source", "target")}
        if self.data is not None:
            paths["data"] = find(self.data, self.DATA)
        return replace(self, **{n: os.path.abspath(p) for n, p in paths.items() if p is not None})

    def read(self, digest: str | None = None) -> Paired:
        """Return the pairs.

        Raises:
            OSError: they cannot be read.
            ValueError: they are not whole, or have another digest than the one given.
        """
        found = read_paired(self.data) if self.data else read_paired(self.source or "", self.target)
        if digest not in (None, digest_of(found)):
            raise ValueError(
                f"the texts of the run have changed since ({self.data or self.source}): restore "
                "them, or start another run"
            )
        return found

    def make_task(
        self,
        vocabularies: Mapping[str, TrainedTokenizer] | None = None,
        digest: str | None = None,
    ) -> Translation:
        """Return the pairs in batches, the tokenizers made from them where there are none yet."""
        found = self.read(digest)
        parts = split_paired(found, self.held_out, self.test)
        if vocabularies is None:
            vocabularies = self.make_tokenizers(parts[0], found)
        return Translation(self, found, parts, vocabularies)

    def make_tokenizers(self, train: Paired, whole: Paired) -> dict[str, TrainedTokenizer]:
        """Return the tokenizers of the target, by the name that all have, and of the source."""
        source, target = (self.make_tokenizer(*texts) for texts in zip(train, whole, strict=True))
        if self.share_words:
            both = [a + b for a, b in (train, whole)]
            source = target = self.make_tokenizer(*both)
        return {"tokenizer": target, "source": source}

    def make_tokenizer(self, train: Sequence[str], whole: Sequence[str]) -> TrainedTokenizer:
        """Return a tokenizer: words of what is learned from, characters of all texts."""
        return make_tokenizer(self.tokenizer, "\n".join(train), "\n".join(whole), self.vocab_size)

    def model_config(self, source_size: int, vocab_size: int) -> dict[str, Json]:
        """Return what the model is made with."""
        config = self.arguments(TRANSLATORS[self.model].CHOICES)
        if "context" in config:
            config["context"] += 1  # the mark stands before a translation
        return {"source_size": source_size, "vocab_size": vocab_size, **config}


class Translation:
    """Pairs to learn from, to validate with, and for the end.

    Args:
        options: of the run.
        found: all pairs.
        parts: of them: to learn from, to validate with, to test.
        vocabularies: the target's ``tokenizer``, and the ``source``'s.

    Attributes:
        options: of the run.
        tokenizer: the target's.
        source: the source's.
        parts: as given.
        batch_size: of the options, or as many pairs as there are.
        batches: to learn from.
        window: how many tokens a translation has, in the mean.
        digest: of the pairs.
    """

    metrics = ("loss", "perplexity")

    def __init__(
        self,
        options: TranslationOptions,
        found: Paired,
        parts: tuple[Paired, Paired, Paired],
        vocabularies: Mapping[str, TrainedTokenizer],
    ) -> None:
        self.options = options
        self.tokenizer, self.source = vocabularies["tokenizer"], vocabularies["source"]
        one, two, three = (self._short(part) for part in parts)
        self.parts = one, two, three
        names = ("to learn from", "held out", "to test")
        for name, whole, short in zip(names, parts, self.parts, strict=True):
            if not whole.sources:
                raise ValueError(f"there are no pairs {name}: use more pairs, or another share")
            if not short.sources:
                raise ValueError(
                    f"there are no pairs {name} of at most length={options.length} tokens: use a "
                    "larger length"
                )
        train, self._validation = self.encoded(one), self.encoded(two)
        self.batch_size = min(options.batch_size, len(train[0]))
        self.batches = PairedBatches(*train, self.mark, self.batch_size, options.seed)
        self.window = max(1, round(sum(map(len, train[1])) / len(train[1])))
        self.digest = digest_of(found)
        split, kept = (sum(len(p.sources) for p in each) for each in (parts, self.parts))
        self._repeated, self._long = len(found.sources) - split, split - kept

    @property
    def mark(self) -> int:
        """The id at which a translation begins and ends."""
        return len(self.tokenizer.vocabulary)

    def _short(self, part: Paired) -> Paired:
        """Return the pairs without those of which a side has more tokens than are read."""
        most = self.options.length
        return Paired.of(
            (a, b)
            for a, b in zip(*part, strict=True)
            if len(self.source.encode(a)) <= most and len(self.tokenizer.encode(b)) <= most
        )

    def encoded(self, part: Paired) -> tuple[list[Ids], list[Ids]]:
        """Return the ids of both sides."""
        return (
            [self.source.encode(text) for text in part.sources],
            [self.tokenizer.encode(text) for text in part.targets],
        )

    @property
    def summary(self) -> str:
        """What there is to learn from."""
        train, validation, test = (len(part.sources) for part in self.parts)
        where = self.options.data or f"{self.options.source} and {self.options.target}"
        return (
            f"{where}: {train:,} pairs to learn from, {validation:,} to validate, {test:,} to "
            f"test; {self._repeated:,} repeated and {self._long:,} longer than "
            f"{self.options.length} tokens left out; "
            f"vocabularies {len(self.source.vocabulary)} and {len(self.tokenizer.vocabulary)}"
        )

    @property
    def vocabularies(self) -> dict[str, TrainedTokenizer]:
        """The tokenizers of the target and of the source."""
        return {"tokenizer": self.tokenizer, "source": self.source}

    def make_model(self, rng: np.random.Generator) -> AnyTranslator:
        """Return the model with fresh weights."""
        model: AnyTranslator = TRANSLATORS[self.options.model](
            **self.model_config(), seed=rng, dtype=np.dtype(self.options.dtype)
        )
        return model

    def model_config(self) -> dict[str, Json]:
        """Return the config of the model."""
        sizes = len(self.source.vocabulary), len(self.tokenizer.vocabulary)
        return self.options.model_config(*sizes)

    def evaluate(self, workers: Workers) -> dict[str, float]:
        """Return loss and perplexity of the pairs to validate with, a token."""
        sources, targets = self._validation
        shares = [
            (sources[rows], targets[rows], self.mark)
            for rows in slices(len(sources), min(workers.count, len(sources)))
        ]
        nats, tokens = zip(*workers.map(_score, shares), strict=True)
        loss = sum(nats) / sum(tokens)
        return {"loss": loss, "perplexity": float(np.exp(np.minimum(loss, 700.0)))}


def _score(
    model: AnyTranslator, sources: Sequence[Ids], targets: Sequence[Ids], mark: int
) -> tuple[float, int]:
    """Return the summed loss of translations, and how many tokens they have."""
    nats, tokens = 0.0, 0
    for start in range(0, len(sources), ROWS):
        rows = slice(start, start + ROWS)
        batch = paired(sources[rows], targets[rows], mark)
        nats += model.score(*batch.arguments)[0]
        tokens += batch.counted
    return nats, tokens


def translate(model: AnyTranslator, source: Ids, *, beams: int = 4, tokens: int = 256) -> list[int]:
    """Return the ids of the likeliest translation that a search finds.

    Args:
        model: translates.
        source: (S,) the ids of a text.
        beams: how many translations are kept at a time.
        tokens: of the translation at most, and no more than the model has positions.
    """
    state, _ = model.encode(source[None], [len(source)])
    most = tokens if model.context is None else min(tokens, model.context - 1)
    best, *_ = beam_search(
        model,
        np.array([model.mark]),
        most,
        beams,
        stop=[model.mark],
        length_penalty=1.0,
        state=state,
    )
    return best.ids


def translations(
    model: AnyTranslator,
    source: TrainedTokenizer,
    target: TrainedTokenizer,
    texts: Sequence[str],
    beams: int,
    tokens: int,
) -> list[str]:
    """Return the translation of each text, of so many tokens at most."""
    return [
        target.decode(translate(model, source_ids(source, text), beams=beams, tokens=tokens))
        for text in texts
    ]


def source_ids(source: TrainedTokenizer, text: str) -> Ids:
    """Return the ids of a text, characters left out that the vocabulary lacks.

    Raises:
        ValueError: nothing of it is in the vocabulary.
    """
    ids = source.encode(known(source, text))
    if not len(ids):
        raise ValueError(f"the vocabulary has nothing of the text {text!r:.80}")
    return ids


def digest_of(pairs: Paired) -> str:
    """Return what tells pairs from others."""
    whole = "\x1e".join(f"{a}\x1f{b}" for a, b in zip(*pairs, strict=True))
    return hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()
