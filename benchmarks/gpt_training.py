"""A character GPT trained on the default corpus, npllm beside torch eager on the same CPU.

Both start from the same weights and take the same steps on the same batches: AdamW, warm-up and
cosine, gradients clipped to a norm of 1, float32. Each trains in a process of its own, one after
the other. The losses of the first steps must agree; at the end both models are scored on the
held-out text by the same code.

    python benchmarks/gpt_training.py                        2,000 steps, some minutes
    python benchmarks/gpt_training.py --steps 200 --threads 2
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from npllm.checkpoint import load_weights, save_weights
from npllm.text import load_text, split_text
from npllm.training import LanguageModellingOptions, evaluate
from npllm.training.workers import Workers

AGREEMENT_STEPS, AGREEMENT = 10, 1e-3  # of float32 losses, relative
CONTENDERS = ("npllm", "torch")


def options_of(steps: int) -> LanguageModellingOptions:
    """Return what both are determined by."""
    return LanguageModellingOptions(
        model="gpt",
        layers=4,
        heads=4,
        width=128,
        context=64,
        batch_size=12,
        optimizer="adamw",
        weight_decay=0.01,
        lr=1e-3,
        steps=steps,
    )


class Task:
    """The text, the batches, the weights: everything but the arithmetic."""

    def __init__(self, steps: int) -> None:
        self.options = options_of(steps)
        text = load_text()
        train, self.held_out = split_text(text, self.options.held_out)
        self.tokenizer = self.options.make_tokenizer(train, text)
        ids = self.tokenizer.encode(train)
        self.batches = self.options.make_batches(ids, self.options.batch_size)
        self.rate = self.options.make_schedule()
        size = len(self.tokenizer.vocabulary)
        self.model = self.options.make_model(size, np.random.default_rng(0))

    def score(self) -> float:
        """Return the held-out loss of the model's weights."""
        ids = self.tokenizer.encode(self.held_out)
        return evaluate(Workers(self.model), self.tokenizer, ids).loss


def train_npllm(task: Task, threads: int) -> list[float]:
    """Train, and return the loss of each step."""
    optimizer, losses = task.options.make_optimizer(task.model), []
    with Workers(task.model, optimizer, threads).working() as workers:
        for step in range(task.options.steps):
            result = workers.differentiate(task.batches[step])
            workers.update(task.rate(step), result.norm, task.options.clip)
            losses.append(result.loss / result.tokens)
    return losses


def train_torch(task: Task, threads: int) -> list[float]:
    """Train in torch's layers, put the weights back, and return the loss of each step."""
    import torch

    torch.set_num_threads(threads)
    f, o = torch.nn.functional, task.options
    p = {
        n: torch.nn.Parameter(torch.tensor(task.model.parameters[n]))
        for n in task.model.parameters.shapes
    }

    def affine(x: Any, name: str) -> Any:
        flat = torch.addmm(p[f"{name}.bias"], x.flatten(0, 1), p[f"{name}.weight"])
        return flat.unflatten(0, x.shape[:2])

    def norm(x: Any, name: str) -> Any:
        return f.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"])

    def heads(x: Any) -> Any:
        return x.unflatten(-1, (o.heads, -1)).transpose(1, 2)

    def loss_of(ids: Any, targets: Any) -> Any:
        x = p["transformer.wte.weight"][ids] + p["transformer.wpe.weight"][: ids.shape[1]]
        for n in range(o.layers):
            block = f"transformer.h.{n}"
            q, k, v = affine(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn").chunk(3, -1)
            y = f.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True)
            x = x + affine(y.transpose(1, 2).flatten(2), f"{block}.attn.c_proj")
            m = affine(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
            x = x + affine(f.gelu(m, approximate="tanh"), f"{block}.mlp.c_proj")
        logits = norm(x, "transformer.ln_f") @ p["transformer.wte.weight"].T
        return f.cross_entropy(logits.flatten(0, 1), targets.flatten())

    optimizer = torch.optim.AdamW(p.values(), lr=o.lr, weight_decay=o.weight_decay)
    losses = []
    for step in range(o.steps):
        batch = task.batches[step]
        for group in optimizer.param_groups:
            group["lr"] = task.rate(step)
        loss = loss_of(torch.tensor(batch.ids), torch.tensor(batch.targets))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), o.clip)
        optimizer.step()
        losses.append(loss.item())
    task.model.parameters.load({n: t.detach().numpy() for n, t in p.items()})
    return losses


def contend(name: str, steps: int, threads: int, weights: str) -> None:
    """Train one contender from the weights, and print what came of it."""
    task = Task(steps)
    task.model.parameters.load(load_weights(weights))
    before, start = task.score(), time.perf_counter()
    losses = {"npllm": train_npllm, "torch": train_torch}[name](task, threads)
    seconds = time.perf_counter() - start
    print(json.dumps({"before": before, "losses": losses, "seconds": seconds, "val": task.score()}))


def main() -> int:
    """Run both, compare them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("the benchmarks need torch: pip install -e '.[bench]'", file=sys.stderr)
        return 2
    if given.contender:
        contend(given.contender, given.steps, given.threads, given.weights)
        return 0
    threads = str(given.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as room:
        weights = str(Path(room) / "weights.safetensors")
        save_weights(weights, Task(given.steps).model.parameters)
        for name in CONTENDERS:
            command = [sys.executable, __file__, f"--contender={name}", f"--weights={weights}"]
            command += [f"--steps={given.steps}", f"--threads={given.threads}"]
            output = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            found[name] = json.loads(output.stdout)
    one, other = (found[name] for name in CONTENDERS)
    first = [
        abs(a - b) / b
        for a, b in zip(one["losses"][:AGREEMENT_STEPS], other["losses"], strict=False)
    ]
    if max(first) > AGREEMENT:
        print(f"the first losses differ by {max(first):.1e}: these are not the same model")
        return 1
    print(f"{given.steps} steps, {given.threads} threads; first losses agree to {max(first):.0e}")
    print("contender  seconds  ms a step  held-out loss (before)")
    for name, result in found.items():
        step = 1000 * result["seconds"] / given.steps
        print(
            f"{name:9}  {result['seconds']:7.1f}  {step:9.1f}  "
            f"{result['val']:.4f} ({result['before']:.4f})"
        )
    print(f"npllm / torch: time {one['seconds'] / other['seconds']:.2f}", end=", ")
    print(f"held-out loss {one['val'] / other['val']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
