"""Evidence on rotary positions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers import rotary
from npllm.layers.arrays import Array, Ids
from npllm.layers.rotary import Scaling


def rotary_arguments(
    source: Source, lead: Lead, n: int, m: int, *, interleaved: bool = False
) -> Bound:
    """Turn n rows of m pairs, and leave one feature as it is."""
    cos, sin = layers.rotary_table(np.arange(n), 2 * m)

    def forward(x: Array) -> tuple[Array, object]:
        return layers.rotary_forward(x, cos, sin, interleaved=interleaved)

    return Bound(forward, layers.rotary_backward, (source.normal(*lead, n, 2 * m + 1),))


ROTARY_VARIANTS: Variants = {"": {}, "interleaved": {"interleaved": True}}


def rotary_cases(rng: Generator) -> Iterator[Case]:
    """Turn both kinds of pairs, all features and some."""
    x = rng.normal(size=(2, 3, 5, 7))
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
    configurations: dict[str, tuple[Ids, int, bool, Scaling | None]] = {
        "halves": (np.arange(5), 6, False, None),
        "interleaved": (np.arange(3, 8), 6, True, None),
        "some features": (np.arange(5), 4, False, None),
        "positions of each row": (rng.integers(9, size=(2, 1, 5)), 6, True, None),
        "yarn": (np.arange(5), 6, False, yarn),
    }
    for label, (positions, width, interleaved, scaling) in configurations.items():
        cos, sin = layers.rotary_table(positions, width, 100.0, scaling)

        def forward(
            x: Array, cos: Array = cos, sin: Array = sin, interleaved: bool = interleaved
        ) -> tuple[Array, object]:
            return layers.rotary_forward(x, cos, sin, interleaved=interleaved)

        yield Case(label, forward, layers.rotary_backward, (x,))


_backward = layers.rotary_backward
_back = "_turned(dy, cos, -sin, interleaved)"


ROTARY_MISTAKES = [
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
