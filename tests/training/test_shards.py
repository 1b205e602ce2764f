"""Shards on threads: they add up to the whole, in an order of their own."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from npllm.models import LSTMLanguageModel
from npllm.text.batches import Batch
from npllm.training.shards import sharded_loss_and_gradients, usual_shards, workers


def draw(batch=5, time=6):
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(7, size=(2, batch, time))
    targets[0] = -100  # a shard may have fewer targets than another, or none
    return ids, targets, tuple(rng.normal(size=(2, 2, batch, 4)))


@pytest.fixture(scope="module")
def model():
    return LSTMLanguageModel(7, 3, 4, num_layers=2, dropout=0.5, dtype=np.float64)


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3, 5, 9])
def test_shards_sum_to_the_whole(model, threads, with_state):
    ids, targets, state = draw()
    state = state if with_state else None
    whole = model.loss_and_gradients(ids, targets, state)
    with workers(threads) as pool:
        results = [
            sharded_loss_and_gradients(pool, model, Batch(ids, targets, True), state)
            for _ in range(5)
        ]
    for result in results:
        assert result.tokens == whole.tokens == 24
        np.testing.assert_allclose(result.loss, whole.loss, rtol=1e-12)
        scale = np.abs(whole.gradients.vector).max()
        error = np.abs(result.gradients.vector - whole.gradients.vector).max()
        assert error <= 1e-12 * scale
        for part, expected in zip(result.state, whole.state, strict=True):
            np.testing.assert_allclose(part, expected, rtol=0, atol=1e-12)
        # the same number of shards, the same bits
        assert result.loss == results[0].loss
        assert result.gradients.vector.tobytes() == results[0].gradients.vector.tobytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_generator_determines_every_mask(model, threads):
    ids, targets, state = draw()

    def gradients(seed):
        rng = np.random.default_rng(seed)
        with workers(threads) as pool:
            result = sharded_loss_and_gradients(pool, model, Batch(ids, targets, True), state, rng)
        return result.gradients.vector.tobytes(), rng.random()

    assert gradients(1) == gradients(1)
    assert gradients(1)[0] != gradients(2)[0]


def test_each_shard_has_masks_of_its_own(model):
    ids = np.tile(draw()[0][:1], (2, 1))
    batch = Batch(ids, ids, continues=True)
    with workers(2) as pool:
        result = sharded_loss_and_gradients(pool, model, batch, None, np.random.default_rng(0))
    h, _ = result.state
    assert not np.array_equal(h[1, 0], h[1, 1])


@pytest.mark.parametrize("count", [1, 4])
def test_workers_map_in_order_and_pass_errors_on(count):
    with workers(count) as pool:
        assert pool.count == count
        assert pool.map(lambda n: n * n, range(20)) == [n * n for n in range(20)]
        with pytest.raises(ZeroDivisionError):
            pool.map(lambda n: 1 // n, [1, 0, 2])
        assert all(b["num_threads"] == 1 for b in threadpool_info() if b["user_api"] == "blas")


@pytest.mark.parametrize("count", [0, -1])
def test_there_is_at_least_one_worker(count):
    with (
        pytest.raises(ValueError, match=f"threads must be at least 1, got {count}"),
        workers(count),
    ):
        pass


@pytest.mark.parametrize(("cores", "shards"), [(1, 1), (3, 3), (4, 4), (64, 4)])
def test_a_core_gets_a_shard_up_to_a_bound(monkeypatch, cores, shards):
    monkeypatch.setattr("npllm.training.shards.available_cores", lambda: cores)
    assert usual_shards() == shards
