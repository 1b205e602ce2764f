"""The memory of attention over T, tiled and plain: forward and backward of one causal layer.

Each row is a process of its own: the peak of its resident memory less what it held before, and the
time. The tiled one must grow with T, the plain one with T^2; where both fit, they must agree.

    python benchmarks/attention_memory.py
    python benchmarks/attention_memory.py --plot memory.png      needs matplotlib
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from npllm.layers import (
    attention_backward,
    attention_forward,
    tiled_attention_backward,
    tiled_attention_forward,
)

STEPS = (1024, 2048, 4096, 8192, 16384)
PLAIN_UP_TO = 8192  # beyond it the weights alone are 4 GB and more
HEADS, SIZE = 4, 64
PAIRS = {
    "tiled": (tiled_attention_forward, tiled_attention_backward),
    "plain": (attention_forward, attention_backward),
}
MB = 2**20


def measure(kind: str, steps: int) -> None:
    """Run one forward and backward, and print its peak, time and a sum to compare."""
    rng = np.random.default_rng(0)
    shape = (1, HEADS, steps, SIZE)
    q, k, v, dy = (rng.standard_normal(shape, np.float32) for _ in range(4))
    forward, backward = PAIRS[kind]
    forward(*(a[:, :, :64] for a in (q, k, v)), causal=True)  # what is loaded once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    y, cache = forward(q, k, v, causal=True)
    gradients = backward(dy, cache)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sums = [float(np.abs(a).sum(dtype=np.float64)) for a in (y, *gradients)]
    print(
        json.dumps(
            {"peak": 1024 * (peak - before), "whole": 1024 * peak, "seconds": seconds, "sums": sums}
        )
    )


def main() -> int:
    """Measure every row, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", metavar="FILE.png")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        measure(given.row[0], int(given.row[1]))
        return 0
    found: dict[str, dict[int, dict]] = {kind: {} for kind in PAIRS}
    print(f"{HEADS} heads of {SIZE}, float32, causal, forward and backward")
    print(f"{'T':>6}  {'tiled MB':>9}  {'process MB':>10}  {'s':>6}  {'plain MB':>9}  {'s':>6}")
    for steps in STEPS:
        for kind, rows in found.items():
            if kind == "tiled" or steps <= PLAIN_UP_TO:
                command = [sys.executable, __file__, "--row", kind, str(steps)]
                output = subprocess.run(command, capture_output=True, text=True, check=True)
                rows[steps] = json.loads(output.stdout)
        tiled, plain = found["tiled"][steps], found["plain"].get(steps)
        beside = f"{'-':>9}  {'-':>6}"
        if plain is not None:
            np.testing.assert_allclose(tiled["sums"], plain["sums"], rtol=1e-4)
            beside = f"{plain['peak'] / MB:9.0f}  {plain['seconds']:6.2f}"
        print(
            f"{steps:6}  {tiled['peak'] / MB:9.1f}  {tiled['whole'] / MB:10.0f}  "
            f"{tiled['seconds']:6.2f}  {beside}"
        )
    if given.plot:
        draw(found, given.plot)
    return 0


def draw(found: dict[str, dict[int, dict]], path: str) -> None:
    """Draw memory over T, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind, rows in found.items():
        axes.loglog(list(rows), [row["peak"] / MB for row in rows.values()], "o-", label=kind)
    axes.set(xlabel="T", ylabel="MB, forward and backward", title="Memory of causal attention")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
