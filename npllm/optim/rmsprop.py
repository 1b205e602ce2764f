"""RMSprop: gradients divided by the root of their running mean square."""

from __future__ import annotations

import numpy as np

from npllm.optim.optimizer import Array, Optimizer, check_range


class RMSprop(Optimizer):
    """p <- p - lr g / (sqrt(v) + eps) with v <- alpha v + (1 - alpha) g^2.

    Hinton's lecture 6e (2012), in torch's form: eps outside the root; ``centered`` subtracts the
    square of the running mean of g from v; with momentum m, b <- m b + g / (sqrt(v) + eps) and
    p <- p - lr b.

    Args:
        parameters: a model's parameters, or a vector.
        lr: learning rate.
        alpha: how much of v is kept.
        eps: added to the root.
        weight_decay: w, adds w p to g.
        momentum: m.
        centered: divide by the standard deviation.

    Raises:
        ValueError: a number is out of its range.

    >>> p = np.array([1.0])
    >>> RMSprop(p, lr=0.1, alpha=0.75, eps=0.0).step(np.array([3.0]))
    >>> p.round(12).tolist()  # 1 - 0.1 * 3 / sqrt(0.25 * 9)
    [0.8]
    """

    def __init__(
        self,
        parameters: object,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        check_range("alpha", alpha, 0.0, 1.0)
        check_range("eps", eps, 0.0)
        check_range("weight_decay", weight_decay, 0.0)
        check_range("momentum", momentum, 0.0)
        self.alpha, self.eps, self.weight_decay = alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        self.carried = (
            "mean_square",
            *(("mean",) if centered else ()),
            *(("momentum",) if momentum else ()),
        )
        super().__init__(parameters, lr)

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        v = state["mean_square"]
        v *= self.alpha
        v += (1 - self.alpha) * g * g
        variance = v
        if self.centered:
            mean = state["mean"]
            mean += (1 - self.alpha) * (g - mean)
            variance = np.maximum(v - mean * mean, 0)  # rounding takes it below 0
        change = g / (np.sqrt(variance) + self.eps)
        if self.momentum:
            b = state["momentum"]
            b *= self.momentum
            b += change
            change = b
        p -= self.lr * change
