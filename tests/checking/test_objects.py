"""Layers that are objects, brought into the form that the checker takes."""

from __future__ import annotations

import copy
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from layers_of_others import RNG, B, W, X, failed, names

from npllm.checking import from_object, gradcheck


class Attributes:
    """y = x W + b, with gradients as attributes, which are made by the first backward."""

    wrong = 1.0

    def __init__(self) -> None:
        self.W, self.bias = W.copy(), B.copy()

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W + self.bias

    def backward(self, dy: Any) -> Any:
        self.dW = self.wrong * (self.x.T @ dy)
        self.dbias = dy.sum(axis=0)
        return dy @ self.W.T


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


def spoiled(kind: type, by: float = 1.5) -> Any:
    layer = kind()
    layer.wrong = by
    return layer


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


class Tree:
    """Parameters in lists and dicts of objects."""

    def __init__(self) -> None:
        self.layers = [{"w": W.copy(), "g": None}, SimpleNamespace(w=RNG.normal(size=(4, 2)))]
        self.slots = [None]

    def forward(self, x: Any) -> Any:
        self.x, self.h = x, x @ self.layers[0]["w"]
        return self.h @ self.layers[1].w

    def backward(self, dy: Any) -> Any:
        dh = dy @ self.layers[1].w.T
        self.slots[0] = self.h.T @ dy
        self.layers[0]["g"] = self.x.T @ dh
        return dh @ self.layers[0]["w"].T


def test_paths_lead_into_lists_dicts_and_objects() -> None:
    paths = {"layers.0.w": "layers.0.g", "layers.1.w": "slots.0"}
    expected = [f'parameters["{path}"]' for path in paths]
    assert names(from_object(Tree(), X, parameters=paths)) == ["x", *expected]
    turned = {"layers.0.w": "slots.0", "layers.1.w": "layers.0.g"}
    assert failed(from_object(Tree(), X, parameters=turned)) == expected


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"layers.0.v": "layers.0.g"}, "there is no layers.0.v: the dict has no 'v'"),
        ({"layers.2.w": "layers.0.g"}, "there is no layers.2.w: the list has no '2'"),
        ({"layer.0.w": "layers.0.g"}, "there is no layer.0.w: the Tree has no 'layer'"),
        ({"layers.0.w": "layers.0.dw"}, "there is no layers.0.dw: the dict has no 'dw'"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(paths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gradcheck(*from_object(Tree(), X, parameters=paths))


def test_gradients_that_are_not_found_are_asked_for() -> None:
    class Own(Attributes):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.delta_one, self.delta_two = self.__dict__.pop("dW"), self.__dict__.pop("dbias")
            return dx

    with pytest.raises(
        ValueError, match=r"found no gradient for W, bias: say .*\"W\": \"dW\""
    ) as e:
        from_object(Own(), X)
    assert len(str(e.value).splitlines()) == 1
    assert names(from_object(Own(), X, parameters={})) == ["x"]
    paths = {"W": "delta_one", "bias": "delta_two"}
    assert names(from_object(Own(), X, parameters=paths))[0] == "x"


def test_the_inputs_alone() -> None:
    assert names(from_object(spoiled(Attributes), X, parameters={})) == ["x"]


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


# what a nested object holds


class Inner:
    __slots__ = ("W", "dW", "kernel", "sign", "x")

    def __init__(self, sign: float) -> None:
        self.W, self.sign = W.copy(), sign

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W

    def backward(self, dy: Any) -> Any:
        self.dW = self.sign * (self.x.T @ dy)
        return dy @ self.W.T


class Outer:
    def __init__(self, sign: float) -> None:
        self.layers = [Inner(sign)]

    def forward(self, x: Any) -> Any:
        return self.layers[0].forward(x)

    def backward(self, dy: Any) -> Any:
        return self.layers[0].backward(dy)


class Lists:
    def __init__(self, by: float) -> None:
        self.params, self.by = [W.copy(), B.copy()], by

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dy: Any) -> Any:
        self.grads = [self.by * (self.x.T @ dy), dy.sum(axis=0)]
        return dy @ self.params[0].T


def test_layers_inside_an_object_are_checked() -> None:
    assert names(from_object(Outer(1.0), X)) == ["x", 'parameters["layers.0.W"]']
    assert failed(from_object(Outer(-1.0), X)) == ['parameters["layers.0.W"]']


def test_lists_of_parameters_are_checked() -> None:
    wanted = ["x", 'parameters["params.0"]', 'parameters["params.1"]']
    assert names(from_object(Lists(1.0), X)) == wanted
    assert failed(from_object(Lists(2.0), X)) == ['parameters["params.0"]']


@pytest.mark.parametrize("in_place", [True, False])
def test_a_backward_that_trains_the_layer_is_found(in_place: bool) -> None:
    class Hasty(Lists):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            if in_place:
                self.params[0] -= 0.1 * self.grads[0]
            else:
                self.params[0] = self.params[0] - 0.1 * self.grads[0]
            return dx

    report = gradcheck(*from_object(Hasty(1.0), X))
    assert "mutated_input" in {cause.key for cause in report.findings}
    assert 'parameters["params.0"]' in str(report.findings[0])


def test_what_has_no_gradient_is_named_and_so_is_what_has() -> None:
    class Averaging(Lists):
        def __init__(self, by: float) -> None:
            super().__init__(by)
            self.running_mean = np.zeros(3)

    with pytest.raises(
        ValueError, match=r'for running_mean: .* or parameters=\{"running_mean": None\}'
    ):
        from_object(Averaging(1.0), X)


def test_a_class_is_no_object() -> None:
    with pytest.raises(TypeError, match="takes an object, got the class Attributes: make one"):
        from_object(Attributes, X)


def test_a_missing_method_is_named() -> None:
    with pytest.raises(TypeError, match="Inner has no method backwards: name it, backward="):
        from_object(Inner(1.0), X, backward="backwards")


def test_a_named_parameter_joins_those_that_are_found() -> None:
    class Named(Attributes):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.scale, self.by = np.array([1.5]), by

        def forward(self, x: Any) -> Any:
            self.inner = super().forward(x)
            return self.inner * self.scale

        def backward(self, dy: Any) -> Any:
            self.slope = np.array([(dy * self.inner).sum()])
            dx = super().backward(dy * self.scale)
            self.dbias = self.by * self.dbias
            return dx

    named = {"scale": "slope"}
    assert len(names(from_object(Named(1.0), X, parameters=named))) == 4
    assert failed(from_object(Named(1.1), X, parameters=named)) == ['parameters["bias"]']


def test_what_is_no_parameter_is_left_out() -> None:
    class Averaging(Attributes):
        def __init__(self) -> None:
            super().__init__()
            self.running_mean = np.zeros(3)

    assert len(names(from_object(Averaging(), X, parameters={"running_mean": None}))) == 3


def test_a_gradient_is_asked_for_beside_its_parameter() -> None:
    layer = Outer(1.0)
    layer.layers[0].kernel = W.copy()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r'"layers.0.kernel": "layers.0.dkernel"'):
        from_object(layer, X)


def test_methods_with_a_cache_are_a_pair() -> None:
    class Pair:
        def forward(self, x: Any) -> Any:
            return x * x, x

        def backward(self, dy: Any, cache: Any) -> Any:
            return 2 * cache * dy

    with pytest.raises(TypeError, match=r"Pair.backward takes more than dy: .* are a pair"):
        from_object(Pair(), X)
    assert gradcheck(Pair().forward, Pair().backward, X)
