"""What all tests share: the optional torch oracle, and hypothesis without deadlines."""

import importlib
import os

import pytest
from hypothesis import HealthCheck, settings

# no verdict depends on a clock: a slow machine is no failure
TIMELESS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("npllm", **TIMELESS, max_examples=40, derandomize=True)
settings.register_profile("thorough", **TIMELESS, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "npllm"))


@pytest.fixture(scope="session")
def torch():
    """The torch module in one thread; skips where it is missing, unless it is required."""
    if os.environ.get("NPLLM_REQUIRE_ORACLE") != "1":
        pytest.importorskip("torch", reason="the torch oracle is optional: pip install '.[oracle]'")
    module = importlib.import_module("torch")
    module.set_num_threads(1)
    return module
