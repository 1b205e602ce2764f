"""What the worker asks of Python: run a cell of the page in the one namespace it has."""

from __future__ import annotations

import builtins
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from copy import copy, deepcopy
from typing import Any

import numpy as np
from pages import Teller, run

MOST = 100_000  # characters that a cell may print

# a browser has no locks of files, and needs none
warnings.filterwarnings("ignore", "only soft file lock")


def no_input(_prompt: object = "") -> str:
    """Say what a cell cannot do."""
    raise OSError("a cell takes no input: write the answer into the code")


builtins.input = no_input

scope: dict[str, Any] = {}
before: dict[int, dict[str, Any]] = {}  # what each cell found when it ran


def begin() -> None:
    """Forget what ran before."""
    before.clear()
    scope.clear()
    scope["__name__"] = "__main__"


def kept(value: Any) -> Any:
    """Return what a later cell cannot change: a copy, where that is cheap."""
    if isinstance(value, np.random.Generator):
        return deepcopy(value)
    return copy(value) if isinstance(value, np.ndarray | list | dict) else value


def answer(source: str, number: int, tell: Callable[[str], object]) -> str:
    """Run a cell; return its traceback from the cell on, or nothing if all is well.

    Args:
        source: of the cell.
        number: of the cell on the page. One that has run before runs on what it found then: what
            the cells from it on have done is forgotten.
        tell: is given what the cell prints, piece by piece.
    """
    if number in before:
        scope.clear()
        scope.update({name: kept(value) for name, value in before[number].items()})
    else:
        before[number] = {name: kept(value) for name, value in scope.items()}
    for later in [other for other in before if other > number]:
        del before[later]
    length = 0

    def tell_some(text: str) -> None:
        nonlocal length
        if length < MOST <= length + len(text):
            text += "\n... and more\n"
        if length < MOST:
            tell(text)
        length += len(text)

    try:
        with redirect_stderr(Teller(tell_some)):
            run(source, scope, f"<cell {number}>", tell_some)
    except BaseException as error:
        place = error.__traceback__
        while place is not None and not place.tb_frame.f_code.co_filename.startswith("<cell"):
            place = place.tb_next
        return "".join(traceback.format_exception(type(error), error, place))
    return ""


begin()
