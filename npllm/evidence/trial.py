"""What becomes of a mistake: caught here, and what other checks would have said."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from npllm.checking import GradcheckReport, gradcheck
from npllm.checking.methods import PRECISIONS
from npllm.checking.pair import Outputs, Pair, Probe, is_float
from npllm.checking.trees import Array, leaves, map_leaves
from npllm.evidence import CASES, Case, Mistake
from npllm.evidence.case import AT_ONCE

TORCH_ATOL, TORCH_RTOL = 1e-5, 1e-3  # those of torch.autograd.gradcheck
ABSOLUTE = 2e-2
STEP = PRECISIONS[np.dtype(np.float64)].steps["central"]


@dataclass(frozen=True)
class Trial:
    """A mistake, and the report of npllm's checker on it."""

    mistake: Mistake
    report: GradcheckReport


class Others(NamedTuple):
    """Whether other checks let a mistake pass.

    Attributes:
        torch: central differences within 1e-5 + 1e-3 |numeric| at every element.
        absolute: within 2e-2 at every element, the loss a mean over the outputs.
        ones: within 1e-7 by central differences, under a cotangent of ones: the gradient of a sum.
    """

    torch: bool
    absolute: bool
    ones: bool


def find_case(layer: str, label: str, seed: int = 0) -> Case:
    """Return the case of that label, its arguments drawn from the seed."""
    (case,) = (c for c in CASES[layer](np.random.default_rng(seed)) if c.label == label)
    return case


_KNOWN: defaultdict[tuple[str, int], Outputs] = defaultdict(dict)


def forward_of(layer: str, label: str) -> str:
    """Return what tells the forward of a case, which may be another's too, from others.

    >>> forward_of("GPT", "one block, loss and gradients at once")
    'GPT: one block'
    """
    return f"{layer}: {label.removesuffix(AT_ONCE)}"


def outputs_of(layer: str, label: str, seed: int = 0) -> Outputs:
    """Return what the checks of a case have computed of its forward so far."""
    return _KNOWN[forward_of(layer, label), seed]


def try_mistake(mistake: Mistake, seed: int = 0) -> Trial:
    """Apply a mistake and check it by the complex step."""
    case = find_case(mistake.layer, mistake.label, seed)
    with mistake.applied():
        report = gradcheck(
            case.forward,
            case.backward,
            case.args,
            methods="complex",
            sizes=case.sizes,
            seed=seed,
            known=_known_of(mistake, seed),
        )
    return Trial(mistake, report)


def try_others(mistake: Mistake, seed: int = 0) -> Others:
    """Apply a mistake and check it as others would."""
    case = find_case(mistake.layer, mistake.label, seed)
    with mistake.applied():
        random, ones = _differences(case, _known_of(mistake, seed), seed)
    with mistake.applied():  # anew: what it kept of the calls above is gone
        pairs, of_sum = _beside(case, *random), _beside(case, *ones)
    outputs = sum(a.size for _, a in leaves(random[0]) if is_float(a))
    return Others(
        all(bool(np.all(np.abs(g - n) <= TORCH_ATOL + TORCH_RTOL * np.abs(n))) for g, n in pairs),
        all(bool(np.all(np.abs(g - n) <= ABSOLUTE * outputs)) for g, n in pairs),
        all(
            bool(np.all(np.abs(g - n) <= 1e-7 * max(np.abs(n).max(initial=0), 1.0)))
            for g, n in of_sum
        ),
    )


def _known_of(mistake: Mistake, seed: int) -> Outputs:
    """Return what is known of the forward, which a mistake in a backward leaves as it is."""
    # no forward calls what computes gradients
    backward_only = mistake.function.__name__.endswith(("backward", "gradients"))
    return outputs_of(mistake.layer, mistake.label, seed) if backward_only else {}


Differences = tuple[object, dict[str, Array]]  # a cotangent, and the gradients under it


def _differences(case: Case, known: Outputs, seed: int) -> tuple[Differences, Differences]:
    """Return a case's central differences under a random cotangent, and under one of ones."""
    pair = Pair(case.forward, case.backward, case.args, np.float64)
    y, _ = pair.run(pair.args)
    rng = np.random.default_rng((seed, 7))
    random: Differences = map_leaves(lambda a: rng.standard_normal(a.shape) * is_float(a), y), {}
    ones: Differences = map_leaves(lambda a: np.ones(a.shape) * is_float(a), y), {}
    probe = Probe(pair, [], "real", known)
    for name, x in pair.leaves.items():
        for _, gradients in (random, ones):
            gradients[name] = np.empty(x.shape)
        for index in np.ndindex(x.shape):
            line = probe.line(name, index)
            ahead, behind = line.outputs(STEP), line.outputs(-STEP)
            for dy, gradients in (random, ones):
                gradients[name][index] = sum(
                    np.sum(v * (a - b) / (2 * STEP))
                    for (_, v), a, b in zip(leaves(dy), ahead, behind, strict=True)
                )
    return random, ones


def _beside(case: Case, dy: object, numeric: dict[str, Array]) -> list[tuple[Array, Array]]:
    """Return what one call of the backward claims, beside the central differences."""
    pair = Pair(case.forward, case.backward, case.args, np.float64)
    _, kept = pair.run(pair.args)
    claims = pair.gradients(dy, kept)
    return [(np.array(claim), numeric[name]) for name, claim in claims.items()]
