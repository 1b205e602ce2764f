"""How many cores there are, and the one rule of how many threads BLAS gets.

The threads of a BLAS wait for each other in every product: on an idle machine that gains little
where products are small, and beside another job each wait costs a turn of the scheduler. So BLAS
has one thread wherever npllm works, unless a person asks for more; it is held to them here only.
Where it has several, ``import npllm`` before NumPy: OpenBLAS then learns to wait no longer than a
millisecond for the next product, in which its threads keep a core from :func:`on_cores`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

_NAME = "npllm-core"
_LOCK = threading.RLock()
# Those in force, the latest last (they may end in any order): how many threads BLAS has, and over
# how many cores a function may spread its items.
_HOLDS: dict[object, tuple[int, int]] = {}
_BEFORE: list[Any] = []  # while any is: what gives BLAS back the threads that it had


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def blas_held(threads: int | None = None) -> AbstractContextManager[None]:
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
    return _hold(threads)


@contextmanager
def _hold(threads: int | None, cores: int | None = None) -> Iterator[None]:
    """Hold BLAS to so many threads, and functions' items to so many cores where that is another."""
    key = object()
    with _LOCK:
        before = _held()
        _HOLDS[key] = (threads or before or 1, cores or threads or before or 1)
        _apply(before)
    try:
        yield
    finally:
        with _LOCK:
            before = _held()
            del _HOLDS[key]
            _apply(before)


def granted_cores() -> int:
    """Return on how many threads :func:`on_cores` would run: one within an item of another's."""
    if threading.current_thread().name.startswith(_NAME):
        return 1
    with _LOCK:
        _, cores = next(reversed(_HOLDS.values()), (1, 1))
        return cores


def on_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return the function's results, on as many threads as BLAS is held to, in the items' order.

    It is for functions that spend their time in NumPy, which lets go of Python's lock. BLAS has one
    thread in each meanwhile.
    """
    granted = granted_cores()
    cores = min(granted, len(items))
    if cores <= 1:
        return [function(item) for item in items]
    with _hold(1, granted):
        return list(_threads(cores).map(function, items))


@cache
def _threads(cores: int) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(cores, _NAME)


def _after_fork() -> None:
    """Forget the parent's threads, and what one of them may have held."""
    global _LOCK
    _LOCK = threading.RLock()
    _threads.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _held() -> int | None:
    """Return to how many threads BLAS is held; None where nobody holds it."""
    threads, _ = next(reversed(_HOLDS.values()), (None, 1))
    return threads


def _apply(before: int | None) -> None:
    threads = _held()
    if threads == before:
        return
    if threads is None:
        _BEFORE.pop().restore_original_limits()
        return
    limits = _libraries(len(sys.modules)).limit(limits=threads, user_api="blas")
    if before is None:
        _BEFORE.append(limits)


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """Return the libraries, looked for again once there are more modules than there were.

    To look for them takes twenty times as long as to tell them how many threads they have.
    """
    del modules
    return ThreadpoolController()
