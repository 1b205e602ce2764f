"""SciPy in the browser: the two functions that npllm's layers call, and nothing more."""

__version__ = "0 (a stand-in)"
