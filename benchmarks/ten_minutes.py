"""Ten minutes of training: a Llama-style model beside an LSTM of the same size, on the same text.

Both have about a million parameters, the same vocabulary of 2,000 pieces of words and about the
same minutes of the same machine, each in a process of its own, one after the other: how many steps
fit is measured first, so that the learning rate falls to its end, and the table says how long they
took. Held out is the end of the text.

    python benchmarks/ten_minutes.py --data FILE
    python benchmarks/ten_minutes.py --minutes 1 --threads 1     on the default corpus

The runs stay in runs/ten-minutes, to be looked at with npllm plot, generate and evaluate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from npllm.generation import generate
from npllm.sampling import Sampling
from npllm.training import LanguageModellingOptions, Run

CALIBRATION = 40  # steps, of which the first half warms up
COMMON = LanguageModellingOptions(
    tokenizer="bpe", vocab_size=2000, optimizer="adamw", weight_decay=0.1, held_out=0.02
)
# batches and learning rates: the best of a few runs of a minute or two, for each
CONTENDERS = {
    "llama": replace(
        COMMON,
        model="llama",
        layers=4,
        heads=4,
        kv_heads=2,
        width=128,
        context=128,
        batch_size=8,
        tie_weights=True,
        lr=3e-3,
    ),
    "lstm": replace(
        COMMON,
        model="lstm",
        embed_size=248,
        hidden_size=248,
        length=64,
        batch_size=16,
        tie_weights=True,
        lr=1.6e-2,
    ),
}


def seconds_a_step(options: LanguageModellingOptions) -> float:
    """Return how long a step takes, from a short run that is thrown away."""
    quiet = replace(options, steps=CALIBRATION, log_every=10**9, eval_every=10**9)
    with tempfile.TemporaryDirectory() as room:
        times = [time.perf_counter()]
        for _ in Run.create(Path(room) / "run", quiet).train():
            times.append(time.perf_counter())
    half = times[CALIBRATION // 2 : CALIBRATION]  # the last step saves and evaluates
    return float(np.median(np.diff(half)))


def contend(name: str, options: LanguageModellingOptions, minutes: float, out: Path) -> None:
    """Train one contender, and print what came of it."""
    steps = max(1, int(60 * minutes / seconds_a_step(options)))
    every = max(1, steps // 10)
    options = replace(options, steps=steps, eval_every=every, checkpoint_every=every)
    run = Run.create(out / name, options)
    curve, start = [], time.perf_counter()
    for step in run.train():
        if step.record and step.record["val_perplexity"] is not None:
            point = {key: step.record[key] for key in ("train_loss", "val_perplexity")}
            curve.append({**point, "step": step.step, "seconds": time.perf_counter() - start})
            final = step.record
    written = generate(
        run.model, run.task.tokenizer.encode("\n"), 120, np.random.default_rng(0), Sampling(0.7)
    )
    result = {
        "parameters": run.model.parameters.vector.size,
        "steps": steps,
        "tokens": steps * run.task.batch_size * options.window,
        "of": run.task.train_tokens,
        "seconds": curve[-1]["seconds"],
        "perplexity": final["val_perplexity"],
        "bits": final["val_bits_per_character"],
        "curve": curve,
        "sample": run.task.tokenizer.decode(list(written)),
    }
    print(json.dumps(result))


def main() -> int:
    """Run both, and print the curves, the table and the samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a UTF-8 text (default: the Python language reference)")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/ten-minutes"))
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        options = replace(CONTENDERS[given.contender], data=given.data, threads=given.threads)
        contend(given.contender, options, given.minutes, given.out)
        return 0
    found = {}
    for name in CONTENDERS:
        command = [sys.executable, __file__, *sys.argv[1:], f"--contender={name}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        found[name] = json.loads(done.stdout)
    for name, result in found.items():
        print(f"\n{name}: step, seconds, training loss, held-out perplexity")
        for point in result["curve"]:
            print(
                f"{point['step']:7}  {point['seconds']:6.0f}  {point['train_loss']:.4f}  "
                f"{point['val_perplexity']:8.2f}"
            )
    print("\ncontender  parameters  steps   tokens (passes)   seconds  perplexity  bits/character")
    for name, r in found.items():
        passes = r["tokens"] / r["of"]
        print(
            f"{name:9}  {r['parameters']:10,}  {r['steps']:5,}  {r['tokens']:9,} ({passes:5.2f})  "
            f"{r['seconds']:7.0f}  {r['perplexity']:10.2f}  {r['bits']:14.4f}"
        )
    for name, result in found.items():
        print(f"\n--- {name} writes, at temperature 0.7:\n{result['sample']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
