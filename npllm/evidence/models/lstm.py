"""Evidence on the model of section 5."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from npllm.evidence.case import AT_ONCE, Case, Configuration, Generator
from npllm.evidence.mistake import Mistake
from npllm.evidence.models.trained import text_batch, trained
from npllm.models import LSTMLanguageModel

_LSTM = {"vocab_size": 11, "embed_size": 5, "hidden_size": 7}
_TIED = {"vocab_size": 11, "embed_size": 7, "hidden_size": 7, "tie_weights": True}


MODEL_CONFIGURATIONS = (
    Configuration("section 5", _LSTM),
    Configuration("more words than positions", {**_LSTM, "vocab_size": 23}),
    Configuration("one sequence, one step", _LSTM, batch_size=1, steps=1),
    Configuration("masked targets", _LSTM, ignored=0.3),
    Configuration("rows of unequal length", _LSTM, lengths=True),
    Configuration("dropout", {**_LSTM, "dropout": 0.3}),
    Configuration("three layers", {**_LSTM, "num_layers": 3}),
    Configuration("tied weights", _TIED),
    Configuration(
        "two layers, tied, dropout, masks, lengths",
        {**_TIED, "num_layers": 2, "dropout": 0.4},
        batch_size=4,
        ignored=0.2,
        lengths=True,
    ),
    Configuration(
        "small: two layers, tied, dropout, masks, lengths",
        {
            "vocab_size": 5,
            "embed_size": 3,
            "hidden_size": 3,
            "num_layers": 2,
            "dropout": 0.4,
            "tie_weights": True,
        },
        batch_size=4,
        steps=3,
        ignored=0.2,
        lengths=True,
        quick=True,
    ),
)


def model_cases(rng: Generator) -> Iterator[Case]:
    """Train the model of section 5."""
    batch = text_batch(rng)
    base = {"vocab_size": 7, "embed_size": 3, "hidden_size": 4}
    configurations: dict[str, dict[str, Any]] = {
        "section 5": base,
        "more words than positions": {**base, "vocab_size": 17},
        "two layers": {**base, "num_layers": 2},
        "two layers, dropout": {**base, "num_layers": 2, "dropout": 0.3},
        "tied weights": {**base, "embed_size": 4, "tie_weights": True},
        "two layers, tied weights, dropout": {
            **base,
            "embed_size": 4,
            "num_layers": 2,
            "dropout": 0.3,
            "tie_weights": True,
        },
    }
    for label, config in configurations.items():
        size = (config.get("num_layers", 1), 3, config["hidden_size"])
        state = rng.normal(size=size), rng.normal(size=size)
        yield from trained(label, partial(LSTMLanguageModel, **config), batch, rng, state=state)


_gradients = LSTMLanguageModel._add_gradients


MODEL_MISTAKES = [
    Mistake(
        "LSTMLanguageModel",
        "tied weights",
        "a tied matrix keeps the embedding's share only",
        "= for +=: the last writer wins.",
        "Only the tied matrix is wrong, and only if it is tied.",
        _gradients,
        'table = gradients["embedding.weight"]',
        'table = gradients["embedding.weight"]\n    table[...] = 0',
    ),
    Mistake(
        "LSTMLanguageModel",
        "tied weights",
        "a tied matrix keeps the output's share only",
        "The output's gradient is dense and large, the embedding's is sparse: few notice.",
        "Only the tied matrix is wrong, and only if it is tied.",
        _gradients,
        'table = gradients["embedding.weight"]',
        'table = gradients["embedding.weight"]\n'
        '    table = table if "fc.weight" in gradients.shapes else table.copy()',
    ),
    Mistake(
        "LSTMLanguageModel",
        "two layers, dropout",
        "the dropout of the embedding forgotten on the way back",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "Only the embedding is wrong.",
        _gradients,
        "dropout_backward(dx, inputs.dropout)",
        "dx",
    ),
    Mistake(
        "LSTMLanguageModel",
        "two layers, dropout",
        "the dropout of the output forgotten on the way back",
        "As above.",
        "The output layer is right, everything below is not.",
        _gradients,
        "doutput = dropout_backward(dh, output_cache)",
        "doutput = dh",
    ),
    Mistake(
        "LSTMLanguageModel",
        "section 5" + AT_ONCE,
        "the targets reshaped to time-major instead of turned",
        "(B, T) and (T, B) hold as many numbers.",
        "Each position learns another's target; with one row they are the same.",
        LSTMLanguageModel.loss_and_gradients,
        "targets.T",
        "targets.reshape(targets.T.shape)",
    ),
    Mistake(
        "LSTMLanguageModel",
        "section 5",
        "the biases of the LSTM not trained",
        "A loop over the weights that forgets two names.",
        "Zero where it must not be.",
        _gradients,
        "for name, gradient in drnn.items():",
        'for name, gradient in ((n, g) for n, g in drnn.items() if "bias" not in n):',
        cause="zero",
    ),
    Mistake(
        "LSTMLanguageModel",
        "section 5" + AT_ONCE,
        "gradients kept from call to call",
        "The framework's habit, without its zero_grad.",
        "A second backward returns the sum of both.",
        LSTMLanguageModel.loss_and_gradients,
        "gradients = self.parameters.zeros_like() if gradients is None else gradients",
        'gradients = self.__dict__.setdefault("kept", self.parameters.zeros_like())',
        cause="accumulated",
    ),
]
