"""A contender's own process: ``python -m benchmarks.contender`` answers lines of JSON.

Each line in asks for one thing, and one line out answers it. Whatever libraries print goes to the
standard error, so that nothing but answers comes out.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from threadpoolctl import threadpool_info

from benchmarks.row import PACKAGES, Task, Work
from benchmarks.rows import ROWS

LONG = 1.0  # seconds
COMPILED = ("jax", "torch.compile")  # what repeats was not compiled by what answers


def load(ask: dict[str, Any], stack: ExitStack) -> Work:
    """Return the work of a row, as the contender does it."""
    dtype = np.dtype(ask["dtype"])
    with np.load(ask["inputs"]) as file:
        inputs = {name: file[name] for name in file.files}
    inputs = {
        n: a.astype(dtype, copy=False) if a.dtype.kind == "f" else a for n, a in inputs.items()
    }
    task = Task(ask["sizes"], inputs, ask["cores"], dtype, Path(ask["folder"]), stack)
    if "torch" in PACKAGES[ask["contender"]]:
        hold_torch(task.cores)
    return ROWS[ask["row"]].contenders[ask["contender"]](task)


def hold_torch(cores: int) -> None:
    """Hold torch to the cores."""
    import torch

    torch.set_num_threads(cores)


def timed(work: Work, seconds: float, least: int) -> list[float]:
    """Repeat until the time is over and some are done; return the seconds of each repetition.

    The first one wakes the process up and is not counted, unless it is so long that this is
    nothing beside it: then it is all.
    """

    def once() -> float:
        work.before()
        start = time.perf_counter()
        work.repeat()
        return time.perf_counter() - start

    if (first := once()) > LONG:
        return [first]
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < end:
        found.append(once())
    return found


def libraries() -> list[dict[str, Any]]:
    """Return the BLAS and OpenMP libraries of the process, with the kernel that each picked."""
    names = ("internal_api", "version", "architecture", "num_threads", "threading_layer")
    found = [{name: info[name] for name in names if name in info} for info in threadpool_info()]
    if torch := sys.modules.get("torch"):  # its BLAS is a part of it, and not told of
        kernel = torch.backends.cpu.get_cpu_capability()
        found.append({"internal_api": "torch", "architecture": kernel})
    return found


class Server:
    """Answers what it is asked, one row at a time."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.work: Work | None = None
        self.warm = False  # whether what is compiled has been

    def rest(self) -> None:
        """Let go of the row."""
        self.work = None
        self.stack.close()
        gc.collect()

    def load(self, ask: dict[str, Any]) -> None:
        """Let go of the row before, and get ready for another."""
        self.rest()
        self.warm = ask["contender"] not in COMPILED
        self.work = load(ask, self.stack)

    def answer(self, ask: dict[str, Any]) -> Any:
        """Return the answer to one question."""
        if ask["do"] == "describe":
            return libraries()
        if ask["do"] == "load":
            return self.load(ask)
        if ask["do"] == "rest":
            return self.rest()
        if self.work is None:
            raise ValueError(f"there is nothing to {ask['do']}: load a row")
        if ask["do"] == "answer":
            return np.savez(ask["out"], **self.work.answer())
        if not self.warm:
            self.work.before()
            self.work.repeat()
            self.warm = True
        return timed(self.work, ask["seconds"], ask["least"])


def reply(server: Server, ask: dict[str, Any], out: IO[str]) -> None:
    """Write the answer; an error is one too."""
    try:
        answer = {"value": server.answer(ask)}
    except Exception as error:  # whatever a library raises is the contender's end
        traceback.print_exc()
        said = str(error).strip().splitlines()
        answer = {"error": f"{type(error).__name__}: {said[-1] if said else ''}"}
    out.write(json.dumps(answer) + "\n")
    out.flush()


def serve(lines: IO[str], out: IO[str]) -> None:
    """Answer until there are no more lines."""
    server = Server()
    with server.stack:
        for line in lines:
            ask = json.loads(line)
            if ask["do"] == "load" and ask["apart"] and hasattr(os, "fork"):
                serve_apart(ask, lines, out)
            else:
                reply(server, ask, out)


def serve_apart(ask: dict[str, Any], lines: IO[str], out: IO[str]) -> None:
    """Answer in a fork, as if this process were new, until the row is let go of.

    The fork finds imported what takes longest, and nothing that was ever used.
    """
    for package in PACKAGES[ask["contender"]]:
        with suppress(Exception):  # which the fork meets too, and tells
            importlib.import_module(package)
    if fork := os.fork():
        _, status = os.waitpid(fork, 0)
        if status:  # the parent then reads the last words
            os._exit(abs(os.waitstatus_to_exitcode(status)))
        return reply(Server(), {"do": "rest"}, out)  # which the fork did by its end
    server = Server()
    while ask["do"] != "rest":
        reply(server, ask, out)
        ask = json.loads(next(iter(lines), '{"do": "rest"}'))
    server.rest()
    os._exit(0)


def main() -> None:
    """Serve on the standard input and output; Ctrl-C is for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, out)


if __name__ == "__main__":
    main()
