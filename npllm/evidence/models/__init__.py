"""Evidence on the models, a file for each of :mod:`npllm.models`."""
