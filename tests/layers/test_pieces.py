"""Layers in pieces: the same numbers, on any number of threads."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_close

from npllm.evidence import ARGUMENTS
from npllm.evidence.source import Source
from npllm.layers import pieces
from npllm.layers.pieces import Pieces, forward_in_pieces
from npllm.threads import blas_held, on_cores

NAMES = ("layer_norm", "layer_norm, plain", "rms_norm", "rms_norm, plain", "gelu", "swiglu")
CUT = {name: build for name, build in ARGUMENTS.items() if name in NAMES}


def test_each_of_them_is_tried():
    assert CUT.keys() == set(NAMES)


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("build", CUT.values(), ids=CUT)
@given(
    seed=st.integers(0, 99),
    lead=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    n=st.integers(1, 5),
    m=st.integers(1, 4),
    piece=st.integers(1, 20),
)
def test_pieces_are_the_whole(build, cores, seed, lead, n, m, piece):
    layer = build(Source(seed), lead, n, m)
    with pytest.MonkeyPatch.context() as patch, blas_held(cores):
        patch.setattr(pieces, "PIECE", 10**9)
        expected = layer.run()
        patch.setattr(pieces, "PIECE", piece)
        assert_close(layer.run(), expected, floor=1)


def test_as_many_rows_as_fit_come_at_a_time(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 20)
    seen = []

    def forward(x):
        seen.append(len(x))
        return 2 * x, None

    y, cache = forward_in_pieces(forward, np.ones((10, 6)))
    assert seen == [3, 3, 3, 1]
    assert (y == 2).all()
    assert isinstance(cache, Pieces)
    seen.clear()
    _, cache = forward_in_pieces(forward, np.ones((3, 6)))
    assert seen == [3]
    assert cache is None


@pytest.mark.parametrize("cores", [1, 2])
def test_items_are_spread_over_the_cores_that_are_held(cores):
    both = threading.Barrier(cores, timeout=60)

    def run(n):
        both.wait()
        return n * n, threading.current_thread().name

    with blas_held(cores):
        results = on_cores(run, range(4))
    assert [square for square, _ in results] == [0, 1, 4, 9]
    assert len({name for _, name in results}) == cores


def test_items_within_an_item_are_not_spread():
    def outer(n):
        with blas_held(2):
            return on_cores(lambda m: threading.current_thread().name, [0, 1])

    with blas_held(2):
        for names in on_cores(outer, range(4)):
            assert len(set(names)) == 1


def test_an_error_in_a_piece_is_the_callers():
    with blas_held(2), pytest.raises(ZeroDivisionError):
        on_cores(lambda n: 1 // n, [1, 0, 2])
