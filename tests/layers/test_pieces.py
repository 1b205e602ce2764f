"""Layers in pieces: the same numbers, on any number of threads."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_close

from npllm.evidence import ARGUMENTS
from npllm.evidence.source import Source
from npllm.layers import (
    gelu_backward,
    gelu_forward,
    layer_norm_backward,
    layer_norm_forward,
    pieces,
    rms_norm_backward,
    rms_norm_forward,
)
from npllm.layers.pieces import Pieces, forward_in_pieces
from npllm.threads import blas_held, granted_cores, on_cores

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
        patch.setattr(pieces, "numbers_at_a_time", lambda: 10**9)
        expected = layer.run()
        patch.setattr(pieces, "numbers_at_a_time", lambda: piece)
        assert_close(layer.run(), expected, floor=1)


def test_as_many_rows_as_fit_come_at_a_time(monkeypatch):
    monkeypatch.setattr(pieces, "numbers_at_a_time", lambda: 20)
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


def test_what_a_piece_is(monkeypatch):
    monkeypatch.setattr(pieces, "numbers_at_a_time", lambda: 6)
    seen = []

    def forward(x):
        seen.append(x.shape)
        return x, None

    def asked(*shape):
        seen.clear()
        _, cache = forward_in_pieces(forward, np.ones(shape))
        assert isinstance(cache, Pieces) == (seen != [shape])
        return seen

    assert asked(2, 3) == [(2, 3)]  # as many numbers as a piece may have
    assert asked(3, 3) == [(2, 3), (1, 3)]
    assert asked(2, 2, 3) == [(2, 3), (2, 3)]
    assert asked(3, 8) == [(1, 8)] * 3  # a row is never cut
    assert asked(12) == [(12,)]


def test_a_gradient_of_another_shape_is_refused(monkeypatch):
    monkeypatch.setattr(pieces, "numbers_at_a_time", lambda: 6)
    _, cache = gelu_forward(np.ones((4, 3)))
    assert isinstance(cache, Pieces)
    with pytest.raises(ValueError, match=r"^dy must have shape \(4, 3\), got \(2, 6\)$"):
        gelu_backward(np.ones((2, 6)), cache)


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


def test_what_one_thread_spreads_does_not_change_what_another_is_granted():
    """Else the size of the pieces, and with it the last bits, would depend on the moment."""
    inside, seen = threading.Barrier(3, timeout=60), threading.Barrier(3, timeout=60)

    def run(_):
        inside.wait()
        seen.wait()
        return granted_cores()

    with blas_held(2), ThreadPoolExecutor(1) as other:
        spread = other.submit(on_cores, run, [0, 1])
        inside.wait()
        assert granted_cores() == 2
        seen.wait()
        assert spread.result() == [1, 1]


def test_an_error_in_a_piece_is_the_callers():
    with blas_held(2), pytest.raises(ZeroDivisionError):
        on_cores(lambda n: 1 // n, [1, 0, 2])


def test_the_result_has_the_dtype_that_it_would_have_at_once(monkeypatch):
    x = Source().normal(6, 4)
    for forward, backward, args in [
        (gelu_forward, gelu_backward, (x.astype(np.float32),)),
        (layer_norm_forward, layer_norm_backward, (x, np.ones(4))),
        (rms_norm_forward, rms_norm_backward, (x.astype(complex), np.ones(4, complex))),
    ]:
        results = []
        for piece in (1000, 8):
            monkeypatch.setattr(pieces, "numbers_at_a_time", lambda piece=piece: piece)
            y, cache = forward(*args)
            results.append((y, backward(np.ones_like(y), cache)))
        assert_close(results[1], results[0], floor=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked")
def test_a_forked_process_has_threads_of_its_own():
    def run(queue):
        with blas_held(2):
            queue.put(on_cores(abs, [-1, 2, -3]))

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    run(queue)
    assert queue.get(timeout=60) == [1, 2, 3]
    child = context.Process(target=run, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == [1, 2, 3]
    child.join()


def test_a_piece_is_larger_where_threads_share_the_work():
    with blas_held(1):
        assert pieces.numbers_at_a_time() == pieces.ALONE
    with blas_held(2):
        assert pieces.numbers_at_a_time() == pieces.SHARED > pieces.ALONE
