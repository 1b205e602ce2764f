"""Batches drawn at random, as each kind of model sees them."""

from __future__ import annotations

import numpy as np

from npllm.evidence.case import Batch, Configuration, Generator
from npllm.layers.arrays import Array, Ids
from npllm.models.classifier import Classifier
from npllm.models.translator import Translator


def draw_batch(kind: type[object], configuration: Configuration, rng: Generator) -> Batch:
    """Return a batch for a kind of model.

    Args:
        kind: of :data:`npllm.models.KINDS`.
        configuration: its sizes.
        rng: draws ids, lengths, targets and the seed of the dropout masks.
    """
    draw = next((d for base, d in _KINDS.items() if issubclass(kind, base)), _text)
    inputs, targets = draw(configuration, rng)
    return Batch(inputs, targets, int(rng.integers(2**32)))


_Drawn = tuple[tuple[Array, ...], Array]


def _text(configuration: Configuration, rng: Generator) -> _Drawn:
    """Return ids (B, T), and as many targets."""
    size = (configuration.batch_size, configuration.steps)
    vocabulary = configuration.config["vocab_size"]
    ids, targets = rng.integers(vocabulary, size=size), rng.integers(vocabulary, size=size)
    targets[rng.random(size) < configuration.ignored] = -100
    targets[np.arange(size[1]) >= _lengths(configuration, 0, size[1], rng)[:, None]] = -100
    return (ids,), targets


def _labelled(configuration: Configuration, rng: Generator) -> _Drawn:
    """Return ids (B, T) and their lengths (B,), and the labels (B,)."""
    batch, steps = configuration.batch_size, configuration.steps
    ids = rng.integers(configuration.config["vocab_size"], size=(batch, steps))
    lengths = _lengths(configuration, 1, steps, rng)
    return (ids, lengths), rng.integers(configuration.config["classes"], size=batch)


def _paired(configuration: Configuration, rng: Generator) -> _Drawn:
    """Return source (B, T + 1), lengths (B,) and ids (B, T), the mark first; and the targets.

    The mark fills up what stands behind a translation's end.
    """
    batch, steps = configuration.batch_size, configuration.steps
    source = rng.integers(configuration.config["source_size"], size=(batch, steps + 1))
    lengths = _lengths(configuration, 1, steps + 1, rng)
    mark = configuration.config["vocab_size"]
    words = rng.integers(mark, size=(batch, steps))  # the last of them gives way to the mark
    ends = _lengths(configuration, 0, steps - 1, rng)[:, None]  # how many words there are
    where = np.arange(steps)
    targets = np.where(where < ends, words, np.where(where == ends, mark, -100))
    ids = np.concatenate([np.full((batch, 1), mark), targets[:, :-1]], axis=1)
    ids[ids == -100] = mark
    targets[rng.random(targets.shape) < configuration.ignored] = -100
    return (source, lengths, ids), targets


def _lengths(configuration: Configuration, least: int, most: int, rng: Generator) -> Ids:
    """Return a length for each row, the least and the most among them where they differ."""
    rows = configuration.batch_size
    if not configuration.lengths:
        return np.full(rows, most)
    return rng.permutation(np.linspace(least, most, rows).round()).astype(np.int64)


_KINDS = {Classifier: _labelled, Translator: _paired}
