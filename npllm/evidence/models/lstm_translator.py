"""Evidence on two LSTMs as a translator, with attention."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from npllm.evidence.case import AT_ONCE, Case, Configuration, Generator
from npllm.evidence.mistake import Mistake
from npllm.evidence.models.trained import paired_batch, trained
from npllm.models import LSTMTranslator
from npllm.models.translator import Translator

_LSTM = {"source_size": 5, "vocab_size": 7, "embed_size": 3, "hidden_size": 4}


MODEL_CONFIGURATIONS = (
    Configuration("one layer", _LSTM),
    Configuration("one pair, one step", _LSTM, batch_size=1, steps=1),
    Configuration("unequal lengths, smoothing", {**_LSTM, "label_smoothing": 0.1}, lengths=True),
    Configuration("masked targets", _LSTM, ignored=0.3),
    Configuration("two layers, dropout", {**_LSTM, "num_layers": 2, "dropout": 0.3}),
    Configuration(
        "small: two layers, dropout, smoothing, lengths",
        {
            "source_size": 4,
            "vocab_size": 5,
            "embed_size": 3,
            "hidden_size": 2,
            "num_layers": 2,
            "dropout": 0.4,
            "label_smoothing": 0.1,
        },
        steps=3,
        lengths=True,
        quick=True,
    ),
)


def model_cases(rng: Generator) -> Iterator[Case]:
    """Train one layer, and two with dropout and smoothing."""
    base: dict[str, Any] = {"source_size": 5, "vocab_size": 6, "embed_size": 3, "hidden_size": 2}
    two = base | {"num_layers": 2, "dropout": 0.3, "label_smoothing": 0.1}
    for label, config in {"one layer": base, "two layers, dropout, smoothing": two}.items():
        yield from trained(label, partial(LSTMTranslator, **config), paired_batch(rng), rng)


_encode = LSTMTranslator.encode_backward
_hidden = LSTMTranslator.hidden_backward
_at_once = Translator.loss_and_gradients
_read = "(dmemory.swapaxes(0, 1), dfinal)"
_memory = "dkeys + dvalues"
_asked = "(dh + dh_q, None)"


MODEL_MISTAKES = [
    Mistake(
        "LSTMTranslator",
        "one layer",
        "the final state's gradient not handed to the encoder",
        "Attention reaches the encoder too: it learns.",
        "The decoder is right, the encoder is not.",
        _encode,
        _read,
        "(dmemory.swapaxes(0, 1), None)",
    ),
    Mistake(
        "LSTMTranslator",
        "one layer",
        "of the final state, h alone handed to the encoder",
        "c is no output: a recurrent layer without gates has none.",
        "The decoder is right, the encoder is not.",
        _encode,
        _read,
        "(dmemory.swapaxes(0, 1), (dfinal[0], 0 * dfinal[1]))",
    ),
    Mistake(
        "LSTMTranslator",
        "two layers, dropout, smoothing",
        "the layers' final states handed down in reverse order",
        "All have one shape, and the backward goes through the layers from the last.",
        "The encoder is wrong; with one layer it is right.",
        _hidden,
        "dstates[0]",
        "(dstates[0][0][::-1].copy(), dstates[0][1][::-1].copy())",
    ),
    Mistake(
        "LSTMTranslator",
        "one layer",
        "the memory's gradient through the keys only",
        "dkeys has the shape of dkeys + dvalues.",
        "The decoder is right, the encoder is not.",
        _hidden,
        _memory,
        "dkeys",
    ),
    Mistake(
        "LSTMTranslator",
        "one layer",
        "the memory's gradient through the values only",
        "dvalues has the shape of dkeys + dvalues.",
        "The decoder is right, the encoder is not.",
        _hidden,
        _memory,
        "dvalues",
    ),
    Mistake(
        "LSTMTranslator",
        "one layer",
        "the memory's gradient reshaped to steps first instead of turned",
        "(B, S, H) and (S, B, H) hold as many numbers.",
        "The encoder is wrong; with one text it is right.",
        _encode,
        _read,
        "(dmemory.reshape(dmemory.swapaxes(0, 1).shape), dfinal)",
    ),
    Mistake(
        "LSTMTranslator",
        "one layer",
        "the decoder's output without what it was asked as",
        "dh has the shape of dh + dh_q.",
        "Attention's maps are right; the decoder's LSTM and all below are not.",
        _hidden,
        _asked,
        "(dh, None)",
    ),
    Mistake(
        "LSTMTranslator",
        "one layer",
        "[c; h] split as [h; c]",
        "Both halves have one shape, and papers have both orders.",
        "The map that joins them is right, all below is not.",
        _hidden,
        "dc, dh = split_last(dboth, 2)",
        "dh, dc = split_last(dboth, 2)",
    ),
    Mistake(
        "LSTMTranslator",
        "two layers, dropout, smoothing",
        "the dropout of the output forgotten on the way back",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "The head is right, everything below is not.",
        _hidden,
        "dropout_backward(do.swapaxes(0, 1), cache.output)",
        "do.swapaxes(0, 1)",
    ),
    Mistake(
        "LSTMTranslator",
        "one layer" + AT_ONCE,
        "the mark learned behind a translation's end",
        "What fills a row up is an id like others, and the loss falls the faster for it.",
        "All is wrong; where all translations are of one length, nothing is.",
        _at_once,
        "np.asarray(targets),",
        "np.where(np.asarray(targets) < 0, self.mark, targets),",
    ),
    Mistake(
        "LSTMTranslator",
        "one layer" + AT_ONCE,
        "the gradients of the mean beside the sum of the losses",
        "Adam does not feel a constant factor.",
        "Off by exactly the number of targets: shards of a batch no longer add up.",
        _at_once,
        "np.ones_like(loss)",
        "np.ones_like(loss) / np.count_nonzero(np.asarray(targets) != -100)",
        cause="scale",
    ),
]
