"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from npllm.optim.optimizer import Array, Optimizer, check_range


class SGD(Optimizer):
    """p <- p - lr g, with torch's momentum and weight decay.

    With decay w, momentum m and dampening d: g <- g + w p; b <- m b + (1 - d) g, where b starts as
    the first g; and g <- b, or g + m b with ``nesterov``. Sutskever et al., "On the importance of
    initialization and momentum in deep learning" (2013), with the learning rate outside b.

    Args:
        parameters: a model's parameters, or a vector.
        lr: learning rate.
        momentum: m.
        dampening: d.
        weight_decay: w.
        nesterov: look ahead; needs a momentum and no dampening.

    Raises:
        ValueError: a number is out of its range.

    >>> import numpy as np
    >>> p = np.array([1.0])
    >>> rule = SGD(p, lr=0.1, momentum=0.5)
    >>> rule.step(np.array([1.0])); rule.step(np.array([1.0]))
    >>> p.round(12).tolist()  # 1 - 0.1 * 1 - 0.1 * 1.5
    [0.75]
    """

    def __init__(
        self,
        parameters: object,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        check_range("momentum", momentum, 0.0)
        check_range("weight_decay", weight_decay, 0.0)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and a dampening of 0")
        self.momentum, self.dampening = momentum, dampening
        self.weight_decay, self.nesterov = weight_decay, nesterov
        self.carried = ("momentum",) if momentum else ()
        super().__init__(parameters, lr)

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if self.momentum:
            b = state["momentum"]
            b *= self.momentum
            b += g if self.steps == 1 else (1 - self.dampening) * g
            g = g + self.momentum * b if self.nesterov else b
        p -= self.lr * g
