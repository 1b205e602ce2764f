"""Mistakes in putting a model together."""

from npllm.atlas.mistake import Mistake
from npllm.models import LSTMLanguageModel

_backward = LSTMLanguageModel.backward

MODEL = [
    Mistake(
        "LSTMLanguageModel",
        "tied weights",
        "a tied matrix keeps the embedding's share only",
        "= for +=: the last writer wins.",
        "Only the tied matrix is wrong, and only if it is tied.",
        _backward,
        'gradients["embedding.weight"] +=',
        'gradients["embedding.weight"] =',
    ),
    Mistake(
        "LSTMLanguageModel",
        "tied weights",
        "a tied matrix keeps the output's share only",
        "The output's gradient is dense and large, the embedding's is sparse: few notice.",
        "Only the tied matrix is wrong, and only if it is tied.",
        _backward,
        'gradients["embedding.weight"] += dx',
        'gradients["embedding.weight"] += dx * ("fc.weight" in gradients.shapes)',
    ),
    Mistake(
        "LSTMLanguageModel",
        "two layers, dropout",
        "the dropout of the embedding forgotten on the way back",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "Only the embedding is wrong.",
        _backward,
        "dropout_backward(dx, dropout_cache)",
        "dx",
    ),
    Mistake(
        "LSTMLanguageModel",
        "two layers, dropout",
        "the dropout of the output forgotten on the way back",
        "As above.",
        "The output layer is right, everything below is not.",
        _backward,
        "doutput = dropout_backward(dh, output_cache)",
        "doutput = dh",
    ),
    Mistake(
        "LSTMLanguageModel",
        "section 5",
        "the logits' gradient reshaped to time-major instead of turned",
        "(B, T, V) and (T, B, V) hold as many numbers.",
        "The output's bias, a sum over both, is right; nothing else is.",
        _backward,
        "dlogits.swapaxes(0, 1)",
        "dlogits.reshape(dlogits.shape[1], dlogits.shape[0], -1)",
    ),
    Mistake(
        "LSTMLanguageModel",
        "section 5",
        "the biases of the LSTM not trained",
        "A loop over the weights that forgets two names.",
        "Zero where it must not be.",
        _backward,
        "for name, gradient in drnn.items():",
        'for name, gradient in ((n, g) for n, g in drnn.items() if "bias" not in n):',
        cause="zero",
    ),
    Mistake(
        "LSTMLanguageModel",
        "section 5",
        "gradients kept from call to call",
        "The framework's habit, without its zero_grad.",
        "A second backward returns the sum of both.",
        _backward,
        "gradients = self.parameters.zeros_like()",
        'gradients = self.__dict__.setdefault("kept", self.parameters.zeros_like())',
        cause="accumulated",
    ),
]
