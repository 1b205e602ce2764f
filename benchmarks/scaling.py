"""What a training step takes on many ranks: measured on two, predicted for up to 4,096.

A step's time on p ranks, each with the same rows, is taken to be

    compute + update / p + 2 k log2(p) a + 2 (p - 1) / p bytes b + (p - 1) c

with a reduce-scatter and an all-gather of each of the k buckets of the flat gradient (the
latency-bandwidth model of Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication
Operations in MPICH" (2005); the sum's arithmetic is in b), and c what rank 0 takes to ask one rank
and to hear its answers. Compute and update are measured on one core, a, b and c between two ranks,
and the model is held against steps of two ranks.

    python -m benchmarks.scaling --json scaling.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.machine import cpu_model, usable_cores
from benchmarks.process import environment
from benchmarks.row import Sizes
from benchmarks.rows import lstm, transformers

if TYPE_CHECKING:
    from npllm.models import LanguageModel
    from npllm.training.ranks import World

SIZES = [2**n for n in range(10, 27, 2)]  # numbers that are exchanged
RANKS, SPLIT = (2, 8, 64, 512, 4096), (2, 4, 8)
ROWS = {row.name: row for row in (*lstm.ROWS, *transformers.ROWS)}
MODELS: dict[str, tuple[Callable[..., LanguageModel], Sizes]] = {
    "lstm-default": (lstm.model_of, ROWS["lstm-default"].sizes),
    "llama": (transformers.llama_of, ROWS["llama"].sizes),
    "gpt2": (transformers.gpt_of, ROWS["gpt2"].sizes),
}


class Network(NamedTuple):
    """Seconds that a message takes, and a byte of it, and rank 0 for each of the others."""

    latency: float
    per_byte: float
    per_rank: float


# The line rate of both; their latencies, and rank 0's time, are round numbers, not measured.
ASSUMED = {
    "Ethernet, 10 Gbit/s": Network(30e-6, 8 / 10e9, 200e-6),
    "InfiniBand, 200 Gbit/s": Network(2e-6, 8 / 200e9, 50e-6),
}


class Parts(NamedTuple):
    """What a step of a model is made of on one core, in seconds, and how many parameters it has."""

    compute: float
    update: float
    parameters: float

    def on(self, ranks: int, network: Network) -> tuple[float, float]:
        """Return a step's time on so many ranks, and its efficiency: one rank's over that."""
        size = 4 * self.parameters
        exchanged = 2 * messages(int(self.parameters)) * math.log2(ranks) * network.latency
        exchanged += 2 * (ranks - 1) / ranks * size * network.per_byte
        step = self.compute + self.update / ranks + exchanged + (ranks - 1) * network.per_rank
        return step, (self.compute + self.update) / step


def messages(size: int) -> int:
    """Return in how many buckets npllm exchanges so many numbers."""
    from npllm.training.ranks import buckets

    return len(buckets(size))


def median_time(function: Callable[[], object], seconds: float = 1.0) -> float:
    """Return the median of what the function takes, after one call that is not counted."""
    function()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def step_of(name: str, world: World | None) -> dict[str, float]:
    """Return what a step takes here, in its two parts; all ranks have as many rows."""
    from npllm.optim import AdamW
    from npllm.text.batches import Batch
    from npllm.training.workers import Workers

    model_of, sizes = MODELS[name]
    model = model_of(sizes, seed=0)
    rows = sizes["batch"] * (1 if world is None else world.size)
    ids = np.random.default_rng(0).integers(sizes["V"], size=(2, rows, sizes["steps"]))
    batch, optimizer = Batch(*ids, False), AdamW(model.parameters)
    with Workers(model, optimizer, world=world).working() as workers:
        # the two halves of the exchange lie in the two parts
        compute = median_time(lambda: workers.differentiate(batch), 3)
        update = median_time(lambda: workers.update(1e-4, 1.0), 3)
    return {"compute": compute, "update": update, "parameters": model.parameters.vector.size}


def exchange(_: object, size: int, buckets: int) -> float:
    """Return what it takes to sum and to gather so many numbers, in so many parts."""
    from mpi4py import MPI

    from npllm.training.ranks import Collective
    from npllm.training.shares import slices

    gradients, parameters = np.zeros((2, size), np.float32)
    parts = [
        Collective(MPI.COMM_WORLD, gradients[part], parameters[part])
        for part in slices(size, buckets)
    ]
    times = []
    for _ in range(max(5, min(400, 2**25 // size))):
        start = time.perf_counter()
        for part in parts:
            part.reduce()
        for part in parts:
            part.gather()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def nothing(_: object) -> None:
    """Do nothing, so that asking and answering are what is measured."""


def exchanges(world: World) -> dict[str, Any]:
    """Return what exchanges of several sizes take, and asking each rank three times."""
    from npllm.models import LSTMLanguageModel
    from npllm.training.ranks import Ranks

    ranks = Ranks(LSTMLanguageModel(2, 1, 1), None, world)
    ranks.start()

    def taken(size: int, buckets: int) -> float:
        return max(ranks.call(exchange, [(size, buckets)] * world.size))

    sizes = {size: taken(size, messages(size)) for size in SIZES}
    buckets = {count: taken(2**24, count) for count in (1, 4, 16, 64)}
    asked = median_time(lambda: [ranks.call(nothing, [()] * world.size) for _ in range(3)])
    ranks.close()
    return {"sizes": sizes, "buckets": buckets, "asked": asked}


def fitted(measured: dict[str, Any]) -> Network:
    """Return the latency and the bandwidth that fit exchanges between two ranks best.

    Between two, an exchange of n numbers in k buckets takes 2 k a + 4 n b. The relative errors are
    least.
    """
    times = {int(size): seconds for size, seconds in measured["sizes"].items()}
    design = np.array([[2 * messages(size) / t, 4 * size / t] for size, t in times.items()])
    (latency, per_byte), *_ = np.linalg.lstsq(design, np.ones(len(design)), rcond=None)
    return Network(float(latency), float(per_byte), measured["asked"])


def on_ranks(ranks: int, *words: str) -> Any:
    """Return what rank 0 of so many prints, one core each."""
    command = [sys.executable, "-m", "benchmarks.scaling", *words]
    if ranks > 1:
        mpiexec = Path(sysconfig.get_path("scripts"), "mpiexec")
        command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", str(ranks), *command]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, encoding="utf-8", check=True, env=environment(1, Path())
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def predictions(parts: dict[str, Parts], networks: dict[str, Network]) -> list[str]:
    """Return a table: each model on each network on many ranks."""
    lines = ["| model | network | " + " | ".join(f"{ranks:,}" for ranks in RANKS) + " |"]
    lines.append("|" + "---|" * (2 + len(RANKS)))
    for name, own in parts.items():
        for title, network in networks.items():
            cells = []
            for ranks in RANKS:
                step, efficiency = own.on(ranks, network)
                cells.append(f"{1e3 * step:,.0f} ms, {efficiency:.0%}")
            lines.append(f"| {name} | {title} | {' | '.join(cells)} |")
    return lines


def split_products(parts: dict[str, Parts], networks: dict[str, Network]) -> list[str]:
    """Return a table: the efficiency of Transformers whose products several ranks share.

    Shoeybi et al., "Megatron-LM" (2019): each block then has two all-reduces of (B, T, E) forwards
    and two backwards.
    """
    lines = ["| model | network | " + " | ".join(f"{ranks:,}" for ranks in SPLIT) + " |"]
    lines.append("|" + "---|" * (2 + len(SPLIT)))
    for name, own in parts.items():
        _, sizes = MODELS[name]
        if "blocks" not in sizes:
            continue
        size = 4 * sizes["batch"] * sizes["steps"] * sizes["width"]
        for title, network in networks.items():
            cells = []
            for ranks in SPLIT:
                one = 2 * math.log2(ranks) * network.latency
                one += 2 * (ranks - 1) / ranks * size * network.per_byte
                step = own.compute / ranks + 4 * sizes["blocks"] * one
                cells.append(f"{1e3 * step:,.0f} ms, {own.compute / ranks / step:.0%}")
            lines.append(f"| {name} | {title} | {' | '.join(cells)} |")
    return lines


def report(parts: dict[str, Parts], measured: dict[str, Any], pairs: dict[str, Any]) -> list[str]:
    """Return all that was measured, and what follows from it, as Markdown."""
    network = fitted(measured)
    gigabytes = 1e-9 / network.per_byte
    lines = [f"{cpu_model()}, {len(usable_cores())} cores", ""]
    lines += ["| numbers | exchange between two ranks | as fitted |", "|---|---|---|"]
    for size, seconds in measured["sizes"].items():
        fit = 2 * messages(int(size)) * network.latency + 4 * int(size) * network.per_byte
        lines.append(f"| {int(size):,} | {1e3 * seconds:.3f} ms | {1e3 * fit:.3f} ms |")
    lines += ["", f"a = {1e6 * network.latency:.1f} us, 1 / b = {gigabytes:.2f} GB/s, "]
    lines[-1] += f"c = {1e6 * network.per_rank:.0f} us"
    cut = ", ".join(f"{count}: {1e3 * s:.1f} ms" for count, s in measured["buckets"].items())
    lines += ["", f"2^24 numbers in buckets: {cut}", ""]
    lines += ["| model | parameters | compute | update | two ranks | predicted |", "|" + "---|" * 6]
    for name, own in parts.items():
        step, _ = own.on(2, network)
        pair = pairs[name]["compute"] + pairs[name]["update"]
        lines.append(
            f"| {name} | {own.parameters:,.0f} | {1e3 * own.compute:.1f} ms | "
            f"{1e3 * own.update:.1f} ms | {1e3 * pair:.1f} ms | {1e3 * step:.1f} ms |"
        )
    lines += ["", "Time of a step and efficiency on so many ranks, each with as many rows:", ""]
    networks = {"as between two ranks here": network, **ASSUMED}
    lines += predictions(parts, networks)
    lines += ["", "Loss and gradient of one batch whose products so many ranks share:", ""]
    return lines + split_products(parts, networks)


def measure(rounds: int) -> dict[str, Any]:
    """Measure all that the model needs: one rank and two in turns, of which the medians count."""
    measured = on_ranks(2, "--exchanges")
    taken: dict[int, dict[str, list[dict[str, float]]]] = {1: {}, 2: {}}
    for _ in range(rounds):
        for name in MODELS:
            for ranks, of_models in taken.items():
                of_models.setdefault(name, []).append(on_ranks(ranks, "--step", name))
    alone, pairs = (
        {
            name: {key: float(np.median([one[key] for one in times])) for key in times[0]}
            for name, times in of_models.items()
        }
        for of_models in taken.values()
    )
    return {"alone": alone, "exchanges": measured, "pairs": pairs}


def read(path: Path) -> dict[str, Any]:
    """Return what was measured before.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found.keys() != {"alone", "exchanges", "pairs"}:
            raise ValueError
    except (ValueError, AttributeError):
        raise ValueError(f"{path} is no file that --json of this benchmark wrote") from None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, fit and predict; a rank does its part."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument(
        "--measured", type=Path, metavar="FILE", help="predict from what --json wrote"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each")
    parser.add_argument("--step", choices=list(MODELS), help=argparse.SUPPRESS)
    parser.add_argument("--exchanges", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measured is None and importlib.util.find_spec("mpi4py") is None:
        print(f"{parser.prog}: it needs MPI: pip install '.[mpi]'", file=sys.stderr)
        return 2
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    if options.json is not None and (options.json.is_dir() or not options.json.parent.is_dir()):
        parser.error(f"{options.json} cannot be written: name a file in a directory that exists")
    if options.step is None and not options.exchanges:
        try:
            found = measure(options.rounds) if options.measured is None else read(options.measured)
            if options.json is not None:
                options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 2
        parts = {name: Parts(**own) for name, own in found["alone"].items()}
        print("\n".join(report(parts, found["exchanges"], found["pairs"])))
        return 0
    from npllm.training import ranks

    return ranks.run(partial(_measured, options.step))


def _measured(step: str | None, world: World | None) -> int:
    """Measure on rank 0, with the others, and print it."""
    if step is not None:
        print(json.dumps(step_of(step, world)))
    else:
        assert world is not None
        print(json.dumps(exchanges(world)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
