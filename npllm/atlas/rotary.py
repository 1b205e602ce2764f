"""Mistakes with rotary positions."""

from npllm import layers
from npllm.atlas.mistake import Mistake
from npllm.layers import rotary

_backward = layers.rotary_backward
_back = "_turned(dy, cos, -sin, interleaved)"

ROTARY = [
    Mistake(
        "rotary",
        "halves",
        "turned forward once more instead of back",
        "Both are rotations: norms are kept, and nothing grows.",
        "Right at position 0 only, which does not turn.",
        _backward,
        _back,
        "_turned(dy, cos, sin, interleaved)",
        cause="first_step",
    ),
    Mistake(
        "rotary",
        "halves",
        "the cosine's sign changed instead of the sine's",
        "One of the two has to change, and either gives a rotation.",
        "Half a turn away from what is right: the sign is wrong, and nothing else.",
        _backward,
        _back,
        "_turned(dy, -cos, sin, interleaved)",
        cause="sign",
    ),
    Mistake(
        "rotary",
        "halves",
        "a sign lost in the rotation, forward and back",
        "Norms are no longer kept, but no shape shows it, and both passes share the slip.",
        "What is no rotation has another transpose than the turn by minus the angle.",
        rotary._turned,
        "a * cos - b * sin",
        "a * cos + b * sin",
    ),
    Mistake(
        "rotary",
        "interleaved",
        "halves paired on the way back, where the forward pairs neighbours",
        "Checkpoints come in both kinds, and the two differ by an order of features.",
        "Feature and partner must be the same two both ways; what is not turned is right.",
        _backward,
        _back,
        "_turned(dy, cos, -sin, False)",
    ),
    Mistake(
        "rotary",
        "some features",
        "the features that are not turned get no gradient",
        "Most models turn all of them.",
        "Zero where dy must pass through unchanged.",
        _backward,
        "return _turned(dy, cos, -sin, interleaved)",
        "dx = np.zeros_like(dy)\n    width = 2 * cos.shape[-1]\n"
        "    dx[..., :width] = _turned(dy[..., :width], cos, -sin, interleaved)\n    return dx",
        cause="zero",
    ),
    Mistake(
        "rotary",
        "yarn",
        "turned back by a plain rotation, without YaRN's factor",
        "It undoes the turn, and cos and sin of the angle are what a rotation has.",
        "What was turned is off by exactly that factor, and the rest is right.",
        _backward,
        _back,
        "_turned(dy, cos / np.hypot(cos, sin), -sin / np.hypot(cos, sin), interleaved)",
        cause="scale",
    ),
    Mistake(
        "rotary",
        "interleaved",
        "positions counted from 0 on the way back",
        "Training starts every window at 0.",
        "Right for a sequence from its start; off by one angle for what follows a past.",
        _backward,
        "cos, sin, interleaved, shape = cache",
        "_, _, interleaved, shape = cache\n"
        "    cos, sin = rotary_table(np.arange(shape[-2]), 6, 100.0)",
    ),
    Mistake(
        "rotary",
        "positions of each row",
        "every row turned back by the first row's positions",
        "Without padding all rows stand alike.",
        "The first row of the batch is right, the others are not.",
        _backward,
        _back,
        "_turned(dy, cos[:1], -sin[:1], interleaved)",
        cause="slices",
    ),
    Mistake(
        "rotary",
        "halves",
        "the second coordinate made of the first's new value",
        "A slice is a view: once the first is written, a is no longer what it was.",
        "What is computed is no rotation, so turning back is not its transpose.",
        rotary._turned,
        "a[...], b[...] = a * cos - b * sin, a * sin + b * cos",
        "a[...] = a * cos - b * sin\n    b[...] = a * sin + b * cos",
    ),
    Mistake(
        "rotary",
        "halves",
        "queries and keys turned in place",
        "It saves an array, and the caller has no more use for them, it seems.",
        "The input is not what it was after the forward.",
        rotary._turned,
        "y = x.copy()",
        "y = x",
        cause="mutated_input",
    ),
]
