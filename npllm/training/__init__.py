"""The five steps of section 3 on real text: runs that survive a crash, and their measures."""

from npllm.training.evaluation import Evaluation, evaluate
from npllm.training.options import Options
from npllm.training.run import DivergedError, Run, Step

__all__ = ["DivergedError", "Evaluation", "Options", "Run", "Step", "evaluate"]
