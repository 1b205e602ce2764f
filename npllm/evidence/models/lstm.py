"""Evidence on the model of section 5."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from npllm import layers
from npllm.evidence.case import (
    AT_ONCE,
    Case,
    Configuration,
    Generator,
    LossCache,
    loss_backward,
)
from npllm.evidence.mistake import Mistake
from npllm.layers.arrays import Array
from npllm.layers.lstm_cell import State
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
    ids = rng.integers(7, size=(3, 5))
    targets = rng.integers(7, size=(3, 5))
    targets[1, 2] = -100
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
        build = partial(LSTMLanguageModel, **config)
        like = build(dtype=np.float64)
        parameters = {n: rng.normal(size=shape) for n, shape in like.parameters.shapes.items()}
        size = (config.get("num_layers", 1), len(ids), config["hidden_size"])
        state = rng.normal(size=size), rng.normal(size=size)

        def forward(
            ids: Array,
            parameters: dict[str, Array],
            build: Callable[..., LSTMLanguageModel] = build,
            state: State = state,
        ) -> tuple[Array, LossCache]:
            dtype = parameters["fc.bias"].dtype
            model = build(seed=None, dtype=dtype)
            model.parameters.load(parameters)
            logits, cache = model.forward(
                ids, (state[0].astype(dtype), state[1].astype(dtype)), rng=np.random.default_rng(5)
            )
            loss, loss_cache = layers.cross_entropy_forward(logits, targets, reduction="sum")
            return loss, LossCache(model, cache, loss_cache)

        def at_once(dloss: Array, cache: LossCache, state: State = state) -> dict[str, Array]:
            rng = np.random.default_rng(5)
            found = cache.model.loss_and_gradients(ids, targets, state, rng=rng)
            return {name: dloss * found.gradients[name] for name in found.gradients.shapes}

        yield Case(label, forward, loss_backward, (ids, parameters))
        if label in ("section 5", "two layers, tied weights, dropout"):
            yield Case(label + AT_ONCE, forward, at_once, (ids, parameters))


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
