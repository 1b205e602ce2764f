"""Gradient checking for any pair of functions: two independent oracles, and where they disagree."""

from npllm.checking.gradcheck import gradcheck
from npllm.checking.report import ArgumentReport, Comparison, GradcheckReport

__all__ = ["ArgumentReport", "Comparison", "GradcheckReport", "gradcheck"]
