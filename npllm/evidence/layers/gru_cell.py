"""Evidence on one step of a GRU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source


def gru_cell_arguments(
    source: Source, lead: Lead, n: int, m: int, *, bias: bool = True, reset_after: bool = True
) -> Bound:
    """Take one step with an input of width n and a state of width m."""
    shapes: list[Lead] = [(*lead, n), (*lead, m), (3 * m, n), (3 * m, m)]
    shapes += [(3 * m,)] * 2 * bias
    forward = partial(layers.gru_cell_forward, reset_after=reset_after)
    args = tuple(source.normal(*shape) for shape in shapes)
    return Bound(forward, layers.gru_cell_backward, args)


GRU_CELL_VARIANTS: Variants = {
    "": {},
    "no bias": {"bias": False},
    "reset before": {"reset_after": False},
    "reset before, no bias": {"bias": False, "reset_after": False},
}


def gru_cell_cases(rng: Generator) -> Iterator[Case]:
    """Take one step, the reset gate on either side of the product."""
    x, h = rng.normal(size=(3, 7)), rng.normal(size=(3, 5))
    weights = [rng.normal(size=size) / 2 for size in ((15, 7), (15, 5), 15, 15)]
    for label, reset_after in (("reset after", True), ("reset before", False)):
        forward = partial(layers.gru_cell_forward, reset_after=reset_after)
        pair = forward, layers.gru_cell_backward
        yield Case(label, *pair, (x, h, *weights))
        yield Case(f"{label}, no bias", *pair, (x, h, *weights[:2]))


_cell = layers.gru_cell_backward


GRU_CELL_MISTAKES = [
    Mistake(
        "gru_cell",
        "reset after",
        "the second bias given the gradient of the first",
        "In an LSTM the two are only added, and it is right; here r stands before one of them.",
        "One third is wrong: that of n, where it must be r times as large.",
        _cell,
        "*dbias_ih, *dbias_hh",
        "*dbias_ih, *(bias.copy() for bias in dbias_ih)",
        cause="slices",
    ),
    Mistake(
        "gru_cell",
        "reset after",
        "the reset gate forgotten on the way back to the state",
        "The gradient before and after it has one shape, and r's own gradient is right.",
        "dh and the rows of n in dweight_hh and dbias_hh are wrong, by a gate that is never one.",
        _cell,
        "da_n * h_n, da_n * r",
        "da_n * h_n, da_n",
        cause="slices",
    ),
    Mistake(
        "gru_cell",
        "reset before",
        "the reset gate's gradient taken from torch's form",
        "The two forms differ by where one factor stands, and there is one name for both.",
        "The rows of r are wrong in all weights; those of z and n are right.",
        _cell,
        "dr, dh = dreset * h, dh",
        "dr, dh = da_n * h_n, dh",
        cause="slices",
    ),
    Mistake(
        "gru_cell",
        "reset before",
        "the new gate's weights paired with the state as it was before the reset",
        "In torch's form that is what they are multiplied with.",
        "One third of dweight_hh is wrong: the rows of n.",
        layers.gru_cell_forward,
        "caches = input_cache, state_cache, new_cache",
        "caches = input_cache, state_cache, new_cache._replace(rows=state_cache.rows)",
        cause="slices",
    ),
    Mistake(
        "gru_cell",
        "reset before",
        "what comes back through the product not reset",
        "Of the three terms of dh it is the only one with an r.",
        "Only dh is wrong: where r is near zero n should see nothing of the state.",
        _cell,
        "dreset * h, dh + dreset * r",
        "dreset * h, dh + dreset",
    ),
    Mistake(
        "gru_cell",
        "reset after",
        "z and 1 - z exchanged",
        "Chung et al. (2014) keep the state by 1 - z; at z = 1/2 both are equal.",
        "The rows of z are right, those of r and n are not.",
        _cell,
        "dy * (1 - z), dy * z",
        "dy * z, dy * (1 - z)",
        cause="slices",
    ),
    Mistake(
        "gru_cell",
        "reset after",
        "the update gate's gradient with the other sign",
        "It is right where z is the share of n, as in Chung et al. (2014).",
        "The rows of z have the wrong sign, all others are right.",
        _cell,
        "dy * (h - n)",
        "dy * (n - h)",
        cause="sign",
    ),
    Mistake(
        "gru_cell",
        "reset after",
        "the gates in the order z, r, n",
        "It is the order of ONNX and of Keras.",
        "The right rows in another order.",
        _cell,
        "np.concatenate([da_r, da_z]",
        "np.concatenate([da_z, da_r]",
        cause="permuted",
    ),
    Mistake(
        "gru_cell",
        "reset after",
        "the state that z keeps forgotten",
        "The state is seen three times, and this one passes no weight.",
        "Only dh is wrong; over a sequence the gradient fades as if there were no gate.",
        _cell,
        "dh = dh + dseen",
        "dh = dseen",
    ),
    Mistake(
        "gru_cell",
        "reset before, no bias",
        "the state that the gates see forgotten",
        "h' = (1 - z) n + z h names h once; it is in r and z as well.",
        "Only dh is wrong: every parameter is right.",
        _cell,
        "dh = dh + dgated",
        "pass",
    ),
    Mistake(
        "gru_cell",
        "reset after, no bias",
        "1 - n for 1 - n^2",
        "Elementwise: the shape is right.",
        "The rows of z are right, those of r and n are not.",
        _cell,
        "dn * (1 - n * n)",
        "dn * (1 - n)",
        cause="slices",
    ),
    Mistake(
        "gru_cell",
        "reset after",
        "dy multiplied by z in place",
        "It is the last time that dy is needed, and the numbers are right.",
        "dy is the caller's, and is not what it was.",
        _cell,
        "dy * (1 - z), dy * z",
        "dy * (1 - z), np.multiply(dy, z, out=dy)",
        cause="mutated_dy",
    ),
]
