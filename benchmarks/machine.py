"""What machine this is, and with which libraries: what a measurement means nothing without."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import held, processes
from benchmarks.rows import product

PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "jax",
    "autograd",
    "mygrad",
    "transformers",
    "tiktoken",
    "tokenizers",
    "xllamacpp",
)


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_model() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in found.items()}
    return named.get("model name", platform.machine())


def caches() -> dict[str, str]:
    """Return the sizes of the first core's caches by their names, where the system tells them."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (folder / name).read_text(encoding="ascii").strip()
            for name in ("level", "type", "size")
        )
        found[f"L{level}{kind[0].lower() if kind != 'Unified' else ''}"] = size
    return found


def versions() -> dict[str, str]:
    """Return the version of each package that is installed, and npllm's and Python's."""
    import npllm

    found = {"python": platform.python_version(), "npllm": npllm.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def libraries(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the BLAS and OpenMP libraries that npllm and torch load, each in its process."""
    (row,) = product.ROWS
    assert row.small is not None
    inputs = folder / "libraries.npz"
    np.savez(inputs, **row.inputs(row.small))
    with processes(("npllm", "torch"), 1, folder) as started:
        for process in started.values():
            process.load(row.name, row.small, inputs)
            process.receive()
        return {name: process.ask(do="describe") for name, process in started.items()}


def describe(folder: Path) -> dict[str, Any]:
    """Return all that is known of the machine; processes may write to the folder."""
    return {
        "cpu": cpu_model(),
        "cores": len(usable_cores()),
        "caches": caches(),
        "system": platform.platform(),
        "load": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "not known",
        "versions": versions(),
        "libraries": libraries(folder),
        "memory": "not measured"
        if held(os.getpid()) is None
        else "summed PSS of all its processes",
    }
