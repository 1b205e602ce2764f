"""The five steps of section 3 on real text: runs that survive a crash, and their measures."""

from npllm.training.evaluation import Evaluation, evaluate
from npllm.training.language_modelling import LanguageModelling, LanguageModellingOptions
from npllm.training.options import RunOptions
from npllm.training.run import DivergedError, Run, Step
from npllm.training.task import Task

__all__ = [
    "DivergedError",
    "Evaluation",
    "LanguageModelling",
    "LanguageModellingOptions",
    "Run",
    "RunOptions",
    "Step",
    "Task",
    "evaluate",
]
