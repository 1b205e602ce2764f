"""A contender as its parent sees it: a process that is asked, watched and ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
POLL = 0.01  # seconds between two looks at the memory
PATIENCE = 2.0  # seconds in which a process that is not busy ends
# what would choose BLAS's kernels for everyone
REMOVED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


class ContenderError(Exception):
    """A contender failed or died; the message is the last line that it wrote."""


def environment(cores: int, folder: Path) -> dict[str, str]:
    """Return the variables of a contender's process."""
    kept = {name: value for name, value in os.environ.items() if name not in REMOVED}
    return {
        **kept,
        **dict.fromkeys(THREADS, str(cores)),
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes besides
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled"),
    }


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """Hold this thread, and what it starts meanwhile, to the first cores, where possible."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A process that does a contender's work.

    Args:
        name: of the contender.
        cores: how many it may use.
        folder: for its files.
        apart: whether each row has a process of its own, forked from this one where possible.
    """

    def __init__(self, name: str, cores: int, folder: Path, *, apart: bool = False) -> None:
        self.name, self.cores, self.folder, self.apart = name, cores, folder, apart
        self.log = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (see close)
        self.said = 0  # bytes of the log before the row
        with pinned(cores):
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.contender"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                env=environment(cores, folder),
                cwd=ROOT,
                start_new_session=True,  # so that all it starts can be ended
            )

    def send(self, **ask: object) -> None:
        """Ask for something.

        Raises:
            ContenderError: it has died.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(ask).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self._death() from None

    def receive(self) -> Any:
        """Return the answer to what was asked.

        Raises:
            ContenderError: it failed, or died.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._death()
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer["value"]

    def ask(self, **ask: object) -> Any:
        """Ask, and return the answer."""
        self.send(**ask)
        return self.receive()

    def load(self, row: str, sizes: object, inputs: Path, dtype: str = "float32") -> None:
        """Ask it to get ready for a row; the answer comes when it is."""
        self.said = os.fstat(self.log.fileno()).st_size
        self.send(
            do="load",
            row=row,
            contender=self.name,
            sizes=sizes,
            inputs=str(inputs),
            cores=self.cores,
            dtype=dtype,
            folder=str(self.folder),
            apart=self.apart,
        )

    def peak_memory(self) -> int | None:
        """Return the most bytes that it and its children held while it worked.

        None where the system does not tell. A page that processes share counts in parts.
        """
        if held(self.process.pid) is None:
            return None
        assert self.process.stdout is not None
        self.send(do="repeat", seconds=0.0, least=2)
        peak = 0
        while not select.select([self.process.stdout], [], [], POLL)[0]:
            peak = max(peak, held(self.process.pid) or 0)
        self.receive()
        return max(peak, held(self.process.pid) or 0)

    def close(self) -> None:
        """End the process and what it started; by force where they are busy."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(OSError):  # what it did not read
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        if hasattr(os, "killpg"):
            with suppress(OSError):  # all have ended
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def _death(self) -> ContenderError:
        code = self.process.wait()
        self.log.seek(self.said)
        lines = self.log.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        return ContenderError(said[-1] if said else f"ended with status {code}")


class Crew:
    """The contenders' processes, forked for each row: to start them takes a third of a race.

    Args:
        folder: for their files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: dict[tuple[str, int], Process] = {}
        self.stack = ExitStack()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def of(self, names: Iterable[str], cores: int) -> dict[str, Process]:
        """Return the contenders' processes; those are started that are not there, or have ended."""
        found = {}
        for name in names:
            process = self.started.get((name, cores))
            if process is None or process.process.poll() is not None:
                process = Process(name, cores, self.folder, apart=True)
                self.stack.callback(process.close)
                self.started[name, cores] = process
            found[name] = process
        return found

    def rest(self) -> None:
        """Let all of them forget their row."""
        for process in self.started.values():
            with suppress(ContenderError):  # it has ended
                process.ask(do="rest")


@contextmanager
def processes(names: Iterable[str], cores: int, folder: Path) -> Iterator[dict[str, Process]]:
    """Start a process for each contender, and end them all."""
    with ExitStack() as stack:
        found = {}
        for name in names:
            found[name] = Process(name, cores, folder)
            stack.callback(found[name].close)
        yield found


def held(pid: int) -> int | None:
    """Return the bytes that a process and its children hold; None where nothing tells."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    total = sum(1024 * int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
    return total + sum(held(child) or 0 for child in children(pid))


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    found: list[int] = []
    try:
        paths = list(Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:  # it has ended while its threads were listed
        return found
    for path in paths:
        try:
            found += map(int, path.read_text(encoding="ascii").split())
        except OSError:  # a thread that has ended
            continue
    return found
