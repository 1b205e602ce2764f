"""Workers in processes of their own, on memory that all of them see.

Parameters, gradients and the optimizer's state lie in one block of shared memory without a name,
so that nothing is left behind however a process ends. The first worker is the parent. It sends each
of the others what to call, does its own share meanwhile, and takes their answers in order: only it
locks, reads and writes. A worker ends when its parent does, since its pipe closes.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from npllm.heap import keep_freed_memory
from npllm.layers.arrays import Array
from npllm.models import Trainable
from npllm.optim import Optimizer
from npllm.threads import blas_held
from npllm.training.shares import Piece, Recipe, Result, Share, SharedMemory, quietly, slices

ALIGNMENT = 64  # bytes: a line of the cache


class SharedVectors:
    """Vectors by name, of one dtype, in memory that child processes see too."""

    def __init__(self, context: Any, sizes: Mapping[str, int], dtype: np.dtype[Any]) -> None:
        self._dtype, self._places, end = dtype, {}, 0
        for name, size in sizes.items():
            self._places[name] = (end, size)
            end += -(-size * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        self._block = context.RawArray("b", end + ALIGNMENT)

    def __getitem__(self, name: str) -> Array:
        start, size = self._places[name]
        memory = np.frombuffer(self._block, np.uint8)
        start += -memory.ctypes.data % ALIGNMENT
        return memory[start : start + size * self._dtype.itemsize].view(self._dtype)


@dataclass
class Plan:
    """What a process needs to make its share: it is pickled where processes are spawned.

    Attributes:
        recipe: makes the model and the update rule.
        vectors: ``parameters`` and, where it is trained, ``gradients.0`` and so on, and the
            optimizer's state by ``state.`` and its name.
        count: how many workers there are.
    """

    recipe: Recipe
    vectors: SharedVectors
    count: int

    def share(self, rank: int, model: Trainable | None = None) -> Share:
        """Return a worker's share, of a model that is made where none is given."""
        rule = self.recipe.rule
        if model is None:
            model = self.recipe.model()
            model.parameters.view_into(self.vectors["parameters"])
        if rule is None:
            return Share(model)
        gradients = model.parameters.zeros_like()
        gradients.view_into(self.vectors[f"gradients.{rank}"])
        piece = slices(gradients.vector.size, self.count)[rank]
        states = {n: self.vectors[f"state.{n}"][piece] for n in rule.carried}
        rule = rule.over(self.vectors["parameters"][piece], states)
        vectors = [self.vectors[f"gradients.{n}"] for n in range(self.count)]
        return Share(model, gradients, [Piece(SharedMemory(vectors, piece), rule)])


class Processes:
    """A team of processes, this one the first of them.

    Args:
        model: its parameters move to shared memory.
        optimizer: its state moves too; None where nothing is trained.
        count: how many, two or more.
        start_method: "fork", "spawn" or the platform's own where None.
    """

    def __init__(
        self,
        model: Trainable,
        optimizer: Optimizer | None,
        count: int,
        start_method: str | None = None,
    ) -> None:
        self._context: Any = multiprocessing.get_context(start_method)
        vector = model.parameters.vector
        arrays = {"parameters": vector}
        sizes = {"parameters": vector.size}
        if optimizer is not None:
            arrays |= {f"state.{name}": array for name, array in optimizer.state.items()}
            sizes |= dict.fromkeys(arrays, vector.size)
            sizes |= {f"gradients.{n}": vector.size for n in range(count)}
        vectors = SharedVectors(self._context, sizes, vector.dtype)
        for name, array in arrays.items():
            vectors[name][...] = array
        model.parameters.view_into(vectors["parameters"])
        if optimizer is not None:
            optimizer.vector = vectors["parameters"]
            optimizer.state = {name: vectors[f"state.{name}"] for name in optimizer.state}
        self._plan = Plan(Recipe.of(model, optimizer), vectors, count)
        self.share = self._plan.share(0, model)
        self._others: list[tuple[Any, Any]] = []

    def start(self) -> None:
        """Start the others; Ctrl-C is for the parent alone."""
        if self._others:
            raise ValueError("the workers are already at work")
        if multiprocessing.current_process().daemon:
            raise ValueError("a process of a pool may start no others: set threads=1")
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        with _interrupts_ignored():
            for rank in range(1, self._plan.count):
                ours, theirs = self._context.Pipe()
                # a forked process has the parent's ends too, and would never see them close
                forked = self._context.get_start_method() == "fork"
                inherited = [ours, *(end for _, end in self._others)] if forked else []
                process = self._context.Process(
                    target=_serve, args=(theirs, inherited, self._plan, rank), daemon=True
                )
                process.start()
                theirs.close()
                self._others.append((process, ours))

    def collect(self) -> None:
        """All of it is seen here."""

    def close(self) -> None:
        """End the others, whatever they are at."""
        for process, connection in self._others:
            connection.close()
            process.kill()
        for process, _ in self._others:
            process.join()
        self._others = []

    def call(
        self, function: Callable[..., Result], arguments: Sequence[tuple[object, ...]]
    ) -> list[Result]:
        """Return what each worker's function of its share and its arguments returned.

        Raises:
            ChildProcessError: a worker is gone.
        """
        if arguments[1:] and not self._others:
            raise ValueError("the workers were not started: call within working()")
        try:
            others = self._others[: len(arguments) - 1]
            for other, own in zip(others, arguments[1:], strict=True):
                _exchange(other, "send", (function, own))
            results = [quietly(function, self.share, *arguments[0])]
            for other in others:
                succeeded, result = _exchange(other, "recv")
                if not succeeded:
                    raise result
                results.append(result)
        except BaseException:
            self.close()  # what the others answer now would be taken for another call's
            raise
        return results


def _exchange(other: tuple[Any, Any], method: str, *message: Any) -> Any:
    """Send to a worker, or receive from it."""
    process, connection = other
    try:
        return getattr(connection, method)(*message)
    except (EOFError, ConnectionError):
        process.join(1)
        code = process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        why = ", perhaps for lack of memory" if how == "signal 9" else ""
        raise ChildProcessError(
            f"a worker process ended ({how}){why}: "
            "go on from the last checkpoint, with fewer threads if need be"
        ) from None


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes that are started ignore Ctrl-C, which their parent is sent too."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say how signals are handled
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _serve(connection: Any, inherited: list[Any], plan: Plan, rank: int) -> None:
    """Call what the parent sends, until it closes the pipe."""
    for end in inherited:
        end.close()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the parent, which ends this process
    keep_freed_memory()
    share = plan.share(rank)
    with blas_held(1):
        while True:
            try:
                function, own = connection.recv()
            except (EOFError, ConnectionError):
                return
            try:
                answer = ForkingPickler.dumps((True, quietly(function, share, *own)))
            except Exception as error:
                answer = _told(error)
            try:
                connection.send_bytes(answer)
            except ConnectionError:
                return


def _told(error: Exception) -> memoryview:
    """Return a failure, pickled: the error itself where it can be sent."""
    try:
        answer = ForkingPickler.dumps((False, error))
        ForkingPickler.loads(answer)
    except Exception:  # whatever a foreign class does when it is pickled
        answer = ForkingPickler.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return answer
