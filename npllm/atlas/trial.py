"""What becomes of a mistake: caught here, and what other checks would have said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.atlas.mistake import Mistake
from npllm.checking import GradcheckReport, gradcheck
from npllm.checking.methods import central_difference
from npllm.checking.pair import Pair, Probe, is_float
from npllm.checking.trees import Array, leaves, map_leaves
from npllm.proofs import CASES, Case

TORCH_ATOL, TORCH_RTOL = 1e-5, 1e-3  # the defaults of torch.autograd.gradcheck
ABSOLUTE = 2e-2
STEP = 1e-6  # torch's


@dataclass(frozen=True)
class Trial:
    """The verdicts on one mistake.

    Attributes:
        mistake: what was tried.
        report: of npllm's checker.
        torch_passes: central differences within 1e-5 + 1e-3 |numeric| at every element.
        absolute_passes: within 2e-2 at every element, the loss a mean over the outputs.
        ones_passes: within 1e-7 by central differences, under a cotangent of ones: the gradient
            of a sum.
    """

    mistake: Mistake
    report: GradcheckReport
    torch_passes: bool
    absolute_passes: bool
    ones_passes: bool


def find_case(layer: str, label: str, seed: int = 0) -> Case:
    """Return the case of that label, its arguments drawn from the seed."""
    (case,) = (c for c in CASES[layer](np.random.default_rng(seed)) if c.label == label)
    return case


def try_mistake(mistake: Mistake, seed: int = 0) -> Trial:
    """Apply a mistake and check it, here and as others would."""
    case = find_case(mistake.layer, mistake.label, seed)
    with mistake.applied():
        report = gradcheck(case.forward, case.backward, case.args, sizes=case.sizes, seed=seed)
    with mistake.applied():
        pair = Pair(case.forward, case.backward, case.args, np.float64)
        y, _ = pair.run(pair.args)
        rng = np.random.default_rng((seed, 7))
        random = map_leaves(lambda a: rng.standard_normal(a.shape) * is_float(a), y)
        ones = map_leaves(lambda a: np.ones(a.shape) * is_float(a), y)
        outputs = sum(a.size for _, a in leaves(y) if is_float(a))
        pairs = _gradients(pair, random)
        torch_passes = all(
            bool(np.all(np.abs(g - n) <= TORCH_ATOL + TORCH_RTOL * np.abs(n))) for g, n in pairs
        )
        absolute = all(bool(np.all(np.abs(g - n) <= ABSOLUTE * outputs)) for g, n in pairs)
        summed = all(
            bool(np.all(np.abs(g - n) <= 1e-7 * max(np.abs(n).max(initial=0), 1.0)))
            for g, n in _gradients(pair, ones)
        )
    return Trial(mistake, report, torch_passes, absolute, summed)


def _gradients(pair: Pair, dy: Any) -> list[tuple[Array, Array]]:
    """Return what one call of the backward claims, beside the central differences."""
    _, cache = pair.run(pair.args)
    claims = {n: np.array(g) for n, g in pair.gradients(map_leaves(np.copy, dy), cache).items()}
    probe = Probe(pair, [a for _, a in leaves(dy)], "real")
    found = []
    for name, claim in claims.items():
        x = pair.leaves[name]
        numeric = np.empty(x.shape)
        for index in np.ndindex(x.shape):
            numeric[index] = central_difference(probe.line(name, index), STEP).value
        found.append((claim, numeric))
    return found
