"""What a gradient check found, where, and why: as text, as a table, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Cause:
    """Something that the numbers show.

    Attributes:
        key: what kind it is, for programs: "scale", "sign", "mean_term", "stale" ...
        text: one sentence.
    """

    key: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Comparison:
    """The worst element of one argument's gradient by one method.

    Attributes:
        method: "complex step", "central difference", "fourth order" or "Richardson".
        error: ``|analytic - numeric|`` there, relative to the argument's largest gradient; for a
            direction, to its norm; 0 where both are zero but for rounding.
        tolerance: the largest error that passes.
        rounding: the error that rounding alone can make of the numeric value; that passes too.
        index: where in the argument; None for a random direction.
        analytic: the backward's value there (for a direction, its product with the gradient).
        numeric: the method's value.
        checked: how many elements or directions were compared.
    """

    method: str
    error: float
    tolerance: float
    rounding: float
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    checked: int

    @property
    def passed(self) -> bool:
        """Whether the error is a number, and within the tolerance or what rounding explains."""
        return self.error <= max(self.tolerance, self.rounding)

    @property
    def excess(self) -> float:
        """The error in units of what passes; infinite where it is no number."""
        if math.isnan(self.error):
            return math.inf
        limit = max(self.tolerance, self.rounding)
        return self.error / limit if limit else math.copysign(math.inf, self.error)

    @property
    def ratio(self) -> float:
        """How many times too large the backward's value is."""
        return self.analytic / self.numeric if self.numeric else math.nan

    def __str__(self) -> str:
        if self.method == "symmetry":
            return (
                f"derivative of the backward: u . Hv {self.analytic:.9g}, v . Hu {self.numeric:.9g}"
                f"; error {self.error:.1e} of their terms, "
                f"at most {max(self.tolerance, self.rounding):.0e} passes"
            )
        place = "a random direction" if self.index is None else f"index {list(self.index)}"
        ratio = f", ratio {self.ratio:.6g}" if math.isfinite(self.ratio) else ""
        return (
            f"{self.method}, {place}: backward {self.analytic:.9g}, numeric {self.numeric:.9g}"
            f"{ratio}; error {self.error:.1e} of the largest gradient, "
            f"at most {max(self.tolerance, self.rounding):.0e} passes"
        )


@dataclass(frozen=True)
class ArgumentReport:
    """All comparisons for one argument, or the reason why none could be made.

    Attributes:
        name: as the forward's signature has it, with the path to the array: ``state[0]``.
        shape: the argument's.
        comparisons: one a method.
        causes: where it failed, why: what kept the gradient from being compared (absent, or of the
            wrong shape), or what the numbers show.
        structural_zero: the function does not depend on it, and the backward says so.
    """

    name: str
    shape: tuple[int, ...]
    comparisons: tuple[Comparison, ...] = ()
    causes: tuple[Cause, ...] = ()
    structural_zero: bool = False

    @property
    def passed(self) -> bool:
        """Whether it was compared, by every method, and every comparison passed."""
        return bool(self.comparisons) and all(c.passed for c in self.comparisons)

    @property
    def worst(self) -> Comparison | None:
        """The comparison that exceeds its tolerance by the largest factor."""
        return max(self.comparisons, key=lambda c: c.excess, default=None)

    @property
    def verdict(self) -> str:
        """In a word or two: ok, ok (zero), ok (empty), ok (rounding), FAILED."""
        if not self.passed:
            return "FAILED"
        if 0 in self.shape:
            return "ok (empty)"
        if self.structural_zero:
            return "ok (zero)"
        within = all(c.error <= c.tolerance for c in self.comparisons)
        return "ok" if within else "ok (rounding)"


@dataclass(frozen=True)
class GradcheckReport:
    """The result of :func:`npllm.checking.gradcheck`; true where everything passed.

    Attributes:
        arguments: a report for each floating array.
        findings: what is wrong with the pair as a whole, whatever its numbers: a forward that
            draws at random, a backward that accumulates, arrays that were written to or shared.
        notes: what was done otherwise than asked, and why.
        dtype: that the layer computed in.
    """

    arguments: tuple[ArgumentReport, ...]
    findings: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    dtype: str = "float64"

    @property
    def passed(self) -> bool:
        """Whether there are arguments, all of them passed, and nothing was found."""
        passed = [argument.passed for argument in self.arguments]
        return not self.findings and bool(passed) and all(passed)

    @property
    def worst(self) -> ArgumentReport | None:
        """The argument that failed, or came nearest to it; None where none could be compared."""

        def badness(argument: ArgumentReport) -> float:
            worst = argument.worst
            return math.inf if worst is None else worst.excess

        return max(self.arguments, key=badness, default=None)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Every cause, of the findings and of the arguments."""
        return (*self.findings, *(cause for a in self.arguments for cause in a.causes))

    def __bool__(self) -> bool:
        return self.passed

    def table(self) -> str:
        """Return a row an argument: the error by each method, and the verdict."""
        return "\n".join(self._rows())

    def __str__(self) -> str:
        """The table; under a row that failed, where and why; then the tolerances and notes."""
        header, *rows = self._rows()
        lines = [f"FAILED: {finding}" for finding in self.findings]
        if rows:
            lines.append(header)
        for row, argument in zip(rows, self.arguments, strict=True):
            lines.append(row)
            if not argument.passed:
                causes = argument.causes or ("it is wrong, by no known pattern",)
                lines.extend(f"    {cause}" for cause in causes)
                lines.extend(f"    {c}" for c in argument.comparisons if not c.passed)
        tolerances = {c.method: c.tolerance for a in self.arguments for c in a.comparisons}
        if tolerances:
            figures = ", ".join(f"{method} {tol:.0e}" for method, tol in tolerances.items())
            lines.append(f"what passes in {self.dtype}, of the largest gradient: {figures}")
        lines.extend(f"note: {note}" for note in self.notes)
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """Return all of it as dicts, lists, strings and numbers."""
        report = asdict(self)
        for argument, values in zip(self.arguments, report["arguments"], strict=True):
            values["verdict"] = argument.verdict
        return {"passed": self.passed, **report}

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON; a number that is none is the string "nan" or "inf"."""
        return json.dumps(finite(self.to_dict()), indent=2, allow_nan=False)

    def _rows(self) -> list[str]:
        methods = tuple(dict.fromkeys(c.method for a in self.arguments for c in a.comparisons))
        rows = [("argument", "shape", *methods, "verdict")]
        for argument in self.arguments:
            errors = {c.method: f"{c.error:.1e}" for c in argument.comparisons}
            shape = "x".join(map(str, argument.shape)) or "scalar"
            cells = (errors.get(method, "-") for method in methods)
            rows.append((argument.name, shape, *cells, argument.verdict))
        return aligned(rows)


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the rows as lines, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def finite(value: object) -> object:
    """Return a tree in which numbers that JSON lacks are strings."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
