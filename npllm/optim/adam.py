"""Adam and AdamW."""

from __future__ import annotations

import math

import numpy as np

from npllm.optim.optimizer import Array, Optimizer, check_range


class Adam(Optimizer):
    """p <- p - lr m' / (sqrt(v') + eps), m' and v' the unbiased running means of g and g^2.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 1:
    m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, m' = m / (1 - b1^t), v' = v / (1 - b2^t).

    Args:
        parameters: a model's parameters, or a vector.
        lr: learning rate.
        betas: (b1, b2).
        eps: added to the root.
        weight_decay: w, adds w p to g.

    Raises:
        ValueError: a number is out of its range.

    >>> p = np.array([1.0, 1.0])
    >>> Adam(p, lr=0.1, eps=0.0).step(np.array([0.001, -7.0]))
    >>> p.round(12).tolist()  # the first step is lr times the sign
    [0.9, 1.1]
    """

    carried = ("mean", "mean_square")

    def __init__(
        self,
        parameters: object,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        for n, beta in enumerate(betas):
            check_range(f"betas[{n}]", beta, 0.0, 1.0, high_included=False)
        check_range("eps", eps, 0.0)
        check_range("weight_decay", weight_decay, 0.0)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        super().__init__(parameters, lr)

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        g = self._decay(p, g)
        (beta1, beta2), (m, v) = self.betas, (state["mean"], state["mean_square"])
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * g * g
        denominator = np.sqrt(v)
        denominator *= 1 / math.sqrt(1 - beta2**self.steps)
        denominator += self.eps
        change = np.divide(m, denominator, out=denominator)
        change *= self.lr / (1 - beta1**self.steps)
        p -= change

    def _decay(self, p: Array, g: Array) -> Array:
        return g + self.weight_decay * p if self.weight_decay else g


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters instead of entering the gradient.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2, as in torch:
    p <- (1 - lr w) p, then Adam's step with g as it came.

    Args:
        parameters: a model's parameters, or a vector.
        lr: learning rate.
        betas: (b1, b2).
        eps: added to the root.
        weight_decay: w.

    >>> p = np.array([1.0])
    >>> AdamW(p, lr=0.1, eps=0.0, weight_decay=0.5).step(np.array([3.0]))
    >>> p.round(12).tolist()  # 1 * (1 - 0.1 * 0.5) - 0.1
    [0.85]
    """

    def __init__(
        self,
        parameters: object,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _decay(self, p: Array, g: Array) -> Array:
        p *= 1 - self.lr * self.weight_decay
        return g
