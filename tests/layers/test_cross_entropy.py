"""Cross-entropy, of ids and of distributions."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import HUGE, arrays, as_tuple, assert_agrees_with_torch, assert_close

from npllm.evidence import Bound
from npllm.evidence.source import Source, frozen
from npllm.layers import cross_entropy_backward, cross_entropy_forward, one_hot
from npllm.layers.cross_entropy import SUM_TOLERANCE

V = 5
LEADS = [(), (7,), (2, 3), (2, 1, 4)]
REDUCTIONS = ["none", "mean", "sum"]

every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
every_smoothing = pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
with_and_without_weight = pytest.mark.parametrize("weighted", [False, True])
any_rows = given(
    seed=st.integers(0, 99),
    lead=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    v=st.integers(1, 6),
    label_smoothing=st.sampled_from([0.0, 0.3]),
    reduction=st.sampled_from(REDUCTIONS),
    weighted=st.booleans(),
)


def bound(*args, **options):
    forward = partial(cross_entropy_forward, **options)
    return Bound(forward, cross_entropy_backward, args)


def classes_second(x):
    """Move the classes to where torch has them."""
    return x.movedim(-1, min(1, x.ndim - 1))


@pytest.mark.parametrize("lead", LEADS, ids=str)
@every_reduction
@every_smoothing
@with_and_without_weight
@pytest.mark.parametrize("ignored", [None, -100, 2, V + 1])
def test_ids_agree_with_torch(torch, lead, reduction, label_smoothing, weighted, ignored):
    source = Source()
    logits, ids = source.normal(*lead, V), np.array(source.ids(V, lead))
    if ignored is not None and lead:
        ids.flat[::3] = ignored
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    options |= {} if ignored is None else {"ignore_index": ignored}
    weight = source.uniform(V) if weighted else None

    def reference(logits):
        return torch.nn.functional.cross_entropy(
            classes_second(logits),
            torch.tensor(ids),
            weight=None if weight is None else torch.tensor(weight),
            **options,
        )

    layer = bound(logits, targets=frozen(ids), weight=weight, **options)
    assert_agrees_with_torch(torch, layer, reference)


@pytest.mark.parametrize("lead", LEADS, ids=str)
@every_reduction
@every_smoothing
@with_and_without_weight
def test_distributions_agree_with_torch(torch, lead, reduction, label_smoothing, weighted):
    source = Source()
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    weight = source.uniform(V) if weighted else None

    def reference(logits, targets):
        return torch.nn.functional.cross_entropy(
            classes_second(logits),
            classes_second(targets),
            weight=None if weight is None else torch.tensor(weight),
            **options,
        )

    layer = bound(source.normal(*lead, V), source.distribution(*lead, V), weight=weight, **options)
    assert_agrees_with_torch(torch, layer, reference)


@any_rows
def test_an_id_is_a_one_hot_distribution(seed, lead, v, label_smoothing, reduction, weighted):
    source = Source(seed)
    logits, ids = source.normal(*lead, v), source.ids(v, lead)
    options = {
        "label_smoothing": label_smoothing,
        "weight": source.uniform(v) if weighted else None,
    }
    loss, dy, (dlogits,) = bound(logits, targets=ids, reduction="none", **options).run()
    soft, cache = cross_entropy_forward(logits, one_hot(ids, v), reduction="none", **options)
    assert_close(soft, loss, floor=1)
    assert_close(cross_entropy_backward(dy, cache)[0], dlogits, floor=1)


@any_rows
def test_a_reduction_is_that_of_the_rows(seed, lead, v, label_smoothing, reduction, weighted):
    source = Source(seed)
    logits, ids = source.normal(*lead, v), source.ids(v, lead)
    weight = source.uniform(v) if weighted else np.ones(v)
    options = {"ignore_index": 0, "label_smoothing": label_smoothing, "weight": weight}
    rows, cache = cross_entropy_forward(logits, ids, reduction="none", **options)
    loss, dy, (dlogits,) = bound(logits, targets=ids, reduction=reduction, **options).run()
    total = weight[ids][ids != 0].sum()
    factor = 1 / total if reduction == "mean" and total > 0 else 1.0
    assert_close(loss, rows if reduction == "none" else np.asarray(rows.sum() * factor), floor=1)
    dy_rows = np.broadcast_to(dy * factor, lead)
    assert_close(cross_entropy_backward(dy_rows, cache), dlogits, floor=1)


@any_rows
def test_nothing_to_learn_costs_nothing(seed, lead, v, label_smoothing, reduction, weighted):
    source = Source(seed)
    weight = source.uniform(v) if weighted else None
    options = {"label_smoothing": label_smoothing, "reduction": reduction, "weight": weight}
    logits, ignored = source.normal(*lead, v), np.full(lead, -100)
    loss, _, (dlogits,) = bound(logits, targets=ignored, **options).run()
    assert_close((loss, dlogits), (np.zeros_like(loss), np.zeros_like(logits)))


@given(seed=st.integers(0, 99), v=st.integers(2, 6))
def test_classes_of_weight_zero_count_like_ignored_rows(seed, v):
    source = Source(seed)
    logits, ids = source.normal(3, v), source.ids(v, (3,))
    loss, _, (dlogits,) = bound(logits, targets=ids, weight=np.zeros(v)).run()
    assert_close((loss, dlogits), (np.zeros_like(loss), np.zeros_like(logits)))


@given(seed=st.integers(0, 99), v=st.integers(2, 6))
def test_huge_logits_cost_their_distance(seed, v):
    ids = Source(seed).ids(v, (4,))
    logits = HUGE * (2 * one_hot(ids, v) - 1)
    options = {"reduction": "none"}
    assert_close(cross_entropy_forward(logits, ids, **options)[0], np.zeros(4))
    # at the wrong class: the distance to the right one, 2 HUGE
    assert_close(cross_entropy_forward(logits, (ids + 1) % v, **options)[0], np.full(4, 2 * HUGE))


def test_an_impossible_class_that_is_no_target_costs_nothing():
    logits, targets = np.array([0.0, 0.0, -np.inf]), np.array([0.5, 0.5, 0.0])
    for target in (1, targets):
        assert_close(cross_entropy_forward(logits, target)[0], np.asarray(np.log(2.0)))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64, list])
def test_targets_of_any_integer_type(kind):
    logits = Source().normal(3, V)
    targets = [4, 0, 4] if kind is list else np.array([4, 0, 4], kind)
    expected, _ = cross_entropy_forward(logits, np.array([4, 0, 4]))
    assert_close(cross_entropy_forward(logits, targets)[0], expected, tolerance=0)


@pytest.mark.parametrize(("ours", "theirs"), [(np.float64, np.float32), (np.float32, np.float64)])
def test_distributions_of_another_precision_take_that_of_the_logits(ours, theirs):
    logits, targets = Source(dtype=ours).normal(3, V), Source(1, theirs).distribution(3, V)
    result = bound(logits, targets).run()
    assert {a.dtype for a in arrays(result)} == {np.dtype(ours)}
    assert_close(result, bound(logits, targets.astype(ours)).run(), tolerance=0)


@pytest.mark.parametrize("targets", [[0, 2], [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]], ids=str)
def test_a_python_number_as_cotangent_keeps_float32(targets):
    loss, cache = cross_entropy_forward(Source(dtype=np.float32).normal(2, 3), targets)
    gradients = as_tuple(cross_entropy_backward(1.0, cache))
    assert {a.dtype for a in (loss, *gradients)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("off", [SUM_TOLERANCE, -SUM_TOLERANCE])
def test_a_distribution_may_be_off_by_the_tolerance_and_no_more(off):
    cross_entropy_forward(np.zeros((1, 2)), np.array([[1.0, off]]))
    with pytest.raises(ValueError, match="targets must"):
        cross_entropy_forward(np.zeros((1, 2)), np.array([[1.0, 1.001 * off]]))


@pytest.mark.parametrize("total", [0.5, 0.999, 1.001, 1.2, 3.0])
@pytest.mark.parametrize("row", range(3))
def test_the_row_that_is_no_distribution_is_found_among_others(total, row):
    targets = np.full((3, 2), 0.5)
    targets[row] *= total
    with pytest.raises(ValueError, match=f"sum to 1, got a sum of {total}"):
        cross_entropy_forward(np.zeros((3, 2)), targets)


@pytest.mark.parametrize(
    ("logits", "targets", "options", "error", "message"),
    [
        ((), 0, {}, ValueError, r"logits must have shape \(\.\.\., V\) with V > 0, got \(\)"),
        ((2, 0), [0, 0], {}, ValueError, r"logits must have .* V > 0, got \(2, 0\)"),
        ((2, 3), [0, 1, 2], {}, ValueError, r"targets must have shape \(2,\), got \(3,\)"),
        ((2, 3), [0, 3], {}, ValueError, r"targets must lie in \[0, 3\), got 3"),
        ((2, 3), [0, -1], {}, ValueError, r"targets must lie in \[0, 3\), got -1"),
        ((2, 3), [True, False], {}, TypeError, "targets must be integers or .*, got bool"),
        ((2, 3), ["a", "b"], {}, TypeError, "targets must be integers or .*, got <U1"),
        ((2, 3), [0.5, 0.5], {}, ValueError, r"targets must have shape \(2, 3\), got \(2,\)"),
        ((1, 2), [[1.5, -0.5]], {}, ValueError, r"targets must not be negative, got -0\.5"),
        ((1, 2), [[0.5, 0.4]], {}, ValueError, r"targets must sum to 1, got a sum of 0\.9"),
        ((1, 2), [[0.5, np.nan]], {}, ValueError, "targets must sum to 1, got a sum of nan"),
        ((2, 3), [0, 1], {"reduction": "max"}, ValueError, "reduction must be .*, got 'max'"),
        ((2, 3), [0, 1], {"weight": np.ones(2)}, ValueError, r"weight must have .*, got \(2,\)"),
        ((2, 3), [0, 1], {"label_smoothing": 2}, ValueError, r"label_smoothing .*, got 2"),
    ],
)
def test_refuses(logits, targets, options, error, message):
    with pytest.raises(error, match=message):
        cross_entropy_forward(np.ones(logits), targets, **options)


@pytest.mark.parametrize(
    ("reduction", "dy", "message"),
    [("mean", np.ones(2), r"shape \(\), got \(2,\)"), ("none", 1.0, r"shape \(2,\), got \(\)")],
)
def test_a_cotangent_of_another_shape(reduction, dy, message):
    _, cache = cross_entropy_forward(np.ones((2, 3)), [0, 1], reduction=reduction)
    with pytest.raises(ValueError, match=f"dy must have {message}"):
        cross_entropy_backward(dy, cache)


def test_a_numpy_number_among_the_options_keeps_float32():
    source = Source(dtype=np.float32)
    layer = bound(source.normal(2, V), source.distribution(2, V), label_smoothing=np.float64(0.1))
    loss, _, gradients = layer.run()
    assert {a.dtype for a in (loss, *gradients)} == {np.dtype(np.float32)}
