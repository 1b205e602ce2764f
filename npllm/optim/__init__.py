"""Update rules, schedules and clipping: plain arithmetic on flat vectors, torch's semantics."""

from npllm.optim.adam import Adam, AdamW
from npllm.optim.clip import clip_factor, clip_global_norm
from npllm.optim.optimizer import Optimizer
from npllm.optim.rmsprop import RMSprop
from npllm.optim.schedules import Schedule, constant, step_decay, warmup_cosine
from npllm.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "clip_factor",
    "clip_global_norm",
    "constant",
    "step_decay",
    "warmup_cosine",
]
