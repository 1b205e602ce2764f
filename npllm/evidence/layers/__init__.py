"""Evidence on the layers, a file for each of :mod:`npllm.layers`."""
