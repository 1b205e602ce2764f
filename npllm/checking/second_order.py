"""Second derivatives from a hand-written backward: Hessian-vector products, and their symmetry.

A backward is a function like any other, and a complex step through it differentiates it once more:
with L(x) = sum(dy * f(x)) and g its gradient, Im g(x + ihv) / h = H v, right to rounding.
Pearlmutter, "Fast Exact Multiplication by the Hessian" (1994) gets the same product by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npllm.checking.methods import ROUNDING, precision_of
from npllm.checking.pair import SALT, Arguments, Backward, Forward, Pair, is_float
from npllm.checking.report import Comparison
from npllm.checking.trees import Array, leaves, map_leaves, map_named

STEP = 1e-20
REAL_STEPS = (1e-4, 1e-5, 1e-6, 1e-7)  # of the difference that a complex step is held against


def hvp(
    forward: Forward,
    backward: Backward,
    args: Arguments,
    vectors: Array | dict[str, Array] | Sequence[object],
    dy: object = 1.0,
) -> tuple[Any, ...]:
    """Return the Hessian of L(args) = sum(dy * y) times a vector.

    Args:
        forward: as for :func:`gradcheck`, analytic.
        backward: as for :func:`gradcheck`; it must keep complex numbers.
        args: as for :func:`gradcheck`.
        vectors: one for each argument that holds floating arrays, in their structure.
        dy: the cotangent, with the structure of y; 1 for a loss.

    Returns:
        H v: one for each floating argument, in its structure.

    Raises:
        TypeError: the backward turns complex numbers into real ones, or the pair is not analytic
            (an abs, a conjugate, a norm): the complex step then gives no derivative.
        ValueError: there is another number of vectors, or one has another shape.

    >>> def forward(x):
    ...     return (x**3).sum(), x
    >>> def backward(dy, x):
    ...     return 3 * x * x * dy
    >>> (hv,) = hvp(forward, backward, np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    >>> hv.tolist()  # 6 x v
    [6.0, 120.0]
    """
    pair = Pair(forward, backward, args, np.float64)
    if isinstance(vectors, (np.ndarray, dict)):
        vectors = [vectors]
    if len(vectors) != len(pair.floating):
        names = ", ".join(pair.names[n] for n in pair.floating)
        raise ValueError(f"vectors must hold one for each of {names}, got {len(vectors)}")
    return tuple(_product(pair, vectors, dy))


def hessian_symmetry(
    forward: Forward,
    backward: Backward,
    args: Arguments,
    dy: object = None,
    *,
    seed: int = 0,
) -> Comparison:
    """Compare u . Hv with v . Hu for random u and v, H the derivative of the backward.

    Both must be analytic, as for :func:`hvp`.

    The derivative of a gradient is symmetric. A backward whose derivative is not is the gradient of
    no function at all, whatever the forward: this check does not look at it beyond its cache.

    Args:
        forward: as for :func:`hvp`.
        backward: as for :func:`hvp`.
        args: as for :func:`gradcheck`.
        dy: the cotangent; random where None.
        seed: draws u, v and dy.

    Returns:
        A comparison, of which ``analytic`` is u . Hv and ``numeric`` v . Hu; its error is relative
        to the sum of the products' magnitudes. It ``passed`` within 1e-12.

    >>> hessian_symmetry(lambda x: ((x**3).sum(), x), lambda dy, x: 3 * x * x * dy,
    ...                  np.array([1.0, 2.0])).passed
    True
    """
    pair = Pair(forward, backward, args, np.float64)
    rng = np.random.default_rng((seed, SALT))
    if dy is None:
        y, _ = pair.run(pair.args)
        dy = map_leaves(lambda a: rng.standard_normal(a.shape) * is_float(a), y)

    def drawn(arg: object) -> object:
        return map_leaves(lambda a: rng.standard_normal(a.shape) * is_float(a), arg)

    u, v = ([drawn(pair.args[n]) for n in pair.floating] for _ in range(2))
    left, right = _terms(u, _product(pair, v, dy)), _terms(v, _product(pair, u, dy))
    sums = [float(sum(np.sum(terms) for terms in side)) for side in (left, right)]
    mass = float(sum(np.sum(np.abs(terms)) for terms in [*left, *right]))
    error = abs(sums[0] - sums[1]) / mass if mass else 0.0
    rounding = ROUNDING * precision_of(np.float64).eps
    return Comparison("symmetry", error, 1e-12, rounding, None, sums[0], sums[1], 1)


def _terms(u: list[object], v: list[object]) -> list[Array]:
    return [a * b for (_, a), (_, b) in zip(leaves(u), leaves(v), strict=True)]


def _product(pair: Pair, vectors: Sequence[object], dy: object) -> list[object]:
    """Return Im of the gradients at args + ih vectors, over h."""
    args = list(pair.args)
    for n, vector in zip(pair.floating, vectors, strict=True):
        v = dict(leaves(vector, pair.names[n]))
        for name, a in leaves(pair.args[n], pair.names[n]):
            if is_float(a) and (name not in v or v[name].shape != a.shape):
                got = v[name].shape if name in v else "none"
                raise ValueError(f"the vector for {name} must have shape {a.shape}, got {got}")
        args[n] = map_named(
            lambda name, a, v=v: a + 1j * STEP * v[name] if is_float(a) else a,  # type: ignore[misc]
            args[n],
            pair.names[n],
        )
    _, cache = pair.run_on(args)
    complex_dy = map_leaves(lambda a: a.astype(np.complex128) if is_float(a) else a, dy)
    products: dict[str, Array] = {}
    for name, g in pair.gradients(complex_dy, cache).items():
        if g is None or g.dtype.kind != "c":
            got = "nothing" if g is None else str(g.dtype)
            raise TypeError(f"the backward must keep complex numbers, got {got} for {name}")
        products[name] = g.imag / STEP
    _check_analytic(pair, vectors, dy, products)
    return [
        map_named(
            lambda name, a: products.get(name, np.zeros(a.shape)), pair.args[n], pair.names[n]
        )
        for n in pair.floating
    ]


def _check_analytic(
    pair: Pair, vectors: Sequence[object], dy: object, products: dict[str, Array]
) -> None:
    """Raise TypeError where no difference of real gradients agrees with the complex step."""
    moves: dict[str, Array] = {}
    for n, vector in zip(pair.floating, vectors, strict=True):
        moves.update(leaves(vector, pair.names[n]))
    longest = max((float(np.abs(v).max(initial=0)) for v in moves.values()), default=0.0)
    if longest == 0:
        return

    def gradients(step: float) -> dict[str, Array | None]:
        args = [
            map_named(lambda name, a: a + step * moves[name] if is_float(a) else a, arg, name)
            for arg, name in zip(pair.args, pair.names, strict=True)
        ]
        _, cache = pair.run_on(args)
        return pair.gradients(dy, cache)

    for h in (step / longest for step in REAL_STEPS):
        try:
            after, before = gradients(h), gradients(-h)
        except ValueError:  # the step left the domain of the forward
            continue
        off = largest = size = 0.0
        for name, product in products.items():
            a, b = after[name], before[name]
            if a is None or b is None or not product.size:
                continue
            if not (np.isfinite(a).all() and np.isfinite(b).all()):
                return  # there is no derivative to hold it against
            difference = (a - b) / (2 * h)
            off = max(off, float(np.abs(difference - product).max()))
            largest = max(largest, float(np.abs(difference).max()), float(np.abs(product).max()))
            size = max(size, float(np.abs(a).max()))
        if off <= 1e-3 * largest + ROUNDING * pair.eps * size / h:
            return
    raise TypeError(
        "the complex step through the backward is no derivative of it: the forward or the backward "
        "is not analytic (an abs, a norm, a conjugate, a maximum of complex numbers on the way)"
    )
