"""The race: npllm beside torch and others on the same CPU. ``python -m benchmarks`` runs it."""

import npllm as npllm  # before NumPy, as whoever uses it on several cores should
