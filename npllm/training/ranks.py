"""Workers as ranks of MPI, on one machine or on many: ``mpiexec -n 4 npllm train ...``.

Each rank has all parameters, its rows of the batch and their gradient, and its slice of the
optimizer's state. The sum of the gradients is a reduce-scatter, which leaves each rank the slice
that it updates; an all-gather then brings the updated slices to all. Together they are the
all-reduce of Rabenseifner, "Optimization of Collective Reduction Operations" (2004), with the
update in its middle, bucket by bucket. Rank 0 alone reads, locks, reports and writes: the others do
what it sends.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from npllm.extras import missing
from npllm.heap import keep_freed_memory
from npllm.layers.arrays import Array
from npllm.models import Trainable
from npllm.optim import Optimizer
from npllm.threads import blas_held
from npllm.training.shares import Piece, Recipe, Result, Share, quietly, slices

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

BUCKET = 2**20  # numbers: longer messages take more than their share, see docs/en/scaling.md

# Where those who start ranks say how many there are, and which of them this is: MPICH and its kin,
# MVAPICH, Open MPI, and Slurm with PMIx.
_LAUNCHERS = (
    ("PMI_SIZE", "PMI_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("SLURM_NTASKS", "PMIX_RANK"),
)


def launched() -> tuple[int, int]:
    """Return how many ranks this process was started among, and which it is; (1, 0) if alone."""
    for names in _LAUNCHERS:
        size, rank = (os.environ.get(name, "") for name in names)
        if size.isdecimal() and rank.isdecimal():
            return int(size), int(rank)
    return 1, 0


def buckets(size: int) -> list[slice]:
    """Return the parts in which a vector of so many numbers is exchanged."""
    return slices(size, max(1, -(-size // BUCKET)))


def run(function: Callable[[World | None], int]) -> int:
    """Run a function in this process, or on rank 0 while the others do what it sends.

    Args:
        function: of the world, None where this process was started alone; returns the exit status.

    Returns:
        The exit status of this process. However the function ends, the other ranks end too.
    """
    size, rank = launched()
    if size == 1:
        return function(None)
    try:
        world = World.joined(size)
    except ValueError as error:  # other ranks may be waiting to be joined: only a signal ends them
        print(f"npllm: error: rank {rank}: {error}", file=sys.stderr, flush=True)
        os.abort()
    if world.rank > 0:
        return world.follow()
    status = 1  # of what nobody expects
    try:
        status = function(world)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    return world.end(status)


# Seconds in which mpiexec passes on what a rank has written; an abort may overtake it otherwise.
PASSED_ON = 0.2


class World:
    """The ranks that were started together.

    Args:
        communicator: of all of them.

    Attributes:
        rank: which this is.
        size: how many there are.
        led: whether a team of them is at work.
        busy: whether a call is that not all have answered.
    """

    def __init__(self, communicator: Intracomm) -> None:
        self.communicator = communicator
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        self.led = self.busy = False

    @classmethod
    def joined(cls, size: int) -> World:
        """Return the world of this process, one of so many that were started.

        Raises:
            ValueError: there is no MPI that would join them.
        """
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:  # no package, or no library of MPI
            raise missing(
                f"{size} ranks were started, and mpi4py, which joins them, cannot be imported "
                f"({error}), or is of another MPI than the mpiexec",
                "mpi4py mpich",
                "mpi",
            ) from None
        world = cls(MPI.COMM_WORLD)
        if world.size != size:
            raise ValueError(
                f"{size} ranks were started, and mpi4py sees {world.size}: use the mpiexec of the "
                f"MPI that mpi4py has loaded, {MPI.Get_library_version().splitlines()[0]}"
            )
        return world

    def follow(self) -> int:
        """Do what rank 0 sends, until it ends; return the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # they are for rank 0
        keep_freed_memory()
        share: Share | None = None
        try:
            with blas_held(1):
                while (message := self.communicator.recv(source=0)) is not None:
                    function, own = message
                    if function is make_share:
                        share = make_share(self.communicator, *own)
                    else:
                        self.communicator.send(quietly(function, share, *own), dest=0)
        except Exception as error:
            text = " ".join(f"rank {self.rank}: {type(error).__name__}: {error}".split())
            print(f"npllm: error: {text}: go on from the last checkpoint", file=sys.stderr)
            self._abort(2)  # the others may wait for this one where no message would reach them
        return 0

    def end(self, status: int) -> int:
        """Let the others end with this one, rank 0; return the exit status."""
        if self.busy:  # they wait for what will not come
            self._abort(status or 1)
        for rank in range(1, self.size):
            self.communicator.send(None, dest=rank)
        return status

    def _abort(self, status: int) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        time.sleep(PASSED_ON)
        self.communicator.Abort(status)
        os._exit(status)  # before anything else happens here


class Collective:
    """The exchange of ranks: of a bucket of numbers, of which each rank updates a slice.

    Args:
        communicator: of all ranks.
        gradients: this rank's own.
        parameters: the same for all.
    """

    def __init__(self, communicator: Intracomm, gradients: Array, parameters: Array) -> None:
        self._communicator, self._gradients, self._parameters = communicator, gradients, parameters
        places = slices(parameters.size, communicator.Get_size())
        self._counts = [place.stop - place.start for place in places]
        self.slice: Array = parameters[places[communicator.Get_rank()]]
        self.own: Array = np.empty_like(self.slice)

    def reduce(self) -> None:
        """Sum this rank's slice of all gradients, in an order that their number determines."""
        self._communicator.Reduce_scatter(self._gradients, self.own, self._counts)

    def gather(self) -> None:
        """Let all ranks have this one's slice of the parameters, and it theirs."""
        self._communicator.Allgatherv(self.slice.copy(), [self._parameters, self._counts])

    def scatter(self, whole: Array | None) -> Array:
        """Return this rank's slice of what rank 0 has."""
        own: Array = np.empty_like(self.own)
        self._communicator.Scatterv(whole if whole is None else [whole, self._counts], own, root=0)
        return own

    def collect(self, own: Array, whole: Array | None) -> None:
        """Write the slices of all ranks into what rank 0 has."""
        self._communicator.Gatherv(own, whole if whole is None else [whole, self._counts], root=0)


def make_share(
    communicator: Intracomm,
    recipe: Recipe,
    model: Trainable | None = None,
    optimizer: Optimizer | None = None,
) -> Share:
    """Return a rank's share, by all ranks at once; rank 0 has the model and the optimizer."""
    if model is None:
        model = recipe.model()
    parameters = model.parameters.vector
    communicator.Bcast(parameters, root=0)
    if recipe.rule is None:
        return Share(model)
    gradients, pieces = model.parameters.zeros_like(), []
    for bucket in buckets(parameters.size):
        exchange = Collective(communicator, gradients.vector[bucket], parameters[bucket])
        state = {
            name: exchange.scatter(None if optimizer is None else optimizer.state[name][bucket])
            for name in recipe.rule.carried
        }
        pieces.append(Piece(exchange, recipe.rule.over(exchange.slice, state)))
    return Share(model, gradients, pieces)


def collect(share: Share, optimizer: Optimizer | None = None) -> None:
    """Bring the sum of the gradients and the optimizer's state to rank 0, by all ranks at once."""
    assert share.gradients is not None
    gradients = share.gradients.vector
    for bucket, (exchange, rule) in zip(buckets(gradients.size), share.pieces, strict=True):
        assert isinstance(exchange, Collective)
        exchange.collect(exchange.own, None if optimizer is None else gradients[bucket])
        for name, own in rule.state.items():
            exchange.collect(own, None if optimizer is None else optimizer.state[name][bucket])


class Ranks:
    """A team of all ranks, of which this is rank 0.

    Args:
        model: its parameters.
        optimizer: its state is scattered at the start, and here again when it was collected; None
            where nothing is trained.
        world: the ranks.
    """

    def __init__(self, model: Trainable, optimizer: Optimizer | None, world: World) -> None:
        self._optimizer, self._world = optimizer, world
        self.share = Share(model)
        self._started = False

    def start(self) -> None:
        """Send all ranks their share."""
        if self._world.led:
            raise ValueError("the ranks are already at work")
        model, optimizer = self.share.model, self._optimizer
        recipe = Recipe.of(model, optimizer)
        self._world.busy = True
        for rank in range(1, self._world.size):
            self._world.communicator.send((make_share, (recipe,)), dest=rank)
        self.share = make_share(self._world.communicator, recipe, model, optimizer)
        self._world.busy = False
        self._started = self._world.led = True

    def call(
        self, function: Callable[..., Result], arguments: Sequence[tuple[object, ...]]
    ) -> list[Result]:
        """Return what each rank's function of its share and its arguments returned.

        An error here leaves the others waiting: the world then ends with this rank.
        """
        if not self._started:
            raise ValueError("the ranks were not started: call within working()")
        others = range(1, len(arguments))
        self._world.busy = True
        for rank in others:
            self._world.communicator.send((function, arguments[rank]), dest=rank)
        results = [quietly(function, self.share, *arguments[0])]
        results += [self._world.communicator.recv(source=rank) for rank in others]
        self._world.busy = False
        return results

    def collect(self) -> None:
        """Bring the sum of the gradients and the optimizer's state here."""
        if self._started and self._optimizer is not None:
            self.call(collect, [(self._optimizer,), *[()] * (self._world.size - 1)])

    def close(self) -> None:
        """Leave the others waiting for another start."""
        if not self._world.busy:
            self.collect()
        if self._started:
            self._started = self._world.led = False
