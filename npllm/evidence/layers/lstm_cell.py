"""Evidence on one step of an LSTM."""

from __future__ import annotations

from collections.abc import Iterator

from npllm import layers
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array


def lstm_cell_arguments(
    source: Source, lead: Lead, n: int, m: int, *, bias: bool = True, peepholes: bool = False
) -> Bound:
    """Take one step with an input of width n and m cells; peepholes come with the biases."""
    shapes: list[Lead] = [(*lead, n), (*lead, m), (*lead, m), (4 * m, n), (4 * m, m)]
    shapes += [(4 * m,)] * 2 * bias + [(3 * m,)] * peepholes
    args = tuple(source.normal(*shape) for shape in shapes)
    return Bound(layers.lstm_cell_forward, layers.lstm_cell_backward, args)


LSTM_CELL_VARIANTS: Variants = {
    "": {},
    "no bias": {"bias": False},
    "peepholes": {"peepholes": True},
}


def lstm_cell_cases(rng: Generator) -> Iterator[Case]:
    """Take one step."""
    x, h, c = rng.normal(size=(3, 5)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    weights = [rng.normal(size=size) / 2 for size in ((16, 5), (16, 4), 16, 16)]
    pair = (layers.lstm_cell_forward, layers.lstm_cell_backward)
    yield Case("bias", *pair, (x, h, c, *weights))
    yield Case("no bias", *pair, (x, h, c, *weights[:2]))
    peepholes = rng.normal(size=12)
    yield Case("peepholes", *pair, (x, h, c, *weights, peepholes))

    def without_bias(
        x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, weight_ch: Array
    ) -> tuple[object, object]:
        return layers.lstm_cell_forward(x, h, c, weight_ih, weight_hh, weight_ch=weight_ch)

    args = (x, h, c, *weights[:2], peepholes)
    yield Case("peepholes, no bias", without_bias, layers.lstm_cell_backward, args)


_cell = layers.lstm_cell_backward


LSTM_CELL_MISTAKES = [
    Mistake(
        "lstm_cell",
        "bias",
        "the cell reached through c' only, not through h'",
        "h' = o tanh(c') is an output, and easily taken for the end of the road.",
        "The output gate is right, the three others are not.",
        _cell,
        "dc_next + dh_next * o * (1 - tanh_c * tanh_c)",
        "dc_next * 1",
        cause="slices",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "the candidate's tanh differentiated as a sigmoid",
        "Three of the four gates are sigmoids; one loop for all of them is tempting.",
        "One quarter of the rows is wrong: those of g.",
        _cell,
        "dg * (1 - g * g)",
        "dg * g * (1 - g)",
        cause="slices",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "the input and the forget gate exchanged",
        "All gates have one shape, and every source has an order of its own.",
        "The rows are right, in another order.",
        _cell,
        "di * i * (1 - i), df * f * (1 - f)",
        "df * f * (1 - f), di * i * (1 - i)",
        cause="permuted",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "the gates in the order i, f, o, g",
        "It is the order of another library.",
        "The rows are right, in another order.",
        _cell,
        "np.concatenate([da_i, da_f, da_g, da_o]",
        "np.concatenate([da_i, da_f, da_o, da_g]",
        cause="permuted",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "c' for tanh(c') in the output gate",
        "Both have one shape, and for small cells one value.",
        "One quarter of the rows is wrong: those of o.",
        _cell,
        "do = dh_next * tanh_c",
        "do = dh_next * np.arctanh(tanh_c)",
        cause="slices",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "the forget gate forgotten on the way to the cell before",
        "dc has the shape of dc'.",
        "Each element of dc is off by its gate: the gradient never decays.",
        _cell,
        "dc_next * c, dc_next * f",
        "dc_next * c, dc_next * 1",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "1 - tanh for 1 - tanh^2",
        "Elementwise: the shape is right.",
        "The output gate is right, the three others are not.",
        _cell,
        "(1 - tanh_c * tanh_c)",
        "(1 - tanh_c)",
        cause="slices",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "o in place of o (1 - o)",
        "Elementwise: the shape is right.",
        "One quarter of the rows is wrong: those of o.",
        _cell,
        "do * o * (1 - o)",
        "do * o",
        cause="slices",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "dc' added to in place",
        "+= saves an array, and the numbers are right.",
        "dc' is the caller's, and is not what it was.",
        _cell,
        "dc_next = dc_next + dh_next",
        "dc_next += dh_next",
        cause="mutated_dy",
    ),
    Mistake(
        "lstm_cell",
        "bias",
        "the second bias not trained",
        "Two biases that are added seem one too many.",
        "Zero: an optimizer then moves their sum half as far as torch's.",
        _cell,
        "return dx, dh, dc, dweight_ih, dweight_hh, *dbias_ih, *dbias_hh",
        "return dx, dh, dc, dweight_ih, dweight_hh, *dbias_ih, *(0 * d for d in dbias_hh)",
        cause="zero",
    ),
    Mistake(
        "lstm_cell",
        "peepholes",
        "the output gate's peephole forgotten on the way to the cell",
        "c' is read twice: by h', and now by o.",
        "Wrong in all gates but o, and only with peepholes.",
        _cell,
        "dc_next = dc_next + da_o * p_o",
        "pass",
    ),
    Mistake(
        "lstm_cell",
        "peepholes",
        "the peepholes of i and f forgotten on the way to the cell before",
        "c is multiplied by f already; that looks like its only use.",
        "Only dc is wrong.",
        _cell,
        "dc = dc + da_i * p_i + da_f * p_f",
        "pass",
    ),
    Mistake(
        "lstm_cell",
        "peepholes",
        "the output gate's peephole paired with the cell before the step",
        "The three peepholes look alike; but o alone looks at the new cell.",
        "One third of the peepholes is wrong: those of o.",
        _cell,
        "da_o * c_next]",
        "da_o * c]",
        cause="slices",
    ),
    Mistake(
        "lstm_cell",
        "peepholes",
        "the peepholes in the order i, o, f",
        "It is the order of another standard.",
        "The right numbers in another order.",
        _cell,
        "[da_i * c, da_f * c, da_o * c_next]",
        "[da_i * c, da_o * c_next, da_f * c]",
        cause="permuted",
    ),
    Mistake(
        "lstm_cell",
        "peepholes, no bias",
        "the peepholes averaged over the rows",
        "mean(axis=0) and sum(axis=0) have one shape.",
        "Off by exactly the number of rows.",
        _cell,
        "as_rows(dp).sum(axis=0)",
        "as_rows(dp).mean(axis=0)",
        cause="scale",
    ),
]
