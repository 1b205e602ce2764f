"""Pictures of the chapter on optimizers."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from npllm.layers.arrays import Array
from npllm.optim import Adam, constant, step_decay, warmup_cosine

STEPS = 400


def optimizers() -> Figure:
    """Draw how far the minimum is with Adam and its simplifications, and the schedules."""
    figure = Figure()
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, STEPS + 1)
    left.semilogy(steps, _far(Adam), label=r"$m' / (\sqrt{v'} + \epsilon)$")
    left.semilogy(steps, _far(_WithoutPowers), label=r"$m / (\sqrt{v} + \epsilon)$")
    left.semilogy(steps, _far(_Inside), label=r"$m' / \sqrt{v' + \epsilon}$")
    left.set_xlabel("$t$")
    left.set_ylim(1e-2, 8)
    left.legend(loc="upper right", ncols=1)
    s = np.arange(100)
    cosine = warmup_cosine(1.0, warmup=10, total=90, final=0.1)
    for schedule in (constant(1.0), step_decay(1.0, every=30, factor=0.5), cosine):
        right.step(s, [schedule(int(k)) for k in s], where="mid")
    right.set_ylim(0, 1.1)
    right.set_xlabel("$s$")
    right.set_ylabel(r"$\eta_s / \eta$")
    return figure


def _far(rule: type[Adam]) -> list[float]:
    """Return how far the parameters are from the minimum, step by step."""
    draw, curvature = np.random.default_rng(0), np.logspace(-6, 0, 20)
    p = np.ones(20)
    optimizer, far = rule(p, lr=0.03), []
    for _ in range(STEPS):
        optimizer.step(curvature * (p + 0.1 * draw.normal(size=20)))
        far.append(float(np.sqrt((p**2).mean())))
    return far


class _WithoutPowers(Adam):
    """The running means as they are."""

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        self._average(g, state)
        p -= self.lr * state["mean"] / (np.sqrt(state["mean_square"]) + self.eps)

    def _average(self, g: Array, state: dict[str, Array]) -> None:
        for beta, name, value in zip(self.betas, self.carried, (g, g * g), strict=True):
            state[name] += (1 - beta) * (value - state[name])


class _Inside(_WithoutPowers):
    """With eps under the root."""

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        self._average(g, state)
        m, v = (
            state[name] / (1 - b**self.steps)
            for name, b in zip(self.carried, self.betas, strict=True)
        )
        p -= self.lr * m / np.sqrt(v + self.eps)
