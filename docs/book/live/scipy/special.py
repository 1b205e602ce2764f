"""``erf``, a number at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Any, out: Any = None) -> Any:
    """Return the error function of real numbers, in their dtype."""
    x = np.asarray(x)
    y = _erf(x).astype(x.dtype)
    if out is None:
        return y
    out[...] = y
    return out
