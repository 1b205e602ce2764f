"""A wrong backward pass: npllm's own source with one slip in it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mistake:
    """One slip, and what there is to learn from it.

    Attributes:
        layer: a key of :data:`npllm.evidence.CASES`.
        label: of the case there that must catch it.
        slip: what was written instead.
        why: why nothing complains: the shapes fit, the loss falls.
        giveaway: what gives it away.
        function: the function it is in.
        source: a piece of that function's source that occurs there once.
        replacement: what stands in its place.
        cause: the key of the diagnosis, where the numbers show one.
        wild: whether it was found in public code.
    """

    layer: str
    label: str
    slip: str
    why: str
    giveaway: str
    function: Callable[..., object]
    source: str
    replacement: str
    cause: str = ""
    wild: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run the function with the slip in it, wherever it is called from.

        Raises:
            ValueError: the piece of source is not there exactly once.
        """
        function: Any = inspect.unwrap(self.function)
        text = textwrap.dedent(inspect.getsource(function))
        if text.count(self.source) != 1:
            name = function.__name__
            raise ValueError(f"{self.source!r} must occur once in {name}: mend the mistake")
        scope = dict(function.__globals__)
        code = compile(text.replace(self.source, self.replacement), f"<{self.slip}>", "exec")
        exec(code, scope)
        original, attributes = function.__code__, dict(vars(function))
        function.__code__ = scope[function.__name__].__code__
        try:
            yield
        finally:
            function.__code__ = original
            vars(function).clear()  # of whatever the slip kept there from call to call
            vars(function).update(attributes)
