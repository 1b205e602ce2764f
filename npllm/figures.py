"""Pictures as PNG: what all that draw one share. They need the extra ``plot``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from npllm.extras import missing
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
        raise missing("plots need matplotlib", "matplotlib", "plot") from None
    return Figure(figsize=(width, height), layout="constrained")


# fonts with Chinese characters, by the names that systems have for them
_CHINESE = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Heiti SC"),
    *("Hiragino Sans GB", "Arial Unicode MS", "Droid Sans Fallback"),
)


def fonts_for(texts: Iterable[str]) -> list[str]:
    """Return the fonts that together have the characters of texts, for ``fontfamily``.

    Raises:
        ValueError: there is Chinese, and no font here has it.
    """
    from matplotlib import font_manager

    usual = ["DejaVu Sans"]
    if not any("\u2e80" <= c <= "\u9fff" or "\uf900" <= c <= "\uffef" for t in texts for c in t):
        return usual
    here = {font.name for font in font_manager.fontManager.ttflist}
    found = [name for name in _CHINESE if name in here]
    if not found:
        raise ValueError(
            "no font here has Chinese characters: install one, for instance fonts-wqy-zenhei on "
            "Debian, or Noto Sans CJK SC"
        )
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # of a missing weight
    return [*usual, found[0]]


def escaped(text: str) -> str:
    """Return a text in which a dollar is one, and begins no formula."""
    return text.replace("$", r"\$")


def save_figure(figure: Figure, out: str | os.PathLike[str]) -> None:
    """Write a figure as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(out) as file:
        figure.savefig(file, dpi=150, format="png")
