"""Evidence on the mean of the words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from npllm.evidence.case import AT_ONCE, Case, Configuration, Generator
from npllm.evidence.mistake import Mistake
from npllm.evidence.models.trained import labelled_batch, trained
from npllm.models import BagClassifier
from npllm.models.classifier import Classifier

_BAG = {"vocab_size": 11, "classes": 3, "embed_size": 5}


MODEL_CONFIGURATIONS = (
    Configuration("texts of one length", _BAG),
    Configuration("one text, one word", _BAG, batch_size=1, steps=1),
    Configuration("texts of unequal length", _BAG, batch_size=4, lengths=True),
    Configuration("dropout", {**_BAG, "dropout": 0.3}),
    Configuration(
        "small: dropout, lengths",
        {"vocab_size": 5, "classes": 3, "embed_size": 4, "dropout": 0.4},
        batch_size=4,
        steps=3,
        lengths=True,
        quick=True,
    ),
)


def model_cases(rng: Generator) -> Iterator[Case]:
    """Train the mean of the words."""
    base: dict[str, Any] = {"vocab_size": 5, "classes": 3, "embed_size": 4}
    for label, config in {"plain": base, "dropout": base | {"dropout": 0.3}}.items():
        yield from trained(label, partial(BagClassifier, **config), labelled_batch(rng), rng)


_words = Classifier._backward_to_words
_at_once = Classifier.loss_and_gradients


MODEL_MISTAKES = [
    Mistake(
        "BagClassifier",
        "dropout",
        "the dropout of the words forgotten on the way back",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "Only the embedding is wrong.",
        _words,
        "dropout_backward(de, cache.dropout)",
        "de",
    ),
    Mistake(
        "BagClassifier",
        "plain",
        "the words' gradients led to the ids before them in memory",
        "(B, T) and (T, B) hold as many ids.",
        "Only the embedding is wrong; with one text it is right.",
        Classifier.backward,
        "embedding_backward(de,",
        "embedding_backward(de.swapaxes(0, 1).reshape(de.shape),",
    ),
    Mistake(
        "BagClassifier",
        "plain",
        "the last layer's bias not trained",
        "The weight learns, and the loss falls.",
        "Zero where it must not be.",
        _words,
        'gradients["fc.bias"] += dbias',
        "pass",
        cause="zero",
    ),
    Mistake(
        "BagClassifier",
        "plain" + AT_ONCE,
        "the mean over the texts differentiated, the sum returned",
        "mean and sum have one shape, and Adam does not feel a constant factor.",
        "Off by exactly the number of texts: shards of a batch no longer add up.",
        _at_once,
        "np.ones_like(loss)",
        "np.ones_like(loss) / len(scores)",
        cause="scale",
    ),
    Mistake(
        "BagClassifier",
        "plain" + AT_ONCE,
        "gradients kept from call to call",
        "The framework's habit, without its zero_grad.",
        "A second backward returns the sum of both.",
        _at_once,
        "self.backward(dscores, cache, gradients)",
        "self.backward(dscores, cache, "
        'self.__dict__.setdefault("kept", self.parameters.zeros_like()))',
        cause="accumulated",
    ),
]
