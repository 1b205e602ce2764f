"""Freed memory that is kept for the next step."""

import subprocess
import sys

import pytest

from npllm.heap import keep_freed_memory

# the pages that a second allocation of the same arrays asks the system for, of some 5,000
PROGRAM = """
import resource
import numpy as np
from npllm.heap import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2**19) for _ in range(5)]  # 4 MB each
    del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {keep}:
    assert keep_freed_memory()
pages()
print(min(pages() for _ in range(3)))
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_freed_memory_is_used_again():
    def second(keep):
        command = [sys.executable, "-c", PROGRAM.format(keep=keep)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert second(keep=True) == 0
    assert second(keep=False) > 10  # a control: pages may be large


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())  # a C library without mallopt
    assert not keep_freed_memory()
