"""Parameters of layers that are objects: found where they are, named by paths, or left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from layers_of_others import RNG, Attributes, B, W, X, failed, names, spoiled

from npllm.checking import from_object, gradcheck


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
