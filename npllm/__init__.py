"""npllm: language models in NumPy, every backward pass by hand and proven.

Axis legend, used in every shape comment of the package:

====  =====================================================
B     batch: sequences side by side
T     time: positions in a sequence (Tq queries, Tk keys)
V     vocabulary: token classes
E     embedding width
H     hidden width of a recurrent layer (P where it is projected)
N     attention heads
K, G  key and value heads, and the heads that share one: N = K G
D     width of one attention head (Dv of its values)
P     tokens remembered from earlier calls, in front of the T
L     layers
I, O  input and output width of a linear map
M     its rows: all leading axes as one
====  =====================================================

``dx`` is the derivative of the loss with respect to ``x``, of the same shape.

What is used is imported when it is used:

>>> import numpy as np
>>> import npllm
>>> y, cache = npllm.layers.softmax_forward(np.zeros(4))
>>> y.tolist()
[0.25, 0.25, 0.25, 0.25]
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npllm import checking, layers, models, optim, text, training
    from npllm.checking import assert_gradients, gradcheck
    from npllm.generation import generate
    from npllm.loading import load

__version__ = "0.1.0"

# Between products OpenBLAS's threads wait at full speed, tens of milliseconds long, and take a core
# from those that npllm then starts. 2^21 ticks are about one millisecond. OpenBLAS reads this once,
# when NumPy is first imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "21")

__all__ = [
    "assert_gradients",
    "checking",
    "generate",
    "gradcheck",
    "layers",
    "load",
    "models",
    "optim",
    "text",
    "training",
]

_HOMES = {
    "assert_gradients": "npllm.checking",
    "generate": "npllm.generation",
    "gradcheck": "npllm.checking",
    "load": "npllm.loading",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        message = f"module 'npllm' has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    return importlib.import_module(f"npllm.{name}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
