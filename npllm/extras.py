"""What to say where a package is missing that only a part of npllm needs."""

from __future__ import annotations


def missing(need: str, packages: str, extra: str) -> ValueError:
    """Return the error of what cannot be done without packages.

    Args:
        need: what cannot be done, and what it lacks.
        packages: their names on the package index, set apart by spaces.
        extra: of npllm, that installs them.

    >>> print(missing("plots need matplotlib", "matplotlib", "plot"))
    plots need matplotlib: pip install '.[plot]' in npllm's checkout, or pip install matplotlib
    """
    return ValueError(
        f"{need}: pip install '.[{extra}]' in npllm's checkout, or pip install {packages}"
    )
