"""Pictures as PNG: what all that draw one share. They need the extra ``plot``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from npllm.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of matplotlib.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        ValueError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("plots need matplotlib: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, out: str | os.PathLike[str]) -> None:
    """Write a figure as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(out) as file:
        figure.savefig(file, dpi=150, format="png")
