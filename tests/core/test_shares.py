"""Largest remainders, and the largest total that a supply allows: the same as counting down one by one."""

import time

import numpy as np
import pytest

from medi.core.shares import apportion, largest_total


def counted_down(shares: np.ndarray, supply: np.ndarray, most: int) -> int:
    """The definition."""
    return next((t for t in range(most, 0, -1) if (apportion(shares, np.array([t]))[0] <= supply).all()), 0)


def test_numbers_sum_to_their_total_and_lie_within_one_of_their_share() -> None:
    rng = np.random.default_rng(0)
    shares, totals = rng.dirichlet(np.ones(7)), np.arange(200)
    found = apportion(shares, totals)
    assert (found.sum(axis=1) == totals).all()
    assert (np.abs(found - shares * totals[:, None]) < 1).all()


def test_ties_go_to_the_first() -> None:
    assert apportion(np.full(3, 1 / 3), np.array([1, 2, 3, 5])).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [2, 2, 1]]


@pytest.mark.parametrize("seed", range(40))
def test_the_largest_total_is_that_of_counting_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(rng.integers(1, 9), 0.5))
    supply = rng.integers(0, 60, len(shares))
    assert largest_total(shares, supply, 150, block=int(rng.integers(1, 40))) == counted_down(shares, supply, 150)


def test_fifty_thousand_images_take_no_time() -> None:
    """Defect: shares were apportioned anew for every total from n down to 1 (50,000 times 32 cells: a minute)."""
    shares = np.random.default_rng(0).dirichlet(np.ones(32))
    start = time.process_time()
    assert 0 < largest_total(shares, np.full(32, 40), 50_000) < 2_000
    assert time.process_time() - start < 1
