"""What the ranks of a test run; the first writes what it has seen."""

import functools
import os
import signal
import sys

import numpy as np
import pytest
from test_workers import build, draw, trained

from npllm.models import LSTMLanguageModel
from npllm.optim import SGD
from npllm.training import ranks
from npllm.training.ranks import launched
from npllm.training.shares import Share
from npllm.training.workers import Workers


def steps(world, out):
    """Take the same steps with every kind of model."""
    seen = {}
    for kind in ("lstm", "gpt", "llama"):
        for parts in (1, 2):
            told, vectors, drawn, taken = trained(kind, 1, world=world, accumulate=parts)
            seen[f"{kind}.{parts}.told"] = np.array(told)
            seen[f"{kind}.{parts}.rest"] = np.array([drawn, taken])
            for n, vector in enumerate(vectors):
                seen[f"{kind}.{parts}.{n}"] = vector
    model = build()
    workers = Workers(model, SGD(model.parameters, 0.1), world=world)
    with workers.working():
        workers.differentiate(*draw())
        seen["gradients"] = workers.gradients.vector
    np.savez(out, **seen)


def failure(world, out):
    """Take a step that fails on the last rank, while the others wait for its gradient."""
    model = LSTMLanguageModel(7, 3, 4)
    with Workers(model, SGD(model.parameters, 0.1), world=world).working() as workers:
        workers.map(fail, [(out,)] * world.size)


def fail(model, out):
    if launched()[1] > 0:
        raise ArithmeticError("two\nlines")


def killed(rank, words):
    """Train, and be killed in the seventh step where this is that rank."""
    from npllm.cli import main

    original, steps = Share.differentiate, []

    def differentiate(share, parts):
        steps.append(parts)
        if launched()[1] == rank and len(steps) == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(share, parts)

    Share.differentiate = functools.wraps(original)(differentiate)
    return main(["train", *words])


def unread(world, out):
    """Send what the last rank cannot read."""
    model = LSTMLanguageModel(7, 3, 4)
    with Workers(model, SGD(model.parameters, 0.1), world=world).working() as workers:
        workers.map(fail, [(Unread(),)] * world.size)


class Unread:
    """What cannot be unpickled."""

    def __reduce__(self):
        return fail, (None, None)


def raised(world, out):
    """Fail on rank 0 while the others wait."""
    raise ArithmeticError("of rank 0")


def unmade(world, out):
    """Fail where the last rank makes its share."""
    model = LSTMLanguageModel(7, 3, 4)
    model.config = {"vocab_size": -1}
    Workers(model, SGD(model.parameters, 0.1), world=world).working().__enter__()


def two_teams(world, out):
    """Start a team while another is at work."""
    model = LSTMLanguageModel(7, 3, 4)
    first, second = (Workers(model, SGD(model.parameters, 0.1), world=world) for _ in range(2))
    with first.working():
        with pytest.raises(ValueError, match="the ranks are already at work"), second.working():
            pass
        assert first.map(size_of, [()] * world.size) == [model.parameters.vector.size] * world.size
    with second.working():
        assert second.map(size_of, []) == []
        with pytest.raises(ValueError, match="workers take so many items at a time, got 4"):
            second.map(size_of, [()] * 4)


def size_of(model):
    return model.parameters.vector.size


CALLS = {call.__name__: call for call in (steps, failure, unread, raised, unmade, two_teams)}

if __name__ == "__main__":
    name, first, *others = sys.argv[1:]
    if name == "killed":
        sys.exit(killed(int(first), others))
    ranks.BUCKET = 100  # numbers, so that these small models have several buckets
    sys.exit(ranks.run(lambda world: CALLS[name](world, first) or 0))
