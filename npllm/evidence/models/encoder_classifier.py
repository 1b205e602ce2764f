"""Evidence on the classifier of a Transformer's encoder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from npllm.evidence.case import Case, Configuration, Generator
from npllm.evidence.mistake import Mistake
from npllm.evidence.models.trained import labelled_batch, trained
from npllm.models import EncoderClassifier

_ENCODER = {"vocab_size": 7, "classes": 3, "context": 6, "width": 4, "num_layers": 1, "heads": 2}


MODEL_CONFIGURATIONS = (
    Configuration("texts of one length", _ENCODER),
    Configuration("one text, one word", _ENCODER, batch_size=1, steps=1),
    Configuration("texts of unequal length", _ENCODER, batch_size=4, lengths=True),
    Configuration("two blocks, dropout", {**_ENCODER, "num_layers": 2, "dropout": 0.3}),
    Configuration(
        "small: one block, dropout, lengths",
        {
            "vocab_size": 5,
            "classes": 3,
            "context": 4,
            "width": 4,
            "num_layers": 1,
            "heads": 2,
            "dropout": 0.4,
        },
        steps=3,
        lengths=True,
        quick=True,
    ),
)


def model_cases(rng: Generator) -> Iterator[Case]:
    """Train one block, and what lies below the second of two."""
    base: dict[str, Any] = {"vocab_size": 5, "classes": 3, "context": 5, "width": 4}
    base |= {"num_layers": 1, "heads": 2}
    yield from trained("one block", partial(EncoderClassifier, **base), labelled_batch(rng), rng)
    two = partial(EncoderClassifier, **base | {"num_layers": 2, "dropout": 0.3})
    label = "two blocks, dropout: tables and attention"
    yield from trained(label, two, labelled_batch(rng), rng, only=_not_between)


def _not_between(name: str) -> bool:
    """Return whether a parameter is none of those between attention and what comes after."""
    return not any(part in name for part in ("linear", "norm", "out_proj"))


_pooled = EncoderClassifier.pooled_backward
_positions = "dx.sum(axis=0)"


MODEL_MISTAKES = [
    Mistake(
        "EncoderClassifier",
        "one block",
        "a position's gradient from the first text only",
        "A slice has the shape that the sum over the batch would have.",
        "Only the positions are wrong; right for a batch of one.",
        _pooled,
        _positions,
        "dx[0]",
    ),
    Mistake(
        "EncoderClassifier",
        "one block",
        "a position's gradient averaged over the batch",
        "mean(axis=0) and sum(axis=0) have one shape.",
        "Off by exactly the size of the batch.",
        _pooled,
        _positions,
        "dx.mean(axis=0)",
        cause="scale",
    ),
    Mistake(
        "EncoderClassifier",
        "two blocks, dropout: tables and attention",
        "every block given the last one's cache",
        "A loop variable that is no index: all caches have one shape.",
        "The last block is right, all below is not.",
        _pooled,
        "cache.blocks[n]",
        "cache.blocks[-1]",
    ),
    Mistake(
        "EncoderClassifier",
        "two blocks, dropout: tables and attention",
        "the blocks gone through from the first to the last",
        "Each block is given what has the right shape.",
        "Tables and blocks are wrong; with one block it is right.",
        _pooled,
        "in reversed(range(",
        "in list(range(",
    ),
    Mistake(
        "EncoderClassifier",
        "one block",
        "the words' gradient past the blocks",
        "The mean's gradient has the shape of the words', as if the blocks were residual.",
        "The blocks and the positions are right, the words are not.",
        _pooled,
        "return dx",
        "return mean_backward(dy, cache.mean)",
    ),
    Mistake(
        "EncoderClassifier",
        "two blocks, dropout: tables and attention",
        "every block's gradients added to those of the first",
        "All blocks have the same names and shapes within.",
        "The first block has the sum, the others nothing; with one block it is right.",
        _pooled,
        'gradients[f"layers.{n}.{name}"]',
        'gradients[f"layers.0.{name}"]',
        cause="zero",
    ),
]
