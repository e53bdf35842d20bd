"""Freed memory is kept: the next block of its size costs no page faults."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from medi.core.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        blocks = [np.ones(1 << 22, dtype=np.uint8) for _ in range(8)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone needs it")
def test_blocks_are_touched_for_the_first_time_once() -> None:
    """Five times 32 MiB are 40,960 pages of 4 KiB, if they had to be mapped anew each time."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_000
