"""Gradient checking for any pair of functions: independent oracles, and why they disagree."""

from npllm.checking.gradcheck import assert_gradients, gradcheck
from npllm.checking.report import ArgumentReport, Cause, Comparison, GradcheckReport

__all__ = [
    "ArgumentReport",
    "Cause",
    "Comparison",
    "GradcheckReport",
    "assert_gradients",
    "gradcheck",
]
