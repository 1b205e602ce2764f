"""A forward and its backward with their arguments, called in the ways that a check needs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.exceptions import ComplexWarning

from npllm.checking.methods import Line, precision_of
from npllm.checking.trees import Array, leaves, map_leaves, map_named

Direction = tuple[int, ...] | int  # an element's index, or the seed of a random direction
Forward = Callable[..., tuple[object, object]]  # (y, cache) of the arguments
Backward = Callable[..., object]  # the gradients, of dy and the cache
Arguments: TypeAlias = Iterable[object] | float  # or a single array, dict or number
Kind: TypeAlias = Literal["real", "complex"]
Gradients: TypeAlias = dict[str, Array | None]  # by argument; None where the backward has none
# What a forward gave along lines: by the kind of its numbers, argument, direction and step.
Outputs: TypeAlias = dict[tuple[Kind, str, Direction, complex], list[Array]]

# Whoever draws the arguments from default_rng(seed) must not get the same numbers as cotangent: a
# cotangent equal to x hides every backward that takes one for the other.
SALT = 0x5EED


def is_float(array: Array) -> bool:
    """Whether it holds real floating numbers."""
    return array.dtype.kind == "f"


def drawn(seed: int, shape: tuple[int, ...]) -> Array:
    """Return a random direction."""
    return np.random.default_rng((seed, SALT)).standard_normal(shape)


def product(gradient: Array, direction: Direction) -> float:
    """Return an element of a gradient, or its product with a random direction."""
    if isinstance(direction, tuple):
        return float(gradient[direction])
    return float(np.sum(gradient * drawn(direction, gradient.shape)))


def copied(gradients: Gradients) -> Gradients:
    """Return gradients that nothing else writes to."""
    return {name: None if g is None else np.array(g) for name, g in gradients.items()}


class Pair:
    """What is checked.

    Attributes:
        args: private copies, the floating ones in ``dtype``.
        names: of the arguments.
        floating: which arguments hold floating arrays.
        leaves: the floating arrays by name.

    Raises:
        TypeError: an argument is complex, or float32 where the dtype is float64.
        ValueError: no argument holds a floating array, or only empty ones.
    """

    def __init__(
        self,
        forward: Forward,
        backward: Backward,
        args: Arguments,
        dtype: npt.DTypeLike,
    ) -> None:
        self.forward, self.backward = forward, backward
        self.dtype, self.eps = np.dtype(dtype), precision_of(dtype).eps
        for role, function in {"forward": forward, "backward": backward}.items():
            if not callable(function):
                raise TypeError(
                    f"{role} must be a function, got {type(function).__name__}; for layers "
                    "written in another way see npllm.checking.adapters"
                )
        args = [args] if isinstance(args, (np.ndarray, Mapping, float)) else list(args)
        self.names = _argument_names(forward, len(args))
        self.args: list[object] = [
            map_named(self._checked, arg, name) for name, arg in zip(self.names, args, strict=True)
        ]
        self._plain = {n: arg for n, arg in enumerate(args) if _is_plain(arg)}
        self.floating = [
            n for n, arg in enumerate(self.args) if any(is_float(a) for _, a in leaves(arg))
        ]
        if not self.floating:
            raise ValueError(f"args must hold at least one {self.dtype} array, got none")
        self.leaves = {name: a for name, a in self.all_leaves().items() if is_float(a)}
        if not any(a.size for a in self.leaves.values()):
            raise ValueError("every floating array in args is empty: there is nothing to check")

    def _checked(self, name: str, array: Array) -> Array:
        if array.dtype.kind == "c":
            raise TypeError(f"{name} is {array.dtype}, and gradcheck needs {self.dtype}")
        if is_float(array) and array.dtype != self.dtype and self.dtype == np.float64:
            if array.dtype.itemsize > self.dtype.itemsize:
                raise TypeError(f"{name} is {array.dtype}, and gradcheck needs float64")
            raise TypeError(
                f"{name} is {array.dtype}, and gradcheck needs float64: a difference of two "
                "float32 losses keeps about three digits, too few to tell a wrong gradient "
                "from rounding; convert it with astype(np.float64), or, for a layer that can do "
                "no better, pass dtype=np.float32"
            )
        if is_float(array) and np.isnan(array).any():
            raise ValueError(f"{name} holds NaN: there is no derivative to check")
        return array.astype(self.dtype) if is_float(array) else array.copy()

    def all_leaves(self) -> dict[str, Array]:
        """Return every array of the arguments by name, ids and masks too."""
        named: dict[str, Array] = {}
        for name, arg in zip(self.names, self.args, strict=True):
            named.update(leaves(arg, name))
        return named

    def at(self, args: list[object]) -> Pair:
        """Return the pair at other arguments of the same kinds and shapes."""
        given = [self._plain.get(n, arg) for n, arg in enumerate(args)]
        return Pair(self.forward, self.backward, given, self.dtype)

    def run(self, args: list[object]) -> tuple[object, object]:
        """Return (y, cache) of copies of ``args``.

        Raises:
            TypeError: the forward returns something else.
        """
        return self.run_on(map_leaves(np.copy, args))

    def run_on(self, args: list[object]) -> tuple[object, object]:
        """Return (y, cache) of these very arrays."""
        result: object = self.forward(*(self._plain.get(n, arg) for n, arg in enumerate(args)))
        if not isinstance(result, tuple) or len(result) != 2:
            what = (
                f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
            )
            raise TypeError(
                f"forward must return the pair (y, cache), got {what}; for layers written in "
                "another way see npllm.checking.adapters"
            )
        return result

    def gradients(self, dy: object, cache: object) -> Gradients:
        """Return copies of what the backward claims of a copy of dy, by argument."""
        return copied(self.gradients_of(self.backward(map_leaves(np.copy, dy), cache)))

    def gradients_of(self, returned: object) -> Gradients:
        """Return what a backward returned by the names of the floating arrays; None where absent.

        Raises:
            TypeError: one is no array of numbers.
            ValueError: there is another number of gradients than of floating arguments.
        """
        claims = self._by_argument(returned)
        found: Gradients = {}
        for n, claim in zip(self.floating, claims, strict=True):
            claimed = dict(leaves(claim, self.names[n]))
            for name, array in claimed.items():
                if array.dtype.kind not in "fciub":
                    what = type(claim).__name__ if array.dtype == object else array.dtype
                    text = f"the gradient of {name} must be an array of numbers"
                    raise TypeError(f"{text}, got {what}")
            for name, x in leaves(self.args[n], self.names[n]):
                if is_float(x):
                    found[name] = claimed.get(name)
        return found

    def _by_argument(self, gradients: object) -> list[object]:
        """Return a gradient for each floating argument, however the backward put them together."""
        names = [self.names[n] for n in self.floating]
        several = isinstance(gradients, (tuple, list))
        each = list(gradients) if isinstance(gradients, (tuple, list)) else [gradients]
        if len(names) == 1 and several and isinstance(self.args[self.floating[0]], (tuple, list)):
            # one gradient may come as it is, or as a tuple of one
            inner = len(each) == 1 and isinstance(each[0], (tuple, list))
            each = each if inner else [gradients]
        if len(each) == len(self.args):  # None, say, in the place of ids
            each = [each[n] for n in self.floating]
        if len(each) != len(names):
            got = len(each) if several else type(each[0]).__name__
            passed_over = [name for name in self.names if name not in names]
            none = f"; {', '.join(passed_over)} hold no floating numbers" if passed_over else ""
            raise ValueError(
                f"backward must return a gradient for each of {', '.join(names)}, got {got}{none}"
            )
        return each


class Probe:
    """The forward along lines through one argument; what is ``known`` is not computed again."""

    def __init__(
        self, pair: Pair, v: list[Array], kind: Kind, known: Outputs | None = None
    ) -> None:
        dtype = np.complex128 if kind == "complex" else pair.dtype
        self.pair, self.v, self.kind, self.known = pair, v, kind, known
        self.args: list[object] = map_leaves(
            lambda a: np.array(a, dtype) if is_float(a) else a, pair.args
        )
        self.leaves: dict[str, Array] = {}
        for name, arg in zip(pair.names, self.args, strict=True):
            self.leaves.update(leaves(arg, name))

    def line(self, name: str, direction: Direction) -> Line:
        """Return the line through an element, or in a random direction."""
        known: Outputs = {} if self.known is None else self.known

        def outputs(step: complex) -> list[Array]:
            key = self.kind, name, direction, step
            if key not in known:
                known[key] = self.along(name, self._array(name, direction)).outputs(step)
            return known[key]

        return Line(outputs, self.v, self.pair.eps)

    def along(self, name: str, direction: Array) -> Line:
        """Return the line through the argument along a direction of its own shape."""
        x = self.leaves[name]
        before = x.copy()

        def outputs(step: complex) -> list[Array]:
            x[...] = before + (step * direction).astype(x.dtype)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", ComplexWarning)
                    y, _ = self.pair.run(self.args)  # on copies: a forward may write to them
                return [np.array(a) for _, a in leaves(y)]
            finally:
                x[...] = before

        return Line(outputs, self.v, self.pair.eps)

    def _array(self, name: str, direction: Direction) -> Array:
        shape = self.leaves[name].shape
        if not isinstance(direction, tuple):
            return drawn(direction, shape)
        one = np.zeros(shape)
        one[direction] = 1
        return one


def _is_plain(arg: object) -> bool:
    """Whether it is a string, a flag, an integer or an object: passed on as it is."""
    if isinstance(arg, (np.ndarray, Mapping, tuple, list)):
        return False
    array = np.asarray(arg)
    return array.ndim == 0 and array.dtype.kind not in "fc"


def _argument_names(forward: Callable[..., object], count: int) -> list[str]:
    """Return the names of the forward's positional parameters, ``arg0``... where it has none."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[n] if n < len(names) else f"arg{n}" for n in range(count)]
