"""Rotary positions: queries and keys turned by their position, so that a score sees how far apart.

Su et al., "RoFormer" (2021), section 3.2.2. Two features are the coordinates of a point, which is
turned by position times frequency; pair i of R / 2 has frequency base^(-2i / R). A product of a
turned query and a turned key depends on the difference of their positions alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array, Shape, check_dy, check_floats, split_last

Scaling = Mapping[str, object]  # what a checkpoint calls rope_scaling


def rotary_frequencies(
    width: int, base: float = 10000.0, scaling: Scaling | None = None
) -> tuple[Array, float]:
    """Return the frequency of each pair, (R / 2,) in float64, and a factor for cos and sin.

    Args:
        width: R, even: how many features of a head are turned.
        base: a larger one turns more slowly.
        scaling: how a model was stretched to a longer context, in the form of public checkpoints'
            ``rope_scaling``; ``rope_type`` is one of

            * "default": not at all;
            * "linear": every position divided by ``factor`` (Chen et al., "Extending Context
              Window" (2023));
            * "llama3": pairs whose wave is longer than the old context divided, short ones left,
              those between blended (``factor``, ``low_freq_factor``, ``high_freq_factor``,
              ``original_max_position_embeddings``);
            * "yarn": as much blended by how often a pair turns within the old context, and the
              scores sharpened by the factor (Peng et al., "YaRN" (2023), sections 3.2 to 3.4;
              ``factor``, ``original_max_position_embeddings``, ``beta_fast``, ``beta_slow``,
              ``attention_factor``).

    Raises:
        ValueError: the width is not even and positive; the scaling is unknown or incomplete, or has
            an option that it does not take, or a number that is not positive and finite; "yarn" has
            a base of 1 or less, "llama3" a high factor that is not above the low one.

    >>> rotary_frequencies(4, base=100.0)[0].round(12).tolist()  # 100^0, 100^(-1/2)
    [1.0, 0.1]
    """
    if width < 2 or width % 2:
        raise ValueError(f"the width of rotary positions must be even and positive, got {width}")
    plain = float(base) ** (-np.arange(0, width, 2) / width)  # (R / 2,)
    given = dict(scaling or {"rope_type": "default"})
    kind = given.pop("rope_type", given.pop("type", None))
    if kind == "default":
        return plain, 1.0
    if not isinstance(kind, str) or kind not in SCALINGS:
        known = ", ".join(("default", *SCALINGS))
        raise ValueError(f"rope_type must be one of {known}, got {kind!r}")
    options = _checked(kind, given)
    slow = plain / options["factor"]
    if kind == "linear":
        return slow, 1.0
    if kind == "yarn":
        return _yarn(plain, slow, width, base, options)
    turns = options["original_max_position_embeddings"] * plain / (2 * math.pi)
    low, high = options["low_freq_factor"], options["high_freq_factor"]
    if high <= low:
        raise ValueError(f"high_freq_factor must be above low_freq_factor, {low}, got {high}")
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return slow + kept * (plain - slow), 1.0


# what each scaling takes, and what stands for it where it is not given; nothing for None
SCALINGS: dict[str, dict[str, float | None]] = {
    "linear": {"factor": None},
    "llama3": {
        "factor": None,
        "low_freq_factor": None,
        "high_freq_factor": None,
        "original_max_position_embeddings": None,
    },
    "yarn": {
        "factor": None,
        "original_max_position_embeddings": None,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "attention_factor": math.nan,  # follows from the factor
    },
}


def _checked(kind: str, given: Scaling) -> dict[str, float]:
    """Return the options of a scaling, all of them, as numbers."""
    known, own = SCALINGS[kind], {name: x for name, x in given.items() if x is not None}
    if unknown := own.keys() - known.keys():
        raise ValueError(f"the {kind} scaling of rotary positions has no {min(unknown)}")
    numbers = {}
    for name, x in own.items():
        if not isinstance(x, Real) or not 0 < float(x) < math.inf:
            raise ValueError(f"{name} of rotary positions must be positive and finite, got {x!r}")
        numbers[name] = float(x)
    options = {}
    for name, default in known.items():
        value = numbers.get(name, default)
        if value is None:
            raise ValueError(f"the {kind} scaling of rotary positions needs {name}")
        options[name] = value
    return options


def _yarn(
    plain: Array, slow: Array, width: int, base: float, options: Mapping[str, float]
) -> tuple[Array, float]:
    if base <= 1:
        raise ValueError(f"the yarn scaling of rotary positions needs a base above 1, got {base}")

    def pair_of(turns: float) -> float:
        """Return which pair, from 0, turns so often within the old context."""
        context = options["original_max_position_embeddings"]
        return width * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_of(options["beta_fast"])), 0)
    high = min(math.ceil(pair_of(options["beta_slow"])), width - 1)
    ramp = (np.arange(len(plain)) - low) / max(high - low, 1e-3)
    stretched = np.clip(ramp, 0, 1)
    sharpening = options["attention_factor"]
    if math.isnan(sharpening):
        sharpening = 0.1 * math.log(max(options["factor"], 1)) + 1
    return plain + stretched * (slow - plain), sharpening


def rotary_table(
    positions: npt.ArrayLike,
    width: int,
    base: float = 10000.0,
    scaling: Scaling | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> tuple[Array, Array]:
    """Return the cosines and sines of the angles that positions turn by.

    Args:
        positions: (..., T).
        width: see :func:`rotary_frequencies`; so are ``base`` and ``scaling``.
        base: see there.
        scaling: see there.
        dtype: of the result; the angles are computed in float64.

    Returns:
        cos and sin, each (..., T, R / 2).

    >>> cos, sin = rotary_table([0, 1], 2)
    >>> bool(np.allclose(cos[:, 0], [1, np.cos(1)])), bool(np.allclose(sin[:, 0], [0, np.sin(1)]))
    (True, True)
    """
    frequencies, factor = rotary_frequencies(width, base, scaling)
    angles = np.asarray(positions)[..., None] * frequencies  # (..., T, R / 2)
    return (factor * np.cos(angles)).astype(dtype), (factor * np.sin(angles)).astype(dtype)


class RotaryCache(NamedTuple):
    """What the backward needs of the forward."""

    cos: Array
    sin: Array
    interleaved: bool
    shape: Shape


def rotary_forward(
    x: Array, cos: Array, sin: Array, *, interleaved: bool = False
) -> tuple[Array, RotaryCache]:
    """Turn each pair of features: (a, b) to (a cos - b sin, a sin + b cos).

    Args:
        x: (..., T, D). Its first R features are turned, the others left as they are.
        cos: broadcasts to (..., T, R / 2), of :func:`rotary_table`; a constant.
        sin: as ``cos``.
        interleaved: the pairs are features (0, 1), (2, 3), ...; otherwise (0, R / 2),
            (1, R / 2 + 1), ... The same function of other weights: checkpoints need their own.

    Returns:
        y of x's shape, and the cache of :func:`rotary_backward`.

    Raises:
        ValueError: the shapes do not fit.

    >>> x = np.array([[1.0, 0.0]])
    >>> y, _ = rotary_forward(x, *rotary_table([np.pi / 2], 2))  # a quarter turn
    >>> y.round(12).tolist()
    [[0.0, 1.0]]
    """
    check_floats(x=x)
    if cos.shape != sin.shape:
        raise ValueError(f"cos and sin must have one shape, got {cos.shape} and {sin.shape}")
    width = 2 * cos.shape[-1]
    if x.ndim < 2 or x.shape[-1] < width:
        raise ValueError(f"x must have shape (..., T, D) with D of {width} or more, got {x.shape}")
    try:
        np.broadcast_to(cos, (*x.shape[:-1], width // 2))
    except ValueError:
        raise ValueError(
            f"cos must broadcast to {(*x.shape[:-1], width // 2)}, got {cos.shape}"
        ) from None
    cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
    return _turned(x, cos, sin, interleaved), RotaryCache(cos, sin, interleaved, x.shape)


def rotary_backward(dy: Array, cache: RotaryCache) -> Array:
    """Return dx: dy turned back.

    A rotation is orthogonal: its transpose, which brings gradients back, is its inverse.

    Args:
        dy: (..., T, D).
        cache: what :func:`rotary_forward` returned.
    """
    cos, sin, interleaved, shape = cache
    check_dy(dy, shape, cos.dtype)
    # (a, b) to (a cos - b sin, a sin + b cos)
    return _turned(dy, cos, -sin, interleaved)


def _turned(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    y = x.copy()
    turned = y[..., : 2 * cos.shape[-1]]
    # (..., T, R / 2) each
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else split_last(turned, 2)
    a[...], b[...] = a * cos - b * sin, a * sin + b * cos
    return y
