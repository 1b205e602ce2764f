"""Torch modules, autograd Functions and functions of tensors; torch is imported where needed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from npllm.checking.adapters import Checkable, argument_names, is_number, named
from npllm.checking.trees import Array, leaves, map_leaves

if TYPE_CHECKING:
    from torch import Tensor


class _Call(NamedTuple):
    """What a backward needs: y, the tensors of it and of the arguments that learn, and these."""

    y: object
    outputs: list[Tensor]
    sources: list[Tensor]
    args: list[object]


def from_torch(function: Callable[..., object], *inputs: object) -> Checkable:
    """Adapt a torch module, an autograd Function's ``apply``, or any function of tensors.

    The gradients are those of ``torch.autograd``, in float64. A module is copied; its parameters
    are checked too, under their own names.

    Args:
        function: a ``torch.nn.Module``, or a function of tensors.
        inputs: NumPy arrays; ids and masks may be among them.

    Raises:
        ImportError: torch is not installed.
    """
    import torch

    parameters: dict[str, Array] = {}
    call = function
    if isinstance(function, torch.nn.Module):
        module = copy.deepcopy(function).double()
        tensors = dict(module.named_parameters())
        parameters = {name: t.detach().numpy().copy() for name, t in tensors.items()}

        def call(*args: Any) -> object:
            if not parameters:
                return module(*args)
            return torch.func.functional_call(module, args[-1], args[:-1])

    def tensor(a: Array) -> object:
        if a.dtype.kind not in "fiub":  # a string, an object
            return a.item()
        # in the array's own memory: a Function that writes to it shows
        return torch.from_numpy(np.asarray(a, order="C")).requires_grad_(is_number(a))

    def forward(*args: object) -> tuple[object, _Call]:
        tensors: list[object] = map_leaves(tensor, list(args))
        y = call(*tensors)
        if strange := [t for t in _tensors(y) if not isinstance(t, torch.Tensor)]:
            what = type(strange[0]).__name__
            raise TypeError(f"the function must return tensors, got {what}")
        outputs = [t for t in _tensors(y) if _learns(t)]
        sources = [t for t in _tensors(tensors) if _learns(t)]
        return _mapped(_as_array, y), _Call(y, outputs, sources, tensors)

    def backward(dy: object, cache: _Call) -> tuple[object, ...]:
        y, outputs, sources, tensors = cache
        # in dy's own memory: a Function that writes to it shows
        cotangents = [torch.from_numpy(a) for _, a in leaves(dy)]
        kept = [v for v, t in zip(cotangents, _tensors(y), strict=True) if _learns(t)]
        by_id: dict[int, Tensor | None] = {}
        if outputs:  # something depends on an input
            options = {"retain_graph": True, "allow_unused": True}
            found = torch.autograd.grad(outputs, sources, kept, **options)
            by_id = {id(t): g for t, g in zip(sources, found, strict=True)}

        def gradient(t: Tensor) -> Array:
            g = by_id.get(id(t))  # None where the output does not depend on it
            return np.zeros(t.shape) if g is None else _as_array(g)

        wanted = [arg for arg in tensors if any(map(_learns, _tensors(arg)))]
        return tuple(_mapped(gradient, arg) for arg in wanted)

    args = (*inputs, *((parameters,) if parameters else ()))
    source = getattr(function, "forward", None) if parameters else function
    names = [*argument_names(source, len(inputs), "x"), *(["parameters"] if parameters else [])]
    return Checkable(named(forward, names), backward, args)


def _learns(value: object) -> TypeGuard[Tensor]:
    return bool(getattr(value, "requires_grad", False))


def _as_array(tensor: Tensor) -> Array:
    return tensor.detach().numpy().copy()


def _tensors(tree: object) -> list[object]:
    if tree is None:
        return []
    if isinstance(tree, Mapping):
        return [t for value in tree.values() for t in _tensors(value)]
    if isinstance(tree, (tuple, list)):
        return [t for value in tree for t in _tensors(value)]
    return [tree]


def _mapped(function: Callable[..., Array], tree: object) -> object:
    if isinstance(tree, Mapping):
        return {key: _mapped(function, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(_mapped(function, value) for value in tree)
    return None if tree is None else function(tree)
