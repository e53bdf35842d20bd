"""Whole numbers in proportion to shares: the method of largest remainders (Hamilton), for one total or for many."""

import numpy as np
from jaxtyping import Float64, Int64

ROUNDING = 1e-9  # of a share times a total


def apportion(shares: Float64[np.ndarray, " k"], totals: Int64[np.ndarray, " t"]) -> Int64[np.ndarray, "t k"]:
    """For each total whole numbers [k] that sum to it, in proportion to shares (sum 1); ties go to the first place.

    >>> apportion(np.array([0.5, 0.25, 0.25]), np.array([4, 5])).tolist()
    [[2, 1, 1], [3, 1, 1]]
    """
    exact = shares * totals[:, None]
    sizes = np.floor(exact + ROUNDING).astype(np.int64)
    rank = np.argsort(np.argsort(sizes - exact, axis=1, kind="stable"), axis=1, kind="stable")
    return sizes + (rank < (totals - sizes.sum(axis=1))[:, None])


def largest_total(
    shares: Float64[np.ndarray, " k"], supply: Int64[np.ndarray, " k"], most: int, block: int = 512
) -> int:
    """The largest total up to `most` for whose numbers by `apportion` the supply [k] is enough; 0 where none is.

    A number is the whole part of its share or one more. Bisection finds the largest total whose whole parts fit; below,
    totals are tried in blocks, as a larger total can give a place less (the Alabama paradox).
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        fits = (np.floor(shares * middle + ROUNDING) <= supply).all()
        low, high = (middle, high) if fits else (low, middle - 1)
    for end in range(low, 0, -block):
        totals = np.arange(end, max(end - block, 0), -1)
        fitting = (apportion(shares, totals) <= supply).all(axis=1)
        if fitting.any():
            return int(totals[fitting.argmax()])
    return 0
