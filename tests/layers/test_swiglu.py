"""swiglu."""

import numpy as np
import pytest
from layer_checks import assert_agrees_with_torch

from npllm.evidence import Bound
from npllm.evidence.source import Source
from npllm.layers import swiglu_backward, swiglu_forward


def test_agrees_with_torch(torch):
    source = Source()
    layer = Bound(swiglu_forward, swiglu_backward, (source.normal(2, 3, 5), source.normal(2, 3, 5)))
    assert_agrees_with_torch(torch, layer, lambda gate, up: torch.nn.functional.silu(gate) * up)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"up must have shape \(3,\), got \(4,\)"):
        swiglu_forward(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"dy must have shape \(3,\), got \(4,\)"):
        swiglu_backward(np.zeros(4), swiglu_forward(np.zeros(3), np.zeros(3))[1])
