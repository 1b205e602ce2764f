"""Workers: their shares add up to the whole, in this process, in others, in any number."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from npllm.models import GPT, Llama, LSTMLanguageModel
from npllm.optim import SGD, clip_global_norm
from npllm.text.batches import Batch
from npllm.training.workers import Workers, usual_workers

METHODS = sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods()))


def build(kind="lstm", dropout=0.5):
    if kind == "lstm":
        options = {"num_layers": 2, "dropout": dropout, "dtype": np.float64, "seed": 3}
        return LSTMLanguageModel(7, 3, 4, **options)
    if kind == "gpt":
        return GPT(7, 6, 8, 2, 2, dropout=dropout, dtype=np.float64, seed=3)
    return Llama(
        vocab_size=7, context=6, width=8, num_layers=2, heads=2, dropout=dropout, dtype=np.float64
    )


def draw(batch=5, time=6):
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(7, size=(2, batch, time))
    targets[0] = -100  # a worker may have fewer targets than another, or none
    return Batch(ids, targets, True), tuple(rng.normal(size=(2, 2, batch, 4)))


def trained(kind, count, *, steps=3, dropout=0.5, method=None, **options):
    """Return what some steps give: losses, norms, states, parameters and the optimizer's state."""
    model = build(kind, dropout)
    # not Adam: it makes a whole step of a gradient that is zero but for rounding
    optimizer = SGD(model.parameters, 0.1, 0.9)
    batch, state = draw()
    state = state if kind == "lstm" else None
    rng, told = np.random.default_rng(1), []
    with Workers(model, optimizer, count, start_method=method, **options).working() as workers:
        for _ in range(steps):
            result = workers.differentiate(batch, state, rng if dropout else None)
            told.append((result.loss, result.tokens, result.norm))
            if state is not None:
                state = result.state
            workers.update(0.1, result.norm, 1.0)
    vectors = [model.parameters.vector, *optimizer.state.values(), *(state or ())]
    return told, [np.array(v) for v in vectors], rng.random(), optimizer.steps


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(
    ("kind", "count"), [("lstm", 2), ("lstm", 3), ("lstm", 9), ("gpt", 3), ("llama", 2)]
)
def test_any_number_of_workers_takes_the_same_steps(kind, count, dropout):
    told, vectors, drawn, steps = trained(kind, 1, dropout=dropout)
    others = [trained(kind, count, dropout=dropout, method=METHODS[0]) for _ in range(2)]
    for other_told, other_vectors, other_drawn, other_steps in others:
        np.testing.assert_allclose(other_told, told, rtol=1e-12)
        for vector, expected in zip(other_vectors, vectors, strict=True):
            np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-11)
        assert (other_drawn, other_steps) == (drawn, steps)
    # the same number of workers, the same bits
    assert others[0][0] == others[1][0]
    for one, other in zip(others[0][1], others[1][1], strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_processes_may_be_forked_or_spawned(method):
    expected, vectors, *_ = trained("lstm", 2, method=METHODS[0])
    told, others, *_ = trained("lstm", 2, method=method)
    assert told == expected
    for one, other in zip(vectors, others, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("kind", ["lstm", "gpt"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("accumulate", [2, 4, 9])
def test_parts_of_a_batch_add_up_to_it(kind, count, accumulate):
    told, vectors, drawn, _ = trained(kind, 1)
    options = {"accumulate": accumulate, "method": METHODS[0]}
    other_told, other_vectors, other_drawn, _ = trained(kind, count, **options)
    np.testing.assert_allclose(other_told, told, rtol=1e-12)
    for vector, expected in zip(other_vectors, vectors, strict=True):
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-11)
    assert drawn == other_drawn


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_is_that_of_the_model_and_the_rule(count):
    model, like = build(dropout=0.0), build(dropout=0.0)
    batch, state = draw()
    plain = like.loss_and_gradients(*batch.arguments, state)
    plain.gradients.vector /= plain.tokens
    mean = plain.gradients.vector.copy()
    norm = clip_global_norm(plain.gradients, 0.1)
    assert norm > 0.1
    SGD(like.parameters, 0.1).step(plain.gradients)
    with Workers(model, SGD(model.parameters, 1.0), count).working() as workers:
        result = workers.differentiate(batch, state)
        np.testing.assert_allclose(workers.gradients.vector, mean, rtol=0, atol=1e-12 * norm)
        assert set(workers.gradients) == set(model.parameters)
        workers.update(0.1, result.norm, 0.1)
    assert result.loss == pytest.approx(plain.loss, rel=1e-12)
    assert result.norm == pytest.approx(norm, rel=1e-12)
    assert result.tokens == plain.tokens == 24
    np.testing.assert_allclose(model.parameters.vector, like.parameters.vector, rtol=0, atol=1e-12)
    for part, expected in zip(result.state, plain.state, strict=True):
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-12)


def test_the_generator_determines_every_mask():
    batch, state = draw()

    def gradients(seed):
        model = build()
        rng = np.random.default_rng(seed)
        with Workers(model, SGD(model.parameters), 1).working() as workers:
            workers.differentiate(batch, state, rng)
            return workers.gradients.vector.tobytes()

    assert gradients(1) == gradients(1) != gradients(2)


def test_each_row_has_masks_of_its_own():
    ids = np.tile(draw()[0].ids[:1], (2, 1))
    model = build()
    with Workers(model, SGD(model.parameters), 2).working() as workers:
        result = workers.differentiate(Batch(ids, ids, True), None, np.random.default_rng(0))
    h, _ = result.state
    assert not np.array_equal(h[1, 0], h[1, 1])


def test_a_batch_without_a_target_has_no_gradient():
    model = build(dropout=0.0)
    batch = Batch(draw()[0].ids, np.full((5, 6), -100), True)
    with Workers(model, SGD(model.parameters), 2).working() as workers:
        result = workers.differentiate(batch)
        assert (result.loss, result.tokens, result.norm) == (0.0, 0, 0.0)
        assert not workers.gradients.vector.any()


def blas_threads(model, _):
    return [b["num_threads"] for b in threadpool_info() if b["user_api"] == "blas"]


def inverse(model, n):
    return 1 // n


def overflow(model, x):
    return float(np.exp(np.array(x)))


@pytest.mark.parametrize("count", [1, 3])
def test_workers_map_in_order(count):
    with Workers(build(), count=count).working() as workers:
        assert workers.map(inverse, [(1,), (2,), (-1,)][:count]) == [1, 0, -1][:count]
        assert workers.map(inverse, [(1,)]) == [1]
        assert workers.map(overflow, [(1e4,)] * count) == [math.inf] * count
        assert {n for found in workers.map(blas_threads, [(0,)] * count) for n in found} == {1}


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_of_a_worker_is_the_callers(count):
    with (
        Workers(build(), count=count).working() as workers,
        pytest.raises(ZeroDivisionError, match="integer division"),
    ):
        workers.map(inverse, [(1,)] * (count - 1) + [(0,)])


def test_they_can_be_started_again():
    model = build()
    workers = Workers(model, count=2)
    for _ in range(2):
        with workers.working():
            assert workers.map(inverse, [(1,), (1,)]) == [1, 1]
        with pytest.raises(ValueError, match=r"were not started: call within working\(\)"):
            workers.map(inverse, [(1,), (1,)])


def test_they_work_for_one_at_a_time():
    workers = Workers(build(), count=2)
    with workers.working():
        with pytest.raises(ValueError, match="already at work"), workers.working():
            pass
        assert workers.map(inverse, [(1,), (1,)]) == [1, 1]


def test_a_start_that_fails_leaves_nobody(monkeypatch):
    workers = Workers(build(), count=3)
    team = workers._team
    started, start = [], team._context.Process.start

    def failing(self):
        if started:
            raise OSError("no more processes")
        started.append(self)
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(team._context.Process, "start", failing)
        with pytest.raises(OSError, match="no more processes"), workers.working():
            pass
    assert started[0].exitcode is not None
    with workers.working():
        assert workers.map(inverse, [(1,)] * 3) == [1, 1, 1]


class OddError(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def fails(model, n):
    if n == 1:
        raise OddError(1, 2)
    return threading.Lock() if n == 2 else n


@pytest.mark.parametrize(("n", "told"), [(1, "OddError: 1 and 2"), (2, "cannot pickle")])
def test_what_cannot_be_sent_is_told(n, told):
    with (
        Workers(build(), count=2).working() as workers,
        pytest.raises((RuntimeError, TypeError), match=told),
    ):
        workers.map(fails, [(0,), (n,)])


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
@pytest.mark.parametrize("method", METHODS)
def test_a_signal_that_ends_the_parent_is_for_the_parent(method):
    with Workers(build(), count=2, start_method=method).working() as workers:
        _, pid = workers.map(own_signal, [(0,), (0,)])
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert workers.map(own_signal, [(0,), (0,)])[1] == pid


def test_a_process_of_a_pool_works_alone(monkeypatch):
    class Daemon:
        daemon = True

    monkeypatch.setattr("multiprocessing.process.current_process", Daemon)
    assert usual_workers() == 1
    monkeypatch.setattr("multiprocessing.current_process", Daemon)
    with (
        pytest.raises(ValueError, match="may start no others: set threads=1"),
        Workers(build(), count=2).working(),
    ):
        pass


@pytest.mark.parametrize("name", ["count", "accumulate"])
def test_there_is_at_least_one(name):
    told = {"count": "threads"}.get(name, name)
    with pytest.raises(ValueError, match=f"{told} must be at least 1, got 0"):
        Workers(build(), **{name: 0})


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (3, 3), (4, 4), (64, 4)])
def test_a_core_gets_a_worker_up_to_a_bound(monkeypatch, cores, count):
    monkeypatch.setattr("npllm.training.workers.available_cores", lambda: cores)
    assert usual_workers() == count


def test_the_parameters_stay_those_of_the_model():
    model = build(dropout=0.0)
    before = model.parameters.vector.copy()
    workers = Workers(model, SGD(model.parameters), 2)
    assert model.parameters.vector.tobytes() == before.tobytes()
    model.parameters["fc.bias"] = 5.0
    with workers.working():
        assert workers.map(sum_of_bias, [(0,), (0,)]) == [35.0, 35.0]


def sum_of_bias(model, _):
    return float(model.parameters["fc.bias"].sum())


def own_signal(model, signal_number):
    if signal_number:
        os.kill(os.getpid(), signal_number)
    return os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
def test_a_killed_worker_ends_the_call_with_one_line():
    with Workers(build(), count=3).working() as workers:
        pids = workers.map(own_signal, [(0,)] * 3)
        with pytest.raises(ChildProcessError) as told:
            workers.map(own_signal, [(0,), (0,), (signal.SIGKILL,)])
        assert "a worker process ended (signal 9)" in str(told.value)
        assert "\n" not in str(told.value)
        assert not any(alive(pid) for pid in pids[1:])


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
@pytest.mark.parametrize("method", METHODS)
def test_workers_end_with_a_parent_that_is_killed(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys, time
        from npllm.models import LSTMLanguageModel
        from npllm.training.workers import Workers

        def pid(model):
            return os.getpid()

        if __name__ == "__main__":
            model = LSTMLanguageModel(7, 3, 4)
            with Workers(model, count=3, start_method="{method}").working() as workers:
                print(*workers.map(pid, [()] * 3), flush=True)
                sys.stdin.read()
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(set(pids)) == 3
    assert all(map(alive, pids))
    parent.kill()
    parent.communicate(timeout=60)  # all of them hold its output: it ends when the last one does
