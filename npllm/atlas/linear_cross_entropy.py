"""Mistakes with a loss whose logits come some rows at a time."""

from npllm import layers
from npllm.atlas.mistake import Mistake

_backward = layers.linear_cross_entropy_backward
_loss = "cross_entropy_backward(dy, loss_cache)"
_again = "_piece(cache, piece)"

LINEAR_CROSS_ENTROPY = [
    Mistake(
        "linear_cross_entropy",
        "three rows at a time",
        "the weight and the bias keep the last stretch's gradient",
        "= for +=: a stretch's gradient has the shape of the sum.",
        "dx is right; with all rows at once so is the rest.",
        _backward,
        "gradients[i] += part",
        "gradients[i][...] = part",
    ),
    Mistake(
        "linear_cross_entropy",
        "a row at a time",
        "a stretch's gradient written to the rows of another, from a stack of caches",
        "What was pushed first comes last; all stretches have one shape.",
        "Sums do not see the order: weight and bias are right, and dx runs backwards.",
        _backward,
        _again,
        "_piece(cache, pieces[-1 - pieces.index(piece)])",
        cause="permuted",
    ),
    Mistake(
        "linear_cross_entropy",
        "a row at a time",
        "the first stretch computed again for every stretch",
        "A loop whose variable is not used runs as often as it should.",
        "The first row of dx is right, and every other is the same.",
        _backward,
        _again,
        "_piece(cache, pieces[0])",
    ),
    Mistake(
        "linear_cross_entropy",
        "three rows at a time",
        "dy forgotten",
        "It is 1 for the loss itself.",
        "The backward is not linear in dy: a loss that is scaled, or one of two, trains the same.",
        _backward,
        _loss,
        "cross_entropy_backward(1.0, loss_cache)",
        cause="scale",
    ),
    Mistake(
        "linear_cross_entropy",
        "three rows at a time",
        "the bias forgotten",
        "The output layer of most language models has none.",
        "Zero where it must not be.",
        _backward,
        "enumerate(parts)",
        "enumerate(parts[:1])",
        cause="zero",
    ),
    Mistake(
        "linear_cross_entropy",
        "three rows at a time",
        "each stretch averaged",
        "The mean is the usual reduction, and over one row it is the sum.",
        "The gradient depends on how many rows are held, and a shorter last stretch weighs more.",
        _backward,
        _loss,
        "cross_entropy_backward(dy, loss_cache) / len(rows[piece])",
    ),
]
