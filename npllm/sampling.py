"""Choosing the next token: the distribution that it is drawn from, and the draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npllm.layers import softmax_forward
from npllm.layers.arrays import Array


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    The steps in order:

    1. ``repetition_penalty`` r: the logit of every token that has occurred is divided by r where it
       is positive and multiplied by r where it is negative (Keskar et al., "CTRL" (2019), section
       4.1).
    2. softmax(logits / temperature).
    3. The ``top_k`` likeliest are kept.
    4. The fewest, likeliest first, that together reach ``top_p`` of what is left are kept (Holtzman
       et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.1).
    5. What is at least ``min_p`` times as likely as the likeliest is kept (Nguyen et al., "Turning
       Up the Heat: Min-p Sampling" (2024)).

    Top-k, top-p, min-p is the order of transformers and of llama.cpp, which has the temperature
    last.

    Attributes:
        temperature: below 1 sharpens, above 1 flattens; 0 leaves the likeliest token alone.
        top_k: how many tokens to keep, all where None. Of equals the lower id is kept.
        top_p: how much probability to keep, all where None.
        min_p: how likely a token must be beside the likeliest, 0 where None.
        repetition_penalty: above 1 makes what has occurred less likely; 1 does nothing.

    Raises:
        ValueError: a number is out of its range; the message names it.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise ValueError(f"temperature must be 0 or more, and finite, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must lie in [0, 1], got {self.min_p}")
        if not 0 < self.repetition_penalty < np.inf:
            raise ValueError(
                f"repetition_penalty must be positive and finite, got {self.repetition_penalty}"
            )

    def probabilities(self, logits: Array, occurred: Sequence[int] | Array = ()) -> Array:
        """Return the distribution that the next token is drawn from.

        Args:
            logits: (V,).
            occurred: the ids that the repetition penalty is for.

        Returns:
            (V,) in float64, summing to one.

        Raises:
            ValueError: the logits hold NaN or +inf, or nothing but -inf.

        >>> Sampling(top_k=2).probabilities(np.log([1.0, 2.0, 5.0])).round(12).tolist()
        [0.0, 0.285714285714, 0.714285714286]
        >>> Sampling(min_p=0.3).probabilities(np.log([1.0, 2.0, 5.0])).round(12).tolist()
        [0.0, 0.285714285714, 0.714285714286]
        """
        logits = logits.astype(np.float64)
        check_logits(logits)
        if self.repetition_penalty != 1 and len(occurred):
            ids = np.unique(occurred)
            seen, r = logits[ids], self.repetition_penalty
            with np.errstate(over="ignore"):  # a -inf is a weight of zero
                logits[ids] = np.where(seen > 0, seen / r, seen * r)
            if np.isinf(logits.max()):
                raise ValueError(f"repetition_penalty {r} leaves no finite logit: try 1 to 2")
        top_k, temperature = self.top_k, self.temperature
        if temperature == 0:
            top_k, temperature = 1, 1.0
        with np.errstate(over="ignore"):  # to -inf, where the temperature is next to nothing
            p, _ = softmax_forward((logits - logits.max()) / temperature)
        order = np.argsort(-logits, kind="stable")
        kept = order[:top_k]
        if self.top_p is not None:
            mass = np.cumsum(p[kept]) / p[kept].sum()
            kept = kept[: np.searchsorted(mass, self.top_p) + 1]
        if self.min_p is not None:
            kept = kept[p[kept] >= self.min_p * p[kept[0]]]
        probabilities = np.zeros_like(p)
        probabilities[kept] = p[kept] / p[kept].sum()
        return probabilities

    def draw(
        self, logits: Array, rng: np.random.Generator, occurred: Sequence[int] | Array = ()
    ) -> int:
        """Return a token, drawn with one number of the Generator."""
        p = self.probabilities(logits, occurred)
        drawn = int(np.searchsorted(np.cumsum(p), rng.random() * p.sum(), side="right"))
        return min(drawn, int(np.flatnonzero(p)[-1]))


def check_logits(logits: Array) -> None:
    """Raise ValueError where logits hold NaN or +inf, or a row of them nothing but -inf."""
    if not np.isfinite(logits.max(axis=-1)).all():  # NaN, if there is one, counts as the maximum
        raise ValueError("the logits hold NaN or infinity: the model's weights are broken")
