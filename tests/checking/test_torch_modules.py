"""Torch modules, autograd Functions and functions of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers_of_others import X, names

from npllm.checking import from_torch, gradcheck


def test_a_module_of_torch(torch: Any) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    pair = from_torch(module, X)
    expected = [f'parameters["{name}"]' for name in before]
    assert names(pair)[1:] == expected
    for name, p in module.named_parameters():
        assert p.dtype == torch.float32
        assert torch.equal(p, before[name])
        assert p.grad is None


def test_an_unused_parameter_has_a_gradient_of_zero(torch: Any) -> None:
    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.used(x)

    report = gradcheck(*from_torch(Half(), X))
    assert report.passed
    zero = [a.name for a in report.arguments if a.structural_zero]
    assert zero == ['parameters["unused.weight"]', 'parameters["unused.bias"]']


def function_of(torch: Any, by: float) -> Any:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            a, b = ctx.saved_tensors
            return dy * b, by * dy * a

    return Product.apply


def test_an_autograd_function_of_torch(torch: Any) -> None:
    other = X[::-1].copy()
    assert len(names(from_torch(function_of(torch, 1.0), X, other))) == 2
    report = gradcheck(*from_torch(function_of(torch, -1.0), X, other))
    assert [a.passed for a in report.arguments] == [True, False]
    assert [cause.key for cause in report.causes] == ["sign"]


def test_functions_of_tensors(torch: Any) -> None:
    def function(x: Any, ids: Any, mask: Any) -> Any:
        assert mask is None
        rows = x[ids]
        return rows.softmax(-1), None, rows.argmax(-1), {"sum": rows.sum()}

    assert names(from_torch(function, X, np.array([0, 3, 3]), None)) == ["x"]
    report = gradcheck(*from_torch(lambda x: torch.ones(3, dtype=torch.float64), X))
    assert [a.verdict for a in report.arguments] == ["ok (zero)"]
    detached = gradcheck(*from_torch(lambda x: x.detach() * x, X))
    assert not detached.passed
    assert "1 / 2" in str(detached)


def test_a_function_of_torch_that_writes_to_dy_is_found(torch: Any) -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy.mul_(2)

    report = gradcheck(*from_torch(Double.apply, X))
    assert [cause.key for cause in report.findings] == ["mutated_dy"]


def test_a_function_of_torch_that_writes_to_its_input_is_found(torch: Any) -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            x.data.mul_(2)
            return x.clone()

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return 2 * dy

    assert "mutated_input" in {c.key for c in gradcheck(*from_torch(Double.apply, X)).findings}


def test_options_reach_a_function_of_torch_as_they_are(torch: Any) -> None:
    def function(x: Any, name: str) -> Any:
        return getattr(torch, name)(x)

    assert names(from_torch(function, X, "tanh")) == ["x"]


def test_a_function_of_torch_must_return_tensors(torch: Any) -> None:
    with pytest.raises(TypeError, match="must return tensors, got float"):
        gradcheck(*from_torch(lambda x: float((x * x).sum()), X))
