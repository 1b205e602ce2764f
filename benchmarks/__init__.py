"""The race: npllm beside torch and others on the same CPU. ``python -m benchmarks`` runs it."""
