"""What the worker asks of Python: run a cell of the page in the one namespace it has."""

from __future__ import annotations

import traceback
import warnings
from typing import Any

from pages import run

# a browser has no locks of files, and needs none
warnings.filterwarnings("ignore", "only soft file lock")

scope: dict[str, Any] = {}
count = 0


def begin() -> None:
    """Forget what ran before."""
    scope.clear()
    scope["__name__"] = "__main__"


def answer(source: str) -> tuple[str, str]:
    """Return what a cell prints, and its traceback from the cell on, or nothing if all is well."""
    global count
    count += 1
    printed: list[str] = []
    try:
        run(source, scope, f"<cell {count}>", printed.append)
    except BaseException as error:
        place = error.__traceback__
        while place is not None and not place.tb_frame.f_code.co_filename.startswith("<cell"):
            place = place.tb_next
        told = "".join(traceback.format_exception(type(error), error, place))
        return "".join(printed), told
    return "".join(printed), ""


begin()
