"""Pairs that misbehave, each in one way, and the layer that all of them spoil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))

Forward = Callable[..., tuple[Any, Any]]
Backward = Callable[[Any, Any], Any]


def forward(x: Any, w: Any) -> tuple[Any, Any]:
    return x * x * w, (x, w)


def backward(dy: Any, cache: Any) -> Any:
    x, w = cache
    return 2 * x * w * dy, x * x * dy


class Bad(NamedTuple):
    """A pair that misbehaves; None stands for the right half."""

    key: str
    text: str
    forward: Forward | None = None
    backward: Backward | None = None
    right: bool = True  # whether its numbers are right nonetheless


def random_forward(x: Any, w: Any) -> Any:
    y, cache = forward(x, w)
    return y * random_forward.rng.normal(), cache


random_forward.rng = np.random.default_rng(0)


def writes_to_x(x: Any, w: Any) -> Any:
    result = forward(x.copy(), w)
    x *= 2
    return result


def writes_to_w_in_backward(dy: Any, cache: Any) -> Any:
    gradients = backward(dy, cache)
    cache[1][...] = 0
    return gradients


def writes_to_y(x: Any, w: Any) -> Any:
    y, cache = forward(x, w)
    return y, (*cache, y)


def writes_to_y_backward(dy: Any, cache: Any) -> Any:
    cache[2][...] = 0
    return backward(dy, cache[:2])


def writes_to_dy(dy: Any, cache: Any) -> Any:
    gradients = backward(dy, cache)
    dy *= 2
    return gradients


def gradients_share(dy: Any, cache: Any) -> Any:
    both = np.stack(backward(dy, cache))
    both[0] += 0
    return both[0], both.reshape(-1)[12:].reshape(3, 4)


def shared_forward(x: Any, w: Any) -> Any:
    return x + w, None


def shared_gradient(dy: Any, cache: Any) -> Any:
    g = dy.copy()
    return g, g


def returns_dy(dy: Any, cache: Any) -> Any:
    return dy, dy.copy()


kept: dict[str, Any] = {}


def accumulates(dy: Any, cache: Any) -> Any:
    dx, dw = backward(dy, cache)
    kept["dx"] = kept.get("dx", 0) + dx
    return kept["dx"].copy(), dw


def accumulating_forward(x: Any, w: Any) -> Any:
    y, cache = forward(x, w)
    return y, (cache, {"dx": np.zeros(x.shape), "dw": np.zeros(w.shape)})


def accumulates_in_the_cache(dy: Any, cache: Any) -> Any:
    inner, sums = cache
    dx, dw = backward(dy, inner)
    sums["dx"] += dx
    sums["dw"] += dw
    return sums["dx"].copy(), sums["dw"].copy()


def does_not_accumulate_in_the_cache(dy: Any, cache: Any) -> Any:
    for a in cache[1].values():
        a[...] = 0
    return accumulates_in_the_cache(dy, cache)


def keeps_the_first_call(dy: Any, cache: Any) -> Any:
    return backward(dy, kept.setdefault("cache", cache))


def forward_that_keeps(x: Any, w: Any) -> Any:
    y, cache = forward(x, w)
    kept["cache"] = cache
    return y, cache


def uses_the_latest_forward(dy: Any, cache: Any) -> Any:
    return backward(dy, kept["cache"])


def copying_forward(x: Any, w: Any) -> Any:
    return forward(x, w)[0], [x.copy(), w.copy()]


def spoils_its_cache(dy: Any, cache: Any) -> Any:
    gradients = backward(dy, cache)
    cache[0] *= 0.5
    return gradients


def looks_at_the_sign(dy: Any, cache: Any) -> Any:
    dx, dw = backward(dy, cache)
    return np.where(dy > 0, dx, 0.9 * dx), dw


def clips_by_value(dy: Any, cache: Any) -> Any:
    dx, dw = backward(dy, cache)
    return np.clip(dx, -1000, 1000), dw


def clips_by_norm(dy: Any, cache: Any) -> Any:
    dx, dw = backward(dy, cache)
    return dx * min(1.0, 1000 / max(float(np.linalg.norm(dx)), 1e-300)), dw


def adds_the_argument(dy: Any, cache: Any) -> Any:
    dx, dw = backward(dy, cache)
    return dx, dw + 0.01 * cache[1]


def adds_something(dy: Any, cache: Any) -> Any:
    dx, dw = backward(dy, cache)
    return dx, dw + 0.01


BAD: dict[str, Bad] = {
    "random forward": Bad("random", "not deterministic", random_forward),
    "input written by the forward": Bad(
        "mutated_input", "the forward wrote to its argument x", writes_to_x
    ),
    "input written by the backward": Bad(
        "mutated_input", "the backward wrote to its argument w", None, writes_to_w_in_backward
    ),
    "y written": Bad("mutated_input", "wrote to y", writes_to_y, writes_to_y_backward),
    "dy written": Bad("mutated_dy", "wrote to dy", None, writes_to_dy),
    "y is x": Bad(
        "aliased",
        "y shares its memory with x",
        lambda x, w: (x, w),
        lambda dy, w: (dy.copy(), 0 * w),
    ),
    "dx is dy": Bad(
        "aliased", "the gradient of x shares its memory with dy", shared_forward, returns_dy
    ),
    "dx is dw": Bad(
        "aliased",
        "the gradient of w shares its memory with the gradient of x",
        shared_forward,
        shared_gradient,
    ),
    "dx is a view of x": Bad(
        "aliased",
        "the gradient of x shares its memory with x",
        lambda x, w: ((x * x).sum() / 2 + w.sum(), (x, w)),
        lambda dy, c: (np.multiply(c[0], dy, out=c[0]), dy * np.ones_like(c[1])),
    ),
    "adds up across calls": Bad("accumulated", "accumulates across calls", None, accumulates),
    "adds up in the cache": Bad(
        "accumulated", "in the cache", accumulating_forward, accumulates_in_the_cache
    ),
    "keeps the first call": Bad(
        "stale", "the cache is stale", None, keeps_the_first_call, right=False
    ),
    "the latest forward wins": Bad(
        "stale", "what the latest forward left", forward_that_keeps, uses_the_latest_forward
    ),
    "spoils its cache": Bad(
        "mutated_cache", "writes to its cache", copying_forward, spoils_its_cache
    ),
    "looks at dy's sign": Bad(
        "nonlinear", "not linear in dy", None, looks_at_the_sign, right=False
    ),
    "clips by value": Bad("clipped", "of x is clipped to 1000", None, clips_by_value),
    "clips by norm": Bad("clipped", "a norm is clipped", None, clips_by_norm),
    "adds the argument": Bad(
        "argument_added", "0.01 times w itself", None, adds_the_argument, right=False
    ),
    "adds a constant": Bad(
        "nonlinear", "something that is no gradient", None, adds_something, right=False
    ),
}
