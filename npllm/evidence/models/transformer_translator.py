"""Evidence on the Transformer as a translator."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from npllm.evidence.case import AT_ONCE, Case, Configuration, Generator
from npllm.evidence.mistake import Mistake
from npllm.evidence.models.trained import paired_batch, trained
from npllm.models import TransformerTranslator
from npllm.models.translator import Translator

_SIZES = {"context": 6, "width": 4, "num_layers": 1, "heads": 2}
_OWN = {"source_size": 5, "vocab_size": 7, **_SIZES}
_SHARED = {"source_size": 7, "vocab_size": 7, **_SIZES, "share_words": True}


MODEL_CONFIGURATIONS = (
    Configuration("one block", _OWN),
    Configuration("one pair, one step", _OWN, batch_size=1, steps=1),
    Configuration("unequal lengths, smoothing", {**_OWN, "label_smoothing": 0.1}, lengths=True),
    Configuration("shared words, masked targets", _SHARED, ignored=0.3),
    Configuration(
        "two blocks, one head, dropout, lengths",
        {**_OWN, "width": 3, "heads": 1, "num_layers": 2, "dropout": 0.3},
        lengths=True,
    ),
    Configuration(
        "small: one block, shared words, dropout, smoothing, lengths",
        {
            "source_size": 4,
            "vocab_size": 4,
            "context": 4,
            "width": 3,
            "num_layers": 1,
            "heads": 3,
            "dropout": 0.4,
            "label_smoothing": 0.1,
            "share_words": True,
        },
        steps=3,
        lengths=True,
        quick=True,
    ),
)


def model_cases(rng: Generator) -> Iterator[Case]:
    """Train a block of encoder and decoder, and what is asked of the first of two."""
    base: dict[str, Any] = {"source_size": 5, "vocab_size": 6, "context": 5, "width": 4}
    base |= {"num_layers": 1, "heads": 2}
    one = partial(TransformerTranslator, **base)
    yield from trained(_ONE, one, paired_batch(rng), rng, only=_tables_and_attention)
    base |= {"source_size": 6, "share_words": True, "num_layers": 2}
    two = partial(TransformerTranslator, **base, dropout=0.3, label_smoothing=0.1)
    yield from trained(_TWO, two, paired_batch(rng), rng, only=_tables_and_first)


_ONE = "one block: tables and attention"
_TWO = "two blocks, shared words, dropout, smoothing: tables and first block's attention"


def _tables_and_attention(name: str) -> bool:
    """Return whether a parameter is a table's, or of what an attention is given."""
    return "layers" not in name or "in_proj" in name


def _tables_and_first(name: str) -> bool:
    """Return whether a parameter is a table's, or of the first encoder block's attention."""
    return "layers" not in name or name.startswith("encoder.layers.0.self_attn.in_proj")


_encode = TransformerTranslator.encode_backward
_hidden = TransformerTranslator.hidden_backward
_memory = "dmemory = of_block if dmemory is None else dmemory + of_block"


MODEL_MISTAKES = [
    Mistake(
        "TransformerTranslator",
        _TWO,
        "the memory's gradient from one block of the decoder only",
        "Each block returns one of the memory's shape, and the last to be asked has its way.",
        "The decoder is right, the encoder is not; with one block it is right.",
        _hidden,
        _memory,
        "dmemory = of_block",
    ),
    Mistake(
        "TransformerTranslator",
        _TWO,
        "the memory's gradient counted twice for the block on top",
        "The sum begins with what is added to it.",
        "The decoder is right, the encoder is not.",
        _hidden,
        _memory,
        "dmemory = (of_block if dmemory is None else dmemory) + of_block",
    ),
    Mistake(
        "TransformerTranslator",
        _TWO,
        "a shared table keeps the target's shares only",
        "A copy of its rows takes what is added to it, and is thrown away.",
        "Only the table is wrong, in the rows of words that the sources have.",
        _encode,
        'words = gradients["source.weight"][: self.config["source_size"]]',
        'words = gradients["source.weight"][: self.config["source_size"]].copy()',
    ),
    Mistake(
        "TransformerTranslator",
        _ONE,
        "a tied table keeps the head's share only",
        "The head's gradient is dense and large, the words' is sparse: few notice.",
        "Only the target's table is wrong, in the rows of words that were read.",
        _hidden,
        'gradients["target.weight"]',
        'gradients["target.weight"].copy()',
    ),
    Mistake(
        "TransformerTranslator",
        _ONE,
        "a tied table keeps the words' share only",
        "The head is not in the list of parameters, so nobody asks for its gradient.",
        "Only the target's table is wrong.",
        Translator.backward,
        'gradients["head.weight"] += dweight',
        "pass",
    ),
    Mistake(
        "TransformerTranslator",
        _TWO,
        "the dropout of the source forgotten on the way back",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "The blocks are right, the tables of the source are not.",
        _encode,
        "dx = dropout_backward(dx, cache.dropout)",
        "pass",
    ),
    Mistake(
        "TransformerTranslator",
        _ONE,
        "the target's positions have a gradient from the first text only",
        "A slice has the shape that the sum over the batch would have.",
        "Only the target's positions are wrong; right for a batch of one.",
        _hidden,
        "dx.sum(axis=0)",
        "dx[0]",
    ),
    Mistake(
        "TransformerTranslator",
        _TWO + AT_ONCE,
        "label smoothing in the loss that is shown, not in what is learned",
        "It is an option of the loss, and the loss falls without it.",
        "All is wrong; without smoothing it is right.",
        Translator.loss_and_gradients,
        'self.config["label_smoothing"]',
        "0.0",
    ),
]
