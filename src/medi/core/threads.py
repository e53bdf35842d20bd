"""Linear algebra on one thread: sums are then added in one order, whatever the number of cores (P3).

The matrices of the measures are small. Two threads took 2.8 times the processor time of one, and more time in all, for
the classifiers of the demo.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
T = TypeVar("T")


def one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Let BLAS use one thread while the function runs."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with threadpool_limits(1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
