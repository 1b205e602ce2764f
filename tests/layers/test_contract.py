"""What every layer with evidence owes, at any shape, the empty batch included."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import HUGE, arrays, as_tuple, assert_close, named_leaves, tree_map

from npllm.evidence import ARGUMENTS
from npllm.evidence.source import Source, frozen

every_layer = pytest.mark.parametrize("build", ARGUMENTS.values(), ids=ARGUMENTS)
any_shape = given(
    seed=st.integers(0, 99),
    lead=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    n=st.integers(1, 4),
    m=st.integers(1, 4),
)


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@any_shape
def test_dtypes_and_shapes(build, dtype, seed, lead, n, m):
    # the source's arrays are read-only, and so is the cotangent: nothing here can be written to
    layer = build(Source(seed, dtype), lead, n, m)
    y, _, gradients = layer.run()
    assert {a.dtype for a in arrays(y)} == {np.dtype(dtype)}
    shapes = {name: (a.shape, a.dtype) for name, a in named_leaves(layer.args)}
    assert {name: (a.shape, a.dtype) for name, a in named_leaves(gradients)} == shapes


@every_layer
@any_shape
def test_nothing_returned_is_shared(build, seed, lead, n, m):
    layer = build(Source(seed), lead, n, m)
    y, dy, gradients = layer.run()
    returned = arrays(y) + arrays(gradients)
    given_arrays = arrays(layer.args) + arrays(dy)
    for a, b in [*combinations(returned, 2), *((a, b) for a in returned for b in given_arrays)]:
        assert not np.may_share_memory(a, b)


@every_layer
@any_shape
def test_backward_can_be_repeated(build, seed, lead, n, m):
    layer = build(Source(seed), lead, n, m)
    y, cache = layer.forward(*layer.args)
    dy = Source(seed + 1).like(y)
    first = tree_map(np.copy, as_tuple(layer.backward(dy, cache)))
    assert_close(as_tuple(layer.backward(dy, cache)), first, tolerance=0)


@every_layer
@pytest.mark.parametrize("layout", ["transposed", "backwards"])
@any_shape
def test_memory_layout_is_irrelevant(build, layout, seed, lead, n, m):
    def laid_out(a):
        return frozen(a.T.copy().T if layout == "transposed" else np.flip(np.flip(a).copy()))

    layer = build(Source(seed), lead, n, m)
    y, dy, gradients = layer.run()
    other, cache = layer.forward(*tree_map(laid_out, layer.args))
    assert_close(other, y, floor=1)
    assert_close(as_tuple(layer.backward(tree_map(laid_out, dy), cache)), gradients, floor=1)


@every_layer
@any_shape
def test_huge_numbers_stay_finite(build, seed, lead, n, m):
    layer = build(Source(seed, np.float32, scale=HUGE), lead, n, m)
    y, _, gradients = layer.run()
    assert all(np.isfinite(a).all() for a in arrays(y) + arrays(gradients))
