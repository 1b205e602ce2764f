"""The models once more, in torch's layers: the second oracle of the certificate.

Torch is imported where it is needed. A twin takes a model's config, its parameters, a batch and a
state, and returns torch's :class:`Twin`. It draws dropout masks from NumPy as the model does, in
the same order, and multiplies by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from npllm.layers.arrays import Array


class Twin(NamedTuple):
    """What torch makes of a batch.

    Attributes:
        loss: summed over the targets.
        gradients: of it, by the parameters' names.
        state: the final one.
    """

    loss: float
    gradients: dict[str, Array]
    state: tuple[Array, ...]


def lstm(config: Mapping[str, Any], arrays: Mapping[str, Array], batch: Any, state: Any) -> Twin:
    """Run section 5's model, its layers one after the other."""
    import torch

    p = {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}
    rng, rate = np.random.default_rng(batch.seed), config.get("dropout", 0.0)

    def dropout(x: Any) -> Any:
        if rate == 0:
            return x
        kept = rng.random(tuple(x.shape), dtype=np.float32) >= rate
        return x * torch.tensor(kept / (1 - rate))

    x = dropout(torch.nn.functional.embedding(torch.tensor(batch.ids.T), p["embedding.weight"]))
    finals = []
    for layer in range(config.get("num_layers", 1)):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = {f"{name}_l0": p[f"rnn.{name}_l{layer}"] for name in names}
        rnn = torch.nn.LSTM(x.shape[-1], config["hidden_size"], dtype=torch.float64)
        initial = tuple(torch.tensor(a[layer : layer + 1]) for a in state)
        x, final = torch.func.functional_call(rnn, weights, (x, initial))
        finals.append(final)
        x = dropout(x)
    fc = p["embedding.weight" if config.get("tie_weights") else "fc.weight"]
    logits = torch.nn.functional.linear(x, fc, p["fc.bias"])
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(batch.targets.T.ravel()), reduction="sum"
    )
    found = torch.autograd.grad(loss, list(p.values()))
    return Twin(
        float(loss.detach()),
        {name: g.numpy() for name, g in zip(p, found, strict=True)},
        tuple(torch.cat(each).detach().numpy() for each in zip(*finals, strict=True)),
    )


TWINS = {"lstm": lstm}
