"""Where a token stands, as constants: sinusoids to add to embeddings, slopes to add to scores."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array


def sinusoidal_positions(
    steps: int, width: int, base: float = 10000.0, dtype: npt.DTypeLike = np.float64
) -> Array:
    """Return a vector for each position: sines and cosines of ever slower waves.

    Vaswani et al., "Attention Is All You Need" (2017), section 3.5: features 2i and 2i + 1 of
    position t are the sine and the cosine of t / base^(2i / E).

    Args:
        steps: T.
        width: E; where it is odd the last cosine is left out.
        base: the longest wave has about 2 pi base positions.
        dtype: of the result.

    Returns:
        (T, E).

    >>> table = sinusoidal_positions(2, 3, base=1.0)
    >>> bool(np.allclose(table, [[0, 1, 0], [np.sin(1), np.cos(1), np.sin(1)]]))
    True
    """
    angles = np.arange(steps)[:, None] * float(base) ** (-np.arange(0, width, 2) / width)
    table = np.empty((steps, width))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : width // 2])
    return table.astype(dtype)


def alibi_slopes(heads: int) -> Array:
    """Return how fast each head's scores fall with the distance of the key.

    Press, Smith and Lewis, "Train Short, Test Long" (2021), section 3: 2^(-8 / N), its square, its
    cube ...; where N is no power of two, those of the power below, then every other one of those of
    twice that power, as in the authors' code.

    >>> alibi_slopes(2).tolist(), alibi_slopes(3).tolist()
    ([0.0625, 0.00390625], [0.0625, 0.00390625, 0.25])
    """
    if heads < 1:
        raise ValueError(f"heads must be at least 1, got {heads}")
    power = 2 ** math.floor(math.log2(heads))
    slopes = 2.0 ** (-8 / power * np.arange(1, power + 1))
    between = 2.0 ** (-4 / power * np.arange(1, 2 * (heads - power), 2))
    return np.concatenate([slopes, between])


def alibi_bias(
    heads: int, tq: int, tk: int, offset: int = 0, dtype: npt.DTypeLike = np.float64
) -> Array:
    """Return attention's bias ``-slope |t + offset - s|`` for query t and key s.

    Args:
        heads: N.
        tq: Tq.
        tk: Tk.
        offset: the position of the first query, where keys of earlier steps are kept.
        dtype: of the result.

    Returns:
        (N, Tq, Tk).

    >>> alibi_bias(1, 1, 3, offset=2).tolist()  # one head: the slope is 2^-8
    [[[-0.0078125, -0.00390625, -0.0]]]
    """
    distance = np.abs(np.arange(tq)[:, None] + offset - np.arange(tk))  # (Tq, Tk)
    return (-alibi_slopes(heads)[:, None, None] * distance).astype(dtype)
