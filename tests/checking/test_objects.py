"""Layers that are objects: what they call, what they return, and how they are asked."""

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import pytest
from layers_of_others import RNG, Attributes, B, W, X, failed, names, spoiled

from npllm.checking import from_object, gradcheck


class Existing(Attributes):
    """Its gradients are there before the first backward, and written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.grad_W, self.grad_bias = np.zeros_like(W), np.zeros_like(B)

    def backward(self, dy: Any) -> Any:
        self.grad_W = np.multiply(self.wrong, self.x.T @ dy)
        self.grad_bias = dy.sum(axis=0)
        return dy @ self.W.T


class Dicts(Attributes):
    """Two dicts."""

    def __init__(self) -> None:
        self.params, self.grads = {"W": W.copy(), "b": B.copy()}, {}

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads = {"W": self.wrong * (self.x.T @ dy), "b": dy.sum(axis=0)}
        return dy @ self.params["W"].T


class Parameter:
    """An array and its gradient, which accumulates, as a framework has it."""

    def __init__(self, data: Any) -> None:
        self.data, self.grad = data.copy(), np.zeros(data.shape)


class Objects(Attributes):
    """Parameters that are objects."""

    def __init__(self) -> None:
        self.weight, self.bias = Parameter(W), Parameter(B)

    def zero_grad(self) -> None:
        for parameter in (self.weight, self.bias):
            parameter.grad = np.zeros(parameter.data.shape)

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.weight.data + self.bias.data

    def backward(self, dy: Any) -> Any:
        self.weight.grad = self.weight.grad + self.wrong * (self.x.T @ dy)
        self.bias.grad = self.bias.grad + dy.sum(axis=0)
        return dy @ self.weight.data.T


OBJECTS = {
    Attributes: ["W", "bias"],
    Existing: ["W", "bias"],
    Dicts: ["params.W", "params.b"],
    Objects: ["weight.data", "bias.data"],
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_parameters_and_gradients_are_discovered(kind: type) -> None:
    expected = [f'parameters["{path}"]' for path in OBJECTS[kind]]
    assert names(from_object(kind(), X)) == ["x", *expected]
    assert failed(from_object(spoiled(kind), X)) == expected[:1]


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("calls", [1, 2])
def test_what_earlier_calls_left_is_no_parameter(kind: type, calls: int) -> None:
    layer = kind()
    for _ in range(calls):
        layer.backward(np.ones_like(layer.forward(X)))
    assert names(from_object(layer, X)) == names(from_object(kind(), X))


@pytest.mark.parametrize("kind", OBJECTS)
def test_the_object_is_left_as_it_was(kind: type) -> None:
    layer = kind()
    arrays = {name: copy.deepcopy(value) for name, value in vars(layer).items()}
    gradcheck(*from_object(layer, X))
    assert vars(layer).keys() == arrays.keys()
    for name, before in arrays.items():
        after = getattr(layer, name)
        for a, b in (
            [(before.data, after.data), (before.grad, after.grad)]
            if isinstance(before, Parameter)
            else [(before, after)]
        ):
            np.testing.assert_equal(b, a)


def test_zero_grad_is_called_before_each_backward() -> None:
    class Forgetful(Objects):
        zero_grad = None  # type: ignore[assignment]

    (finding,) = gradcheck(*from_object(Forgetful(), X)).findings
    assert finding.key == "accumulated"
    assert names(from_object(Objects(), X))


class ReturnsNothing(Attributes):
    def backward(self, dy: Any) -> Any:
        super().backward(dy)


def test_a_backward_that_returns_nothing() -> None:
    expected = ['parameters["W"]', 'parameters["bias"]']
    assert names(from_object(ReturnsNothing(), X, input_gradients=False)) == expected
    assert failed(from_object(ReturnsNothing(), X)) == ["x"]
    wrong = spoiled(ReturnsNothing)
    assert failed(from_object(wrong, X, input_gradients=False)) == expected[:1]


class Bilinear:
    """y = a W b^T and ids that no gradient goes to."""

    def __init__(self, returned: Any) -> None:
        self.W, self.returned = RNG.normal(size=(3, 3)), returned

    def forward(self, a: Any, *others: Any) -> Any:
        self.a = a
        self.b = others[-1] if len(others) == 2 else others[0] if others[0].dtype != int else a
        return (a @ self.W) * self.b

    def backward(self, dy: Any) -> Any:
        inner = dy * self.b
        self.dW = self.a.T @ inner
        return self.returned(inner @ self.W.T, dy * (self.a @ self.W))


@pytest.mark.parametrize(
    "returned", [lambda da, db: (da, db), lambda da, db: [da, db], lambda da, db: (da, None, db)]
)
def test_a_backward_that_returns_a_gradient_for_each_input(returned: Any) -> None:
    ids = (np.arange(3),) if len(returned(1, 2)) == 3 else ()
    inputs = (X, *ids, X[::-1].copy())
    expected = ["x0", f"x{len(inputs) - 1}", 'parameters["W"]']
    found = gradcheck(*from_object(Bilinear(returned), *inputs))
    assert found.passed, str(found)
    assert [a.name for a in found.arguments][-1] == expected[-1]
    assert len(found.arguments) == 3

    def exchanged(da: Any, db: Any) -> Any:
        return returned(db, da)

    assert len(failed(from_object(Bilinear(exchanged), *inputs))) == 2


@pytest.mark.parametrize("returned", [lambda d: d, lambda d: (d,), lambda d: [d]])
def test_one_gradient_may_come_in_a_tuple(returned: Any) -> None:
    class Wrapped(Attributes):
        def backward(self, dy: Any) -> Any:
            return returned(super().backward(dy))

    assert names(from_object(Wrapped(), X))[0] == "x"
    assert failed(from_object(spoiled(Wrapped), X)) == ['parameters["W"]']


def test_a_gradient_beside_none_for_the_ids() -> None:
    class Rows(Attributes):
        def forward(self, x: Any, ids: Any) -> Any:
            self.ids, self.count = ids, len(x)
            return super().forward(x[ids])

        def backward(self, dy: Any) -> Any:
            dx = np.zeros((self.count, 3))
            np.add.at(dx, self.ids, super().backward(dy))
            return dx, None

    ids = np.array([0, 2, 2])
    assert names(from_object(Rows(), X, ids)) == ["x", 'parameters["W"]', 'parameters["bias"]']


@pytest.mark.parametrize("wrap", [lambda g: g, lambda g: (g,)])
def test_an_input_that_is_a_tuple(wrap: Any) -> None:
    class Sum:
        def forward(self, state: Any) -> Any:
            self.state = state
            return state[0] * state[1]

        def backward(self, dy: Any) -> Any:
            return wrap((dy * self.state[1], dy * self.state[0]))

    assert names(from_object(Sum(), (X, X[::-1].copy()))) == ["state[0]", "state[1]"]


class Loss:
    """A mean of squares, whose backward needs no dy."""

    by = 1.0

    def forward(self, x: Any) -> Any:
        self.x = x
        return (x * x).mean()

    def backward(self) -> Any:
        return self.by * 2 * self.x / self.x.size


def test_a_backward_that_takes_no_dy() -> None:
    assert names(from_object(Loss(), X)) == ["x"]
    wrong = Loss()
    wrong.by = X.size
    report = gradcheck(*from_object(wrong, X))
    assert "15 times what it must be: 15" in str(report)


def test_before_is_called_before_each_forward() -> None:
    class Dropout:
        training = False

        def forward(self, x: Any) -> Any:
            self.mask = self.rng.random(x.shape) < 0.5 if self.training else np.ones(x.shape, bool)
            return x * self.mask

        def backward(self, dy: Any) -> Any:
            return dy * self.mask

    layer = Dropout()
    layer.rng = np.random.default_rng(0)
    layer.training = True
    assert [f.key for f in gradcheck(*from_object(layer, X)).findings] == ["random"]

    def before(layer: Any) -> None:
        layer.rng = np.random.default_rng(5)

    assert names(from_object(layer, X, before=before)) == ["x"]


def test_other_methods_and_functions() -> None:
    class Named(Attributes):
        fprop = Attributes.forward
        forward = backward = None  # type: ignore[assignment]

        def bprop(self, dy: Any) -> Any:
            self.dW, self.dbias = self.wrong * (self.x.T @ dy), dy.sum(axis=0)
            return dy @ self.W.T

    assert names(from_object(Named(), X, forward="fprop", backward="bprop"))[0] == "x"
    by_functions = from_object(
        Attributes(),
        X,
        forward=lambda layer, x: layer.forward(x) * 2,
        backward=lambda layer, dy: layer.backward(2 * dy),
    )
    assert len(names(by_functions)) == 3
    half = from_object(
        Attributes(), X, forward=lambda layer, x: layer.forward(x) * 2, backward="backward"
    )
    assert len(failed(half)) == 3


def test_what_cannot_be_copied_is_used_as_it_is() -> None:
    layer = Attributes()
    layer.lock = threading.Lock()  # type: ignore[attr-defined]
    assert len(names(from_object(layer, X))) == 3


def test_a_class_is_no_object() -> None:
    with pytest.raises(TypeError, match="takes an object, got the class Attributes: make one"):
        from_object(Attributes, X)


def test_a_missing_method_is_named() -> None:
    with pytest.raises(TypeError, match="Loss has no method backwards: name it, backward="):
        from_object(Loss(), X, backward="backwards")


def test_methods_with_a_cache_are_a_pair() -> None:
    class Pair:
        def forward(self, x: Any) -> Any:
            return x * x, x

        def backward(self, dy: Any, cache: Any) -> Any:
            return 2 * cache * dy

    with pytest.raises(TypeError, match=r"Pair.backward takes more than dy: .* are a pair"):
        from_object(Pair(), X)
    assert gradcheck(Pair().forward, Pair().backward, X)


class Keeping:
    """A layer whose methods return nothing: its results are attributes."""

    wrong = 1.0

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.weights, self.biases = rng.normal(size=(3, 4)), rng.normal(size=(1, 4))

    def forward(self, inputs: Any) -> None:
        self.inputs = inputs
        self.output = inputs @ self.weights + self.biases

    def backward(self, dvalues: Any) -> None:
        self.dweights = self.inputs.T @ dvalues
        self.dbiases = dvalues.sum(axis=0, keepdims=True)
        self.dinputs = self.wrong * dvalues @ self.weights.T


def test_results_may_be_kept_in_the_place_of_returned() -> None:
    report = gradcheck(*from_object(Keeping(), np.random.default_rng(1).normal(size=(5, 3))))
    assert report.passed, str(report)
    assert {argument.name.rpartition(".")[2] for argument in report.arguments} >= {"inputs"}
    assert len(report.arguments) == 3


def test_a_wrong_gradient_that_is_kept_is_found() -> None:
    layer = Keeping()
    layer.wrong = 2.0
    report = gradcheck(*from_object(layer, np.random.default_rng(1).normal(size=(5, 3))))
    assert [a.name for a in report.arguments if not a.passed] == ["inputs"]


def test_a_forward_that_returns_nothing_and_keeps_nothing_is_told() -> None:
    class Nothing(Keeping):
        def forward(self, inputs: Any) -> None:
            self.inputs = inputs

    with pytest.raises(ValueError, match="Nothing's forward returned None, and the object keeps"):
        from_object(Nothing(), np.ones((5, 3)))
