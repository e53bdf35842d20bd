"""Linear algebra on one thread: sums are then added in one order, whatever the number of cores (P3).

The matrices of the measures are small. Two threads took 2.8 times the processor time of one, and more time in all, for
the classifiers of the demo.
"""

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
T = TypeVar("T")


def cores() -> int:
    """The cores that this process may use: those that Slurm gave the job, or that the system lets it run on."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isdigit():
        return max(int(given), 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Let BLAS use one thread while the function runs."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with threadpool_limits(1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
