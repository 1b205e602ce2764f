"""The checker on code that is not npllm's: six backwards that are wrong, five that are right.

The packages are not dependencies of npllm. In an environment to throw away, from the checkout:

    python3 -m venv .outside && . .outside/bin/activate
    pip install torch==2.13.0
    pip install . thinc==9.1.1 forgenn-ml==1.0.0 neuralnetlib==5.0.0 autograd mygrad
    python docs/check_outside_code.py

Each entry below names the causes that its diagnosis must hold; reading the source confirms them.
The exit status is 1 if a wrong one passes, a right one fails, or a diagnosis misses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from npllm.checking import from_object, from_pullback, from_torch, gradcheck
from npllm.checking.adapters import Checkable


class Subject(NamedTuple):
    """A backward of someone else's.

    Attributes:
        name: package and function.
        mistake: what its source shows, or nothing if it is right.
        causes: the keys that the diagnosis must hold.
        pair: what is checked.
        options: of ``gradcheck``.
    """

    name: str
    mistake: str
    causes: set[str]
    pair: Checkable
    options: dict[str, Any]


def thinc_lstm(ops: Any, rng: np.random.Generator) -> Checkable:
    """Return an LSTM of thinc's, which computes in float32, its flat parameters cut in pieces."""
    steps, width, hidden = 4, 3, 5
    lengths = np.ones(steps, np.int32)  # one sequence: an entry is how many are left at a step
    zeros = np.zeros((1, 1, hidden), np.float32)
    shapes = {
        "Wx": (4 * hidden, width),
        "bx": (4 * hidden,),
        "Wh": (4 * hidden, hidden),
        "bh": (4 * hidden,),
    }

    def flat(pieces: dict[str, Any]) -> Any:
        return np.concatenate([pieces[name].ravel() for name in shapes]).astype(np.float32)

    def forward(x: Any, params: dict[str, Any]) -> tuple[Any, Any]:
        y, state = ops.lstm_forward_training(flat(params), zeros, zeros, x, lengths)
        return np.array(y), (params, state)

    def backward(dy: Any, cache: Any) -> Any:
        params, state = cache
        dx, dflat = ops.backprop_lstm(dy, lengths, flat(params), state)
        ends = np.cumsum([np.prod(shape) for shape in shapes.values()])[:-1]
        pieces = zip(shapes.items(), np.split(dflat, ends), strict=True)
        return np.array(dx), {name: piece.reshape(shape) for (name, shape), piece in pieces}

    params = {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}
    return Checkable(forward, backward, (rng.normal(size=(steps, width)), params))


def thinc() -> Iterator[Subject]:
    """Yield the LSTM of thinc in its two versions."""
    from thinc.backends import NumpyOps, Ops

    options = {"dtype": np.float32}
    yield Subject(
        "thinc 9.1.1, Ops.backprop_lstm",
        "the gates' gradient is computed and never stored: dX and all parameters get zeros",
        {"zero", "mutated_dy"},
        thinc_lstm(Ops(), np.random.default_rng(0)),
        options,
    )
    yield Subject(
        "thinc 9.1.1, NumpyOps.backprop_lstm",
        "its buffers start as the parameters, not as zeros; the first step is skipped; dY is "
        "written to",
        {"argument_added", "first_step", "mutated_dy"},
        thinc_lstm(NumpyOps(), np.random.default_rng(0)),
        options,
    )


def forgenn() -> Iterator[Subject]:
    """Yield attention and layer normalization of forgenn."""
    from forgenn.core import LayerNormalization, MultiHeadAttention

    rng = np.random.default_rng(0)
    attention = MultiHeadAttention(8, 2, dropout=0.0)
    yield Subject(
        "forgenn-ml 1.0.0, MultiHeadAttention.backward",
        "it returns what comes in",
        {"returned_dy"},
        from_object(
            attention,
            rng.normal(size=(2, 3, 8)),
            parameters={},
            backward=lambda layer, dy: layer.backward(dy, 0.0),
        ),
        {},
    )
    norm = LayerNormalization(5)
    norm.gamma = rng.normal(size=(1, 5))

    def backward(layer: Any, dy: Any) -> Any:
        # it applies the gradients of its parameters itself: with a rate of 1 they show
        gamma, beta = layer.gamma.copy(), layer.beta.copy()
        dx = layer.backward(dy, 1.0)
        layer.dgamma, layer.dbeta = gamma - layer.gamma, beta - layer.beta
        layer.gamma, layer.beta = gamma, beta
        return dx

    yield Subject(
        "forgenn-ml 1.0.0, LayerNormalization.backward",
        "it returns what comes in; its own parameters are right, for two axes",
        {"returned_dy"},
        from_object(
            norm,
            rng.normal(size=(4, 5)),
            parameters={"gamma": "dgamma", "beta": "dbeta"},
            backward=backward,
        ),
        {},
    )


def neuralnetlib() -> Iterator[Subject]:
    """Yield cross-entropy and the LSTM of neuralnetlib."""
    from neuralnetlib.layers import LSTM
    from neuralnetlib.losses import CategoricalCrossentropy

    rng = np.random.default_rng(0)
    loss, classes = CategoricalCrossentropy(), np.eye(5)[[1, 4, 0, 1, 2, 2, 3]]

    def forward(p: Any) -> tuple[Any, Any]:
        return loss(classes, p), p

    def backward(dloss: Any, p: Any) -> Any:
        return dloss * loss.derivative(classes, p)

    p = rng.dirichlet(np.ones(5), size=7)
    yield Subject(
        "neuralnetlib 5.0.0, CategoricalCrossentropy.derivative",
        "the loss divides by the batch, the derivative does not",
        {"scale"},
        Checkable(forward, backward, (p,)),
        {},
    )
    x = rng.normal(size=(2, 4, 3))
    lstm = LSTM(5, return_sequences=True, random_state=0)
    lstm.forward_pass(x)  # it draws its weights when it first sees an input
    yield Subject(
        "neuralnetlib 5.0.0, LSTM.backward_pass",
        "1e-7 is added to the derivatives; dy is clipped inside, and so is the gradients' norm",
        {"epsilon", "nonlinear"},
        from_object(
            lstm,
            x,
            parameters={
                **{f"cell.{name}": f"cell.d{name}" for name in LSTM.PARAMETER_NAMES},
                "_zeros_template": None,
            },
            forward="forward_pass",
            backward="backward_pass",
        ),
        {},
    )


def right() -> Iterator[Subject]:
    """Yield three that are right: two of NumPy's autograds, and torch's modules."""
    import autograd
    import autograd.numpy as anp
    import mygrad
    import torch

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 4)), rng.normal(size=(4, 5))

    def layer(x: Any, w: Any) -> Any:
        scores = anp.tanh(anp.dot(x, w))
        e = anp.exp(scores - anp.max(scores, axis=-1, keepdims=True))
        return e / anp.sum(e, axis=-1, keepdims=True)

    def with_autograd(x: Any, w: Any) -> tuple[Any, Callable[[Any], Any]]:
        pullback, y = autograd.make_vjp(lambda args: layer(*args))((x, w))
        return np.array(y), pullback

    def with_mygrad(x: Any, w: Any) -> tuple[Any, Callable[[Any], Any]]:
        a, b = mygrad.tensor(x, copy=True), mygrad.tensor(w, copy=True)
        y = mygrad.nnet.softmax(mygrad.tanh(a @ b))

        def pullback(dy: Any) -> Any:
            y.backward(dy)
            return a.grad.copy(), b.grad.copy()

        return np.array(y.data), pullback

    yield Subject("autograd, softmax(tanh(x W))", "", set(), from_pullback(with_autograd, x, w), {})
    yield Subject("mygrad, softmax(tanh(x W))", "", set(), from_pullback(with_mygrad, x, w), {})
    torch.manual_seed(0)
    modules = {
        "LSTM": (torch.nn.LSTM(3, 5, bidirectional=True), (4, 2, 3)),
        "LayerNorm": (torch.nn.LayerNorm(5), (4, 5)),
        "TransformerEncoderLayer": (
            torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu"),
            (3, 2, 8),
        ),
    }
    for name, (module, shape) in modules.items():
        pair = from_torch(module, rng.normal(size=shape))
        yield Subject(f"torch.nn.{name}", "", set(), pair, {})


def main() -> int:
    """Check them all; print each report, then a table."""
    rows, failures = [], 0
    for subjects in (thinc, forgenn, neuralnetlib, right):
        for subject in subjects():
            report = gradcheck(*subject.pair, **subject.options)
            keys = {cause.key for cause in report.causes}
            expected = report.passed == (not subject.mistake) and subject.causes <= keys
            failures += not expected
            print(f"{subject.name}\n  {subject.mistake or 'right'}")
            print("".join(f"    {line}\n" for line in str(report).splitlines()))
            verdict = "passes" if report.passed else f"rejected: {', '.join(sorted(keys))}"
            rows.append(
                f"{'as expected' if expected else 'NOT AS EXPECTED'}  {subject.name}: {verdict}"
            )
    print("\n".join(rows))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
