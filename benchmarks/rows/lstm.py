"""A training step of section 5's model: Embedding, LSTM, Linear, cross-entropy, Adam."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.row import Arrays, Row, Sizes, Task, Work
from benchmarks.rows.training import (
    ONE,
    autograd_training,
    jax_training,
    mygrad_training,
    npllm_training,
    plain_cross_entropy,
    torch_training,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from npllm.models import LSTMLanguageModel


def model_of(sizes: Sizes, **options: Any) -> LSTMLanguageModel:
    """Return npllm's model."""
    from npllm.models import LSTMLanguageModel

    return LSTMLanguageModel(sizes["V"], sizes["E"], sizes["H"], sizes["L"], **options)


def inputs(sizes: Sizes) -> Arrays:
    """Return weights and batches."""
    from benchmarks.rows.training import training_inputs

    return training_inputs(model_of(sizes), sizes)


def npllm(task: Task) -> Work:
    """Return npllm's training."""
    from npllm.optim import Adam

    model = model_of(task.sizes, seed=None, dtype=task.dtype)
    return npllm_training(task, model, Adam(model.parameters))


def torch_model(sizes: Sizes) -> Module:
    """Return the module of section 5."""
    from torch import nn

    class LanguageModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(sizes["V"], sizes["E"])
            self.rnn = nn.LSTM(sizes["E"], sizes["H"], sizes["L"], batch_first=True)
            self.fc = nn.Linear(sizes["H"], sizes["V"])

        def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            output, state = self.rnn(self.embedding(ids), state)
            return self.fc(output), state

    return LanguageModel()


def torch_lstm(task: Task, compiled: bool = False) -> Work:
    """Return torch's training."""
    import torch

    model = torch_model(task.sizes)
    model.load_state_dict({n: torch.from_numpy(a) for n, a in weights_of(task).items()})

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        logits, _ = model(x)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    return torch_training(task, dict(model.named_parameters()), loss_of, "Adam", compiled)


def cell(xp: Any, gates: Any, c: Any, H: int) -> tuple[Any, Any]:
    """Return h and c of one step from its gates i, f, g, o before their functions, (B, 4H)."""

    def sigmoid(x: Any) -> Any:
        return ONE / (ONE + xp.exp(-x))

    i, f, g, o = (gates[:, n * H : (n + 1) * H] for n in range(4))
    c = sigmoid(f) * c + sigmoid(i) * xp.tanh(g)
    return sigmoid(o) * xp.tanh(c), c


def layer(p: Mapping[str, Any], n: int) -> tuple[Any, Any, Any]:
    """Return an LSTM layer's matrices and the sum of its biases."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weight_ih, weight_hh, *biases = (p[f"rnn.{name}_l{n}"] for name in names)
    return weight_ih, weight_hh, biases[0] + biases[1]


def plain_loss(L: int, xp: Any, p: Mapping[str, Any], ids: Any, targets: Any) -> Any:
    """Return the loss, a step after the other."""
    B, T = ids.shape
    x = [p["embedding.weight"][ids[:, t]] for t in range(T)]
    for n in range(L):
        weight_ih, weight_hh, bias = layer(p, n)
        H = weight_hh.shape[1]
        h = c = xp.zeros((B, H), dtype="float32")
        for t in range(T):
            gates = xp.matmul(x[t], weight_ih.T) + xp.matmul(h, weight_hh.T) + bias
            h, c = cell(xp, gates, c, H)
            x[t] = h
    logits = xp.matmul(xp.concatenate(x), p["fc.weight"].T) + p["fc.bias"]  # (T B, V)
    return plain_cross_entropy(xp, logits, targets.T.reshape(-1))


def scanned_loss(L: int, xp: Any, p: Mapping[str, Any], ids: Any, targets: Any) -> Any:
    """Return the loss, JAX's scan over the steps, which the inputs' products stand before."""
    from jax import lax

    x = p["embedding.weight"][ids.T]  # (T, B, E)
    for n in range(L):
        weight_ih, weight_hh, bias = layer(p, n)
        H = weight_hh.shape[1]

        def step(state: Any, gates: Any, weight_hh: Any = weight_hh, H: int = H) -> tuple[Any, Any]:
            h, c = state
            h, c = cell(xp, gates + h @ weight_hh.T, c, H)
            return (h, c), h

        zeros = xp.zeros((x.shape[1], H))
        _, x = lax.scan(step, (zeros, zeros), x @ weight_ih.T + bias)
    logits = x @ p["fc.weight"].T + p["fc.bias"]
    return plain_cross_entropy(xp, logits.reshape(-1, logits.shape[-1]), targets.T.reshape(-1))


def flops(sizes: Sizes) -> float:
    """Return those of the products; a backward has twice those of its forward."""
    V, E, H = (sizes[name] for name in "VEH")
    layers = sum(2 * 4 * H * ((H if n else E) + H) for n in range(sizes["L"]))
    return 3.0 * sizes["batch"] * sizes["steps"] * (layers + 2 * H * V)


def row(
    name: str, *shape: int, L: int = 1, others: bool = False, compiled: bool = False, **options: Any
) -> Row:
    """Return a row from V, E, H, the batch and its steps."""
    contenders: dict[str, Callable[[Task], Work]] = {
        "npllm": npllm,
        "torch": torch_lstm,
        "jax": lambda task: jax_training(task, partial(scanned_loss, L)),
    }
    if compiled:
        contenders["torch.compile"] = partial(torch_lstm, compiled=True)
    if others:
        contenders["autograd"] = lambda task: autograd_training(task, partial(plain_loss, L))
        contenders["mygrad"] = lambda task: mygrad_training(task, partial(plain_loss, L))
    sizes = {**dict(zip(("V", "E", "H", "batch", "steps"), shape, strict=True)), "L": L}
    small = {**sizes, "V": min(shape[0], 1000), "steps": 8, "batch": min(shape[3], 8)}
    return Row(name, "training", sizes, inputs, contenders, small, flops, **options)


ROWS = (
    row("lstm-small", 103, 64, 64, 8, 32, others=True, quick=True),
    row("lstm-default", 103, 256, 256, 32, 64, others=True, compiled=True, quick=True),
    row("lstm-65-128", 65, 64, 128, 32, 64, quick=True),
    row("lstm-65-256", 65, 128, 256, 32, 64),
    row("lstm-1000-256", 1000, 128, 256, 32, 64),
    row("lstm-10000-200", 10_000, 200, 200, 20, 20),
    row("lstm-10000-512", 10_000, 256, 512, 20, 35),
    row("lstm-10000-650x2", 10_000, 650, 650, 20, 35, L=2),
)
