"""Layers that are objects: parameters, gradients and cache found in them, and made arguments."""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from npllm.checking.adapters import Checkable, argument_names, is_number, named
from npllm.checking.trees import Array, leaves, map_leaves

# Where code in the wild keeps what it learns, and what it should change by.
_PARAMETERS = ("params", "parameters", "weights", "_params")
_GRADIENTS = ("grads", "gradients", "dparams", "grad", "_grads")
_GRADIENT_OF = ("d{}", "d_{}", "grad_{}", "{}_grad", "{}_gradient", "g{}")
# And its results, where its methods return nothing.
_OUTPUTS = ("output", "outputs", "out")
_INPUT_GRADIENTS = ("dinputs", "dinput", "dx", "dX", "grad_input", "input_grad")
# What is looked at from outside only.
_NO_HOLDERS = (
    str,
    bytes,
    tuple,
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    np.random.Generator,
)


def from_object(
    layer: object,
    *inputs: object,
    parameters: Mapping[str, str | None] | None = None,
    input_gradients: bool = True,
    forward: str | Callable[..., object] = "forward",
    backward: str | Callable[..., object] = "backward",
    before: Callable[..., None] | None = None,
) -> Checkable:
    """Adapt an object that keeps its parameters, gradients and cache to itself.

    The object is copied first: what the check does to it stays with the copy. A ``zero_grad``
    method is called before each backward.

    Args:
        layer: has ``forward(*inputs) -> y`` and ``backward(dy)`` -> the gradient of its input, or
            a tuple of them, or None; a loss's ``backward()`` may take nothing. Methods that return
            nothing may keep y as ``output`` and the gradient as ``dinputs`` (or as a few other
            names).
        inputs: of its forward.
        parameters: paths to parameters whose gradients are not found by the usual names, and the
            paths to their gradients: ``{"W": "slope"}``, ``{"layers.0.kernel.data":
            "layers.0.kernel.slope"}``; a step of a path is an attribute, a key or an index. None
            in place of a gradient's path leaves out what is no parameter. All others are found;
            but ``{}`` checks the inputs alone.
        input_gradients: whether the backward returns gradients of the inputs.
        forward: the method, or ``function(layer, *inputs)``.
        backward: the method, or ``function(layer, dy)``.
        before: called with the object before each forward: to seed it, to set it to training.

    Returns:
        What ``gradcheck`` takes; its last argument is the dict of parameters.

    Raises:
        TypeError: it is a class, lacks a method, or its backward takes more than dy.
        ValueError: the object has floating arrays whose gradients are not found; or its forward
            returns nothing, and keeps no output.

    >>> from npllm.checking import gradcheck
    >>> class Scale:
    ...     def __init__(self):
    ...         self.W = np.array([2.0, -1.0])
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * self.W
    ...     def backward(self, dy):
    ...         self.dW = (dy * self.x).sum(axis=0)
    ...         return dy * self.W
    >>> report = gradcheck(*from_object(Scale(), np.array([[1.0, 3.0]])))
    >>> report.passed, [argument.name for argument in report.arguments]
    (True, ['x', 'parameters["W"]'])
    """
    if isinstance(layer, type):
        raise TypeError(f"from_object takes an object, got the class {layer.__name__}: make one")
    for role, method in {"forward": forward, "backward": backward}.items():
        if isinstance(method, str) and not callable(getattr(layer, method, None)):
            raise TypeError(
                f"{type(layer).__name__} has no method {method}: name it, {role}=..., or pass a "
                "function of the object"
            )
    if isinstance(backward, str) and _required(getattr(layer, backward)) > 1:
        raise TypeError(
            f"{type(layer).__name__}.{backward} takes more than dy: methods of the form "
            "(y, cache) = forward(x), backward(dy, cache) are a pair, gradcheck(layer.forward, "
            "layer.backward, args)"
        )
    held = _Held(layer, inputs, input_gradients, forward, backward, before)
    paths: dict[str, str] = {}
    if parameters is None or parameters:
        paths = held.discovered(parameters or {})
    held.paths = paths
    values = {path: np.array(_get(layer, path)) for path in paths}
    args = (*(inputs if input_gradients else ()), *((values,) if paths else ()))
    source = getattr(layer, forward) if isinstance(forward, str) else None
    count = len(inputs) if input_gradients else 0
    names = [*argument_names(source, count, "x"), *(["parameters"] if paths else [])]
    return Checkable(named(held.forward, names), held.backward, args)


class _Held:
    """A private copy of somebody's layer, turned into pure functions of inputs and parameters."""

    def __init__(
        self,
        layer: object,
        inputs: tuple[object, ...],
        input_gradients: bool,
        forward: str | Callable[..., object],
        backward: str | Callable[..., object],
        before: Callable[..., None] | None,
    ) -> None:
        self.layer, self.inputs, self.input_gradients = _copied(layer), inputs, input_gradients
        self.run, self.turn_back, self.before = _method(forward), _method(backward), before
        self.takes_dy = not isinstance(backward, str) or _required(getattr(layer, backward)) > 0
        self.paths: dict[str, str] = {}

    def forward(self, *args: Any) -> tuple[object, object]:
        inputs, parameters = args, {}
        if self.paths:
            inputs, parameters = args[:-1], args[-1]
        for path, value in parameters.items():
            _set(self.layer, path, np.array(value))
        if self.before is not None:
            self.before(self.layer)
        y = self.run(self.layer, *(inputs if self.input_gradients else self._constants()))
        y = self._kept(_OUTPUTS) if y is None else y
        if y is None:
            raise ValueError(
                f"{type(self.layer).__name__}'s forward returned None, and the object keeps its "
                f"result under none of the names {', '.join(_OUTPUTS)}: return it"
            )
        self._show(parameters)
        return y, args

    def backward(self, dy: object, args: tuple[Any, ...]) -> tuple[object, ...]:
        self.forward(*args)  # the object remembers its latest forward only: make it this one
        returned = self._turned_back(dy)
        returned = self._kept(_INPUT_GRADIENTS) if returned is None else returned
        self._show(args[-1] if self.paths else {})
        gradients: list[object] = []
        if self.input_gradients:
            gradients = self._by_input(returned)
        if self.paths:
            gradients.append({path: _get(self.layer, g) for path, g in self.paths.items()})
        return tuple(gradients)

    def _show(self, parameters: Mapping[str, Array]) -> None:
        """Write what the layer made of its parameters into the arguments, where the check looks."""
        for path, value in parameters.items():
            now = np.asarray(_get(self.layer, path))
            if now.shape == value.shape and not np.array_equal(now, value, equal_nan=True):
                value[...] = now

    def _kept(self, names: tuple[str, ...]) -> object:
        """Return what the object keeps under the first of the names that it has, or None."""
        return next(
            (found for n in names if (found := getattr(self.layer, n, None)) is not None), None
        )

    def _by_input(self, returned: object) -> list[object]:
        """Return a gradient for each input that holds floating arrays."""
        wanted = [n for n, x in enumerate(self.inputs) if any(is_number(a) for _, a in leaves(x))]
        if not isinstance(returned, (tuple, list)) or not wanted:
            return [returned] if wanted else []
        if len(wanted) == 1 and isinstance(self.inputs[wanted[0]], (tuple, list)):
            nested = len(returned) == len(self.inputs) and isinstance(
                returned[wanted[0]], (tuple, list)
            )
            return [returned[wanted[0]] if nested else returned]
        if len(returned) == len(self.inputs):  # None, say, for the ids
            return [returned[n] for n in wanted]
        return list(returned)

    def discovered(self, named: Mapping[str, str | None]) -> dict[str, str]:
        """Return the path of each parameter and of its gradient, named or found."""
        after = self._tried({})
        for path, gradient in named.items():
            for each in (path, gradient):
                if each is not None:
                    _get(after, each)
        arrays = {
            path: a
            for path, a in _parameters(self.layer)
            if path not in named and not self._overwritten(path, a, after)
        }
        found = {path: _gradient_path(after, path, a) for path, a in arrays.items()}
        taken = {*found.values(), *named.values()}
        lost = [path for path, g in found.items() if g is None and path not in taken]
        if lost:
            raise ValueError(
                f"found no gradient for {', '.join(lost)}: say where it is, or None for what is no "
                f'parameter: parameters={{"{lost[0]}": "{_beside(lost[0])}"}} or '
                f'parameters={{"{lost[0]}": None}}'
            )
        paths = {**found, **named}
        return {path: gradient for path, gradient in paths.items() if gradient is not None}

    def _tried(self, values: Mapping[str, Array]) -> object:
        """Return a copy of the layer with these values set, after a forward and a backward."""
        trial = _Held(self.layer, self.inputs, True, self.run, self.turn_back, self.before)
        trial.takes_dy = self.takes_dy
        for path, value in values.items():
            _set(trial.layer, path, value)
        y, _ = trial.forward(*self._constants())
        trial._turned_back(map_leaves(np.ones_like, y))
        return trial.layer

    def _overwritten(self, path: str, value: Array, after: object) -> bool:
        """Whether it is a leftover of an earlier call: a call leaves the same, whatever it held."""
        try:
            left = _get(self._tried({path: value + 1}), path)
        except Exception:  # the layer cannot work with other numbers there: they matter
            return False
        return np.array_equal(left, _get(after, path)) and not np.array_equal(left, value + 1)

    def _turned_back(self, dy: object) -> object:
        if callable(zero_grad := getattr(self.layer, "zero_grad", None)):
            zero_grad()
        if self.takes_dy:
            return self.turn_back(self.layer, dy)
        scalar = next(a for _, a in leaves(dy)).reshape(())  # a loss, whose dy is understood
        return map_leaves(lambda g: g * scalar, self.turn_back(self.layer))

    def _constants(self) -> list[object]:
        return list(map_leaves(np.copy, list(self.inputs)))


def _parameters(layer: object) -> Iterator[tuple[str, Array]]:
    """Yield the path and value of what looks like a parameter: a floating array in the object.

    Attributes, dicts, lists and objects inside are walked; what is called gradients is passed over.
    """
    seen: set[int] = set()

    def walk(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
        if isinstance(value, np.ndarray):
            if is_number(value):
                yield ".".join(path), value
            return
        if id(value) in seen or isinstance(value, _NO_HOLDERS):
            return
        seen.add(id(value))
        for name, inner in _held_by(value).items():
            if name not in _GRADIENTS and not name.startswith("__"):
                yield from walk(inner, (*path, name))

    yield from walk(layer, ())


def _held_by(value: object) -> dict[str, object]:
    """Return what a dict, a list or an object holds; a tuple cannot be set, so it holds nothing."""
    if isinstance(value, Mapping):
        return {str(key): inner for key, inner in value.items()}
    if isinstance(value, list):
        return {str(index): inner for index, inner in enumerate(value)}
    slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**held, **getattr(value, "__dict__", {})}


def _gradient_path(layer: object, path: str, parameter: Array) -> str | None:
    """Return where the gradient of a parameter is, by the usual names, or None."""
    steps = path.split(".")
    candidates: list[list[str]] = []
    for place in reversed(range(len(steps))):
        before, name, after = steps[:place], steps[place], steps[place + 1 :]
        # W and dW; params.W and dparams.W
        candidates += [[*before, form.format(name), *after] for form in _GRADIENT_OF]
        if name in _PARAMETERS or not after:  # params.W and grads.W, W and grads.W
            kept = after or [name]
            names = [[*kept[:-1], form.format(kept[-1])] for form in ("{}", *_GRADIENT_OF)]
            candidates += [[*before, group, *rest] for group in _GRADIENTS for rest in names]
        if name in ("data", "value") and not after:  # W.data and W.grad
            candidates.append([*before, "grad"])
    for candidate in candidates:
        try:
            found = _get(layer, ".".join(candidate))
        except ValueError:
            continue
        if is_number(found) and np.shape(found) == parameter.shape:
            return ".".join(candidate)
    return None


def _beside(path: str) -> str:
    """Return where the gradient of a parameter might be."""
    parent, dot, name = path.rpartition(".")
    return f"{parent}{dot}d{name}"


def _get(root: object, path: str) -> Any:
    """Return what a path of attributes, keys and indices leads to."""
    for step in path.split("."):
        try:
            if isinstance(root, Mapping):
                root = root[step]
            elif isinstance(root, (list, tuple)):
                root = root[int(step)]
            else:
                root = getattr(root, step)
        except (AttributeError, LookupError, ValueError):
            owner = type(root).__name__
            raise ValueError(f"there is no {path}: the {owner} has no {step!r}") from None
    return root


def _set(root: object, path: str, value: Array) -> None:
    parent, _, step = path.rpartition(".")
    owner = _get(root, parent) if parent else root
    if isinstance(owner, dict):
        owner[step] = value
    elif isinstance(owner, list):
        owner[int(step)] = value
    else:
        setattr(owner, step, value)


def _copied(layer: object) -> object:
    try:
        return copy.deepcopy(layer)
    except Exception:  # what cannot be copied is used as it is
        return layer


def _method(method: str | Callable[..., object]) -> Callable[..., object]:
    if callable(method):
        return method
    return lambda layer, *args: getattr(layer, method)(*args)


def _required(function: Callable[..., object]) -> int:
    """Return how many positional arguments a function cannot do without."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(p.kind in positional and p.default is p.empty for p in parameters)
