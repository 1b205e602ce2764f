"""What a gradient check found, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """The worst element of one argument's gradient by one method.

    Attributes:
        method: "complex step" or "central difference".
        error: |analytic - numeric| there, relative to the argument's largest gradient (for a
            direction, to its norm), or to what rounding alone may make of the sum.
        tolerance: the largest error that passes.
        index: where in the argument; None for a random direction.
        analytic: the backward's value there (for a direction, its product with the gradient).
        numeric: the method's value.
        checked: how many elements or directions were compared.
    """

    method: str
    error: float
    tolerance: float
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    checked: int

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the tolerance."""
        return self.error <= self.tolerance

    @property
    def excess(self) -> float:
        """The error in units of the tolerance; infinite where it is no number."""
        if self.error != self.error:
            return math.inf
        return (
            self.error / self.tolerance if self.tolerance else math.copysign(math.inf, self.error)
        )


@dataclass(frozen=True)
class ArgumentReport:
    """All comparisons for one argument, or the reason why none could be made.

    Attributes:
        name: as the forward's signature has it, with the path to the array: ``state[0]``.
        shape: the argument's.
        comparisons: one a method.
        problem: what kept the gradient from being compared (absent, or of the wrong shape).
    """

    name: str
    shape: tuple[int, ...]
    comparisons: tuple[Comparison, ...] = ()
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether every comparison passed."""
        return not self.problem and all(c.passed for c in self.comparisons)

    @property
    def worst(self) -> Comparison | None:
        """The comparison that exceeds its tolerance by the largest factor."""
        return max(self.comparisons, key=lambda c: c.excess, default=None)


@dataclass(frozen=True)
class GradcheckReport:
    """The result of :func:`npllm.checking.gradcheck`; true where every argument passed."""

    arguments: tuple[ArgumentReport, ...]

    @property
    def passed(self) -> bool:
        """Whether every argument passed."""
        return all(argument.passed for argument in self.arguments)

    @property
    def worst(self) -> ArgumentReport:
        """The argument that failed, or came nearest to it."""

        def badness(argument: ArgumentReport) -> float:
            worst = argument.worst
            return math.inf if argument.problem or worst is None else worst.excess

        return max(self.arguments, key=badness)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        """A row an argument, and under a row that failed, where."""
        rows = [("argument", "shape", *self._methods(), "verdict")]
        below: dict[int, list[str]] = {}
        for argument in self.arguments:
            errors = {c.method: f"{c.error:.1e}" for c in argument.comparisons}
            rows.append(
                (
                    argument.name,
                    "x".join(map(str, argument.shape)) or "scalar",
                    *(errors.get(method, "-") for method in self._methods()),
                    "ok" if argument.passed else "FAILED",
                )
            )
            if not argument.passed:
                below[len(rows) - 1] = _explanation(argument)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for number, row in enumerate(rows):
            lines.append("  ".join(map(str.ljust, row, widths)).rstrip())
            lines.extend(f"    {line}" for line in below.get(number, []))
        return "\n".join(lines)

    def _methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c.method for a in self.arguments for c in a.comparisons))


def _explanation(argument: ArgumentReport) -> list[str]:
    if argument.problem:
        return [argument.problem]
    lines = []
    if len({c.passed for c in argument.comparisons}) == 2:
        lines.append(
            "the methods disagree with each other: a forward that is not analytic (abs, a norm) or "
            'draws at random misleads the complex step; ask methods=("central",) alone'
        )
    for c in argument.comparisons:
        if not c.passed:
            place = "a random direction" if c.index is None else f"index {list(c.index)}"
            lines.append(
                f"{c.method}, {place}: backward {c.analytic:.9g}, numeric {c.numeric:.9g}; "
                f"error {c.error:.1e} of the largest gradient, at most {c.tolerance:.0e} passes"
            )
    return lines
