"""One training step of section 5's model, npllm against torch eager on the same CPU.

Each contender runs in a process of its own (two frameworks in one process slow each other down) and
they take turns, so that a noisy machine is noisy for both. Before anything is timed they start from
the same weights, take the same steps on the same batches, and must agree on every loss.

    python benchmarks/train_step.py                    every row
    python benchmarks/train_step.py --threads 2 --rounds 9 default
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# vocab_size, embed_size, hidden_size, num_layers, batch, length
ROWS = {
    "default": (103, 256, 256, 1, 32, 64),
    "small": (103, 64, 64, 1, 8, 32),
    "two layers": (103, 256, 256, 2, 32, 64),
    "words": (10_000, 128, 128, 1, 16, 32),
}
Step = Callable[[np.ndarray, np.ndarray], float]

AGREEMENT_STEPS = 5
AGREEMENT = 1e-4  # float32 losses after a few steps, relative


def batch_of(row: tuple[int, ...], step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and targets of a step, the same in every process."""
    tokens = np.random.default_rng(step).integers(row[0], size=(row[4], row[5] + 1))
    return tokens[:, :-1], tokens[:, 1:]


@contextmanager
def npllm_stepper(row: tuple[int, ...], threads: int, weights: str) -> Iterator[Step]:
    """Give a function that takes a training step with npllm and returns the mean loss."""
    from npllm.checkpoint import load_weights
    from npllm.models import LSTMLanguageModel
    from npllm.optim import Adam
    from npllm.text.batches import Batch
    from npllm.training.shards import sharded_loss_and_gradients, workers

    model = LSTMLanguageModel(*row[:4])
    model.parameters.load(load_weights(weights))
    optimizer = Adam(model.parameters)
    with workers(threads) as pool:

        def step(x: np.ndarray, y: np.ndarray) -> float:
            result = sharded_loss_and_gradients(pool, model, Batch(x, y, continues=False))
            result.gradients.vector /= result.tokens
            optimizer.step(result.gradients)
            return result.loss / result.tokens

        yield step


@contextmanager
def torch_stepper(row: tuple[int, ...], threads: int, weights: str) -> Iterator[Step]:
    """Give a function that takes a training step with torch and returns the mean loss."""
    import torch
    from safetensors.torch import load_file
    from torch import nn

    torch.set_num_threads(threads)
    vocab_size, embed_size, hidden_size, num_layers = row[:4]

    class LanguageModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocab_size, embed_size)
            self.rnn = nn.LSTM(embed_size, hidden_size, num_layers, batch_first=True)
            self.fc = nn.Linear(hidden_size, vocab_size)

        def forward(self, x: Any) -> Any:
            output, _ = self.rnn(self.embedding(x))
            return self.fc(output)

    model = LanguageModel()
    model.load_state_dict(load_file(weights))
    optimizer = torch.optim.Adam(model.parameters())

    def step(x: np.ndarray, y: np.ndarray) -> float:
        logits = model(torch.from_numpy(x))
        loss = nn.functional.cross_entropy(
            logits.view(-1, vocab_size), torch.from_numpy(y).reshape(-1)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    yield step


STEPPERS = {"npllm": npllm_stepper, "torch": torch_stepper}


def serve(contender: str, row: tuple[int, ...], threads: int, weights: str) -> None:
    """Take steps on demand: a line with a number in, their losses and seconds out."""
    taken = 0
    with STEPPERS[contender](row, threads, weights) as step:
        for line in sys.stdin:
            losses, seconds = [], []
            for _ in range(int(line)):
                x, y = batch_of(row, taken)
                start = time.perf_counter()
                losses.append(step(x, y))
                seconds.append(time.perf_counter() - start)
                taken += 1
            print(json.dumps({"losses": losses, "seconds": seconds}), flush=True)


class Contender:
    """A process that takes training steps."""

    def __init__(self, name: str, row: str, threads: int, weights: str) -> None:
        # each framework's own threads: npllm's hold BLAS to one
        variables = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
        arguments = [sys.executable, __file__, "--serve", name, weights, "--threads", str(threads)]
        self.process = subprocess.Popen(
            [*arguments, row],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | variables,
        )

    def take(self, steps: int) -> dict[str, list[float]]:
        """Have it take some steps; return losses and seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer: dict[str, list[float]] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(row: str, threads: int, rounds: int, steps: int) -> str:
    """Return a line of the table: medians of both, and the ratio of each round."""
    from npllm.checkpoint import save_weights
    from npllm.models import LSTMLanguageModel

    with tempfile.TemporaryDirectory() as directory:
        weights = str(Path(directory) / "weights.safetensors")
        save_weights(weights, LSTMLanguageModel(*ROWS[row][:4]).parameters)
        contenders = {name: Contender(name, row, threads, weights) for name in STEPPERS}
        losses = {name: c.take(AGREEMENT_STEPS)["losses"] for name, c in contenders.items()}
        if not np.allclose(losses["npllm"], losses["torch"], rtol=AGREEMENT, atol=0):
            raise SystemExit(f"{row}: the losses differ, nothing was timed: {losses}")
        medians: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(rounds):
            turns = list(contenders.items())
            for name, contender in turns if number % 2 else turns[::-1]:
                contender.take(1)  # wake up
                medians[name].append(statistics.median(contender.take(steps)["seconds"]))
        for contender in contenders.values():
            contender.close()
    ratios = sorted(a / b for a, b in zip(medians["npllm"], medians["torch"], strict=True))
    ours, theirs = (1000 * statistics.median(medians[name]) for name in ("npllm", "torch"))
    return (
        f"| {row} | {threads} | {ours:.1f} | {theirs:.1f} | **{statistics.median(ratios):.2f}** "
        f"| {ratios[0]:.2f} to {ratios[-1]:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="default: all")
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10, help="in a round, of each contender")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    threads = options.threads or [1, 2]
    if options.serve:
        serve(options.serve[0], ROWS[options.rows[0]], threads[0], options.serve[1])
        return
    print("| model | threads | npllm ms | torch ms | npllm / torch | spread over rounds |")
    print("|---|---|---|---|---|---|")
    for row in options.rows or ROWS:
        for count in threads:
            print(compare(row, count, options.rounds, options.steps), flush=True)


if __name__ == "__main__":
    main()
