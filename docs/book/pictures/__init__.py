"""The book's pictures: drawn by npllm's own code from what it computes, as SVG for light and dark.

A module here is a chapter's; each of its functions without a leading underscore draws the picture
of its name, ``docs/figures/NAME.svg``. The words in a picture are symbols of the text, for both
languages share it; the caption says the rest.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import matplotlib as mpl

from docs.book.pages import DOCS
from npllm.models import LSTMLanguageModel
from npllm.optim import Adam, clip_global_norm
from npllm.text import CharacterTokenizer, ContiguousBatches

mpl.use("svg")

FIGURES = DOCS / "figures"
GREY = "#808080"  # is read on white and on black
COLOURS = ("#3b82c4", "#d9822b", "#3f9b5f", "#b05cc6", "#c94f4f")
STYLE = {
    "figure.figsize": (6.4, 3.0),
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "npllm",  # the same file each time
    "svg.fonttype": "path",
}


def trained(
    tokenizer: CharacterTokenizer,
    text: str,
    *,
    hidden_size: int,
    lr: float,
    length: int,
    steps: int,
) -> LSTMLanguageModel:
    """Return an LSTM that has read some of a text, 32 stretches of it side by side."""
    model = LSTMLanguageModel(len(tokenizer.vocabulary), embed_size=32, hidden_size=hidden_size)
    optimizer = Adam(model.parameters, lr=lr)
    batches, state = ContiguousBatches(tokenizer.encode(text), batch_size=32, length=length), None
    for step in range(steps):
        batch = batches[step]
        result = model.loss_and_gradients(*batch.arguments, state if batch.continues else None)
        result.gradients.vector[...] /= result.tokens
        clip_global_norm(result.gradients, 1.0)
        optimizer.step(result.gradients)
        state = result.state
    return model


def functions() -> dict[str, Callable[[], Any]]:
    """Return what draws each picture, by its name."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        content = importlib.import_module(f"{__name__}.{module.name}")
        for name, thing in inspect.getmembers(content, inspect.isfunction):
            if thing.__module__ == content.__name__ and not name.startswith("_"):
                found[name] = thing
    return found


def draw(names: list[str]) -> None:
    """Draw the pictures of these names, or all of them."""
    known = functions()
    for name in names:
        if name not in known:
            raise SystemExit(f"no picture {name}: there are {', '.join(sorted(known))}")
    FIGURES.mkdir(exist_ok=True)
    for name in names or sorted(known):
        with mpl.rc_context(STYLE):
            path = FIGURES / f"{name}.svg"
            known[name]().savefig(path, metadata={"Date": None, "Creator": "npllm"})
        print(path)
