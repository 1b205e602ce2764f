"""Writing text: the next token drawn from the model's distribution, again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from npllm.layers import softmax_forward
from npllm.layers.arrays import Array
from npllm.text.tokenizers import Ids


class Predictor(Protocol):
    """A model that hands its state on."""

    def predict(self, ids: Ids, state: Any = None) -> tuple[Array, Any]:
        """Return the logits (B, T, V) and the state after ids (B, T)."""


def check_sampling(
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> None:
    """Raise ValueError, naming the argument, unless the choice of a token is well defined."""
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")


def next_token_probabilities(
    logits: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """Return the distribution that the next token is drawn from.

    The steps in order: softmax(logits / temperature); keep the ``top_k`` likeliest; keep the
    fewest, likeliest first, that together reach ``top_p`` (Holtzman et al., "The Curious Case of
    Neural Text Degeneration" (2020), section 3.1); scale what is kept to sum to one.

    Args:
        logits: (V,).
        temperature: below 1 sharpens, above 1 flattens; 0 leaves the likeliest token alone.
        top_k: how many tokens to keep, all where None. Of equals the lower id is kept.
        top_p: how much probability to keep, all where None.

    Returns:
        (V,) in float64.

    Raises:
        ValueError: a number is out of its range, or the logits hold NaN or +inf, or
            nothing but -inf.

    >>> next_token_probabilities(np.log([1.0, 2.0, 5.0]), top_k=2).round(12).tolist()
    [0.0, 0.285714285714, 0.714285714286]
    """
    check_sampling(temperature, top_k, top_p)
    logits = logits.astype(np.float64)
    if not np.isfinite(logits.max()):  # NaN, if there is one, counts as the maximum
        raise ValueError("the logits hold NaN or infinity: the model's weights are broken")
    order = np.argsort(-logits, kind="stable")
    if temperature == 0:
        top_k, temperature = 1, 1.0
    with np.errstate(over="ignore"):  # to -inf, where the temperature is next to nothing
        p, _ = softmax_forward((logits - logits.max()) / temperature)
    kept = order[:top_k]
    if top_p is not None:
        mass = np.cumsum(p[kept]) / p[kept].sum()
        kept = kept[: np.searchsorted(mass, top_p) + 1]
    probabilities = np.zeros_like(p)
    probabilities[kept] = p[kept] / p[kept].sum()
    return probabilities


def generate(
    model: Predictor,
    prompt: Ids,
    tokens: int,
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[int]:
    """Yield token ids that continue a prompt, one at a time, as they are drawn.

    Args:
        model: is fed each token once; its state is carried along.
        prompt: (T,) at least one id.
        tokens: how many to draw.
        rng: draws them, one number a token.
        temperature: see :func:`next_token_probabilities`.
        top_k: see :func:`next_token_probabilities`.
        top_p: see :func:`next_token_probabilities`.

    Raises:
        ValueError: the prompt is empty, or a number is out of its range.
    """
    check_sampling(temperature, top_k, top_p)
    if len(prompt) == 0:
        raise ValueError("the prompt must hold at least one token, got none")
    if tokens < 0:
        raise ValueError(f"tokens must be 0 or more, got {tokens}")
    return _generate(model, prompt, tokens, rng, temperature, top_k, top_p)


def _generate(
    model: Predictor,
    ids: Ids,
    tokens: int,
    rng: np.random.Generator,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Iterator[int]:
    state = None
    for _ in range(tokens):
        with np.errstate(over="ignore", invalid="ignore"):  # it would show in the logits
            logits, state = model.predict(ids[None], state)
        p = next_token_probabilities(logits[0, -1], temperature, top_k, top_p)
        drawn = int(np.searchsorted(np.cumsum(p), rng.random() * p.sum(), side="right"))
        token = min(drawn, int(np.flatnonzero(p)[-1]))
        yield token
        ids = np.array([token])
