"""How many cores there are, and the one rule of how many threads BLAS gets.

The threads of a BLAS wait for each other in every product: on an idle machine that gains little
where products are small, and beside another job each wait costs a turn of the scheduler. So BLAS
has one thread wherever npllm works, unless a person asks for more; it is held to them here only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_HOLDS: list[int] = []  # those in force


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def blas_held(threads: int | None = None) -> Iterator[None]:
    """Hold BLAS to a number of threads, in the whole process.

    Args:
        threads: how many. None leaves the word to a caller: as many as BLAS is held to already,
            and one where nobody holds it.

    Raises:
        ValueError: ``threads`` is below 1.

    >>> with blas_held():  # one thread
    ...     with blas_held(2), blas_held():  # two, and still two
    ...         pass
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if threads is None and _HOLDS:
        yield
        return
    with threadpool_limits(threads or 1, "blas"):
        _HOLDS.append(threads or 1)
        try:
            yield
        finally:
            _HOLDS.pop()
