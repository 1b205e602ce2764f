"""Gradient checking for any pair of functions: independent oracles, and why they disagree."""

from npllm.checking.adapters import Checkable, from_loss, from_pullback
from npllm.checking.gradcheck import assert_gradients, gradcheck
from npllm.checking.objects import from_object
from npllm.checking.report import ArgumentReport, Cause, Comparison, GradcheckReport
from npllm.checking.second_order import hessian_symmetry, hvp
from npllm.checking.torch_modules import from_torch

__all__ = [
    "ArgumentReport",
    "Cause",
    "Checkable",
    "Comparison",
    "GradcheckReport",
    "assert_gradients",
    "from_loss",
    "from_object",
    "from_pullback",
    "from_torch",
    "gradcheck",
    "hessian_symmetry",
    "hvp",
]
