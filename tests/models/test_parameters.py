"""Parameters: names on the outside, one vector on the inside."""

import copy
import pickle

import numpy as np
import pytest

from npllm.models import Parameters

SHAPES = {"weight": (2, 3), "bias": (3,), "last": (1, 2, 2)}


@pytest.fixture
def parameters():
    made = Parameters(SHAPES, np.float64, {"head": "weight"})
    made.vector[...] = np.arange(made.vector.size)
    return made


def arrays(parameters, *names):
    return {name: parameters[name] + 100 for name in names or SHAPES}


def test_names_are_views_of_one_vector(parameters):
    assert list(parameters) == [*SHAPES, "head"]
    assert len(parameters) == 4
    assert parameters.vector.shape == (13,)
    assert {name: parameters[name].shape for name in SHAPES} == SHAPES
    assert all(np.shares_memory(a, parameters.vector) for a in parameters.values())
    np.testing.assert_array_equal(
        np.concatenate([parameters[name].ravel() for name in SHAPES]), np.arange(13)
    )
    parameters.vector[6] = -1
    assert parameters["bias"][0] == -1


def test_assignment_copies_in(parameters):
    view, given = parameters["bias"], np.array([7.0, 8.0, 9.0])
    parameters["bias"] = given
    given[0] = 0
    assert parameters["bias"] is view
    assert parameters.vector[6:9].tolist() == [7, 8, 9]
    parameters["bias"] += 1
    assert parameters["bias"] is view
    assert parameters.vector[6:9].tolist() == [8, 9, 10]
    parameters["last"] = 5
    assert (parameters["last"] == 5).all()
    with pytest.raises(ValueError, match=r"bias must have shape \(3,\), got \(4,\)"):
        parameters["bias"] = np.zeros(4)
    with pytest.raises(KeyError):
        parameters["unknown"] = 0


def test_tied_names_mean_one_array(parameters):
    assert parameters["head"] is parameters["weight"]
    parameters["weight"] = 1
    parameters["head"] += 2
    assert (parameters["weight"] == 3).all()


def test_zeros_like(parameters):
    zeros = parameters.zeros_like()
    assert list(zeros) == list(parameters)
    assert zeros.vector.dtype == np.float64
    assert not zeros.vector.any()
    assert zeros["head"] is zeros["weight"]
    assert parameters.zeros_like(np.complex128).vector.dtype == np.complex128


@pytest.mark.parametrize(
    "names",
    [("weight", "bias", "last"), ("head", "bias", "last"), ("weight", "head", "bias", "last")],
)
def test_load(parameters, names):
    before = parameters.vector.copy()
    given = {n: a.astype(np.float32) for n, a in arrays(parameters, *names).items()}
    parameters.load(given)
    np.testing.assert_array_equal(parameters.vector, before + 100)
    assert not any(np.shares_memory(a, parameters.vector) for a in given.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "the weights lack bias"),
        ({"bias": None, "weight": None}, "the weights lack bias, weight"),
        ({"other": np.zeros(3)}, "the weights hold other, which this model has not"),
        ({"last": np.zeros((2, 2))}, r"last must have shape \(1, 2, 2\), the weights have \(2, 2"),
        ({"weight": np.zeros((3, 2))}, r"weight must have shape \(2, 3\)"),
        ({"head": np.zeros((2, 3))}, "head and weight are tied, but the weights differ"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_copied(parameters, change, message):
    before = parameters.vector.copy()
    given = {n: a for n, a in {**arrays(parameters), **change}.items() if a is not None}
    with pytest.raises(ValueError, match=message):
        parameters.load(given)
    np.testing.assert_array_equal(parameters.vector, before)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_a_copy_has_views_into_its_own_vector(duplicate):
    original = Parameters({"weight": (2, 3), "bias": (3,)}, np.float32, {"head": "weight"})
    original.vector[...] = np.arange(9)
    twin = duplicate(original)
    twin.vector += 1
    assert twin["head"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert twin["head"] is twin["weight"]
    assert original.vector.tolist() == list(range(9))
    twin.vector = np.zeros(9)  # copies in
    assert (twin["bias"] == 0).all()
