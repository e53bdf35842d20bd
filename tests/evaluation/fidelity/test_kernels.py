"""Kernel distances against their definitions, a closed form and the level of the permutation test."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from medi.evaluation.fidelity.blocks import Products
from medi.evaluation.fidelity.kernels import kid, median_bandwidth, mmd2, mmd_test, rbf, resampled_mmd2, unbiased


def plain_mmd2(x: np.ndarray, y: np.ndarray, kernel) -> float:
    """Gretton's equation 3, written as its sums."""
    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


@pytest.fixture
def sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(13, 4)) * [1, 5, 0.1, 2], rng.normal(0.4, 1.2, size=(9, 4)) * [1, 5, 0.1, 2]


def test_mmd_is_the_sums_of_its_definition(sets: tuple[np.ndarray, np.ndarray]) -> None:
    width = np.median(pdist(sets[0]))
    expected = plain_mmd2(*sets, lambda a, b: np.exp(-((a - b) @ (a - b)) / (2 * width**2)))
    assert mmd2(*sets) == pytest.approx(expected, rel=1e-10)


def test_kid_is_the_sums_of_its_definition_on_standardised_features(sets: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = sets
    z = [(part - x.mean(axis=0)) / x.std(axis=0) for part in sets]
    assert kid(x, y) == pytest.approx(plain_mmd2(*z, lambda a, b: (a @ b / 4 + 1) ** 3), rel=1e-9)
    wide = [np.hstack([part, np.ones((len(part), 1))]) for part in sets]
    assert kid(*wide) == pytest.approx(kid(x, y)), "a constant feature says nothing"
    assert kid(*(part * [9, 0.1, 5, 1] for part in sets)) == pytest.approx(kid(x, y)), "units do not matter"


def test_mmd_meets_the_closed_form_of_gaussians() -> None:
    """E k(x, y) of N(a, s^2), N(b, t^2) in one dimension: w / sqrt(v) exp(-(a - b)^2 / 2v), v = w^2 + s^2 + t^2."""

    def expected(a: float, b: float, s: float, t: float, w: float = 1.0) -> float:
        total = w**2 + s**2 + t**2
        return w / np.sqrt(total) * np.exp(-((a - b) ** 2) / (2 * total))

    def found_once(x: np.ndarray, y: np.ndarray) -> float:
        return unbiased(rbf(Products.of(x).blocks(y).distances(), 1.0))

    rng = np.random.default_rng(0)
    found = [found_once(rng.normal(0, 1, (200, 1)), rng.normal(1, 2, (200, 1))) for _ in range(40)]
    truth = expected(0, 0, 1, 1) + expected(1, 1, 2, 2) - 2 * expected(0, 1, 1, 2)
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(40), "unbiased"


@pytest.mark.slow
def test_a_set_against_its_own_distribution_is_about_zero() -> None:
    rng = np.random.default_rng(1)
    null = [mmd2(rng.normal(size=(30, 8)), rng.normal(size=(30, 8))) for _ in range(200)]
    assert abs(np.mean(null)) < 4 * np.std(null) / np.sqrt(200), "no bias at n = 30"
    assert min(null) < 0


def test_median_bandwidth_is_that_of_different_rows() -> None:
    x = np.random.default_rng(2).normal(size=(31, 5))
    assert median_bandwidth(squareform(pdist(x) ** 2)) == pytest.approx(np.median(pdist(x)))


@pytest.mark.slow
def test_permutations_reject_a_shift_and_keep_their_level() -> None:
    rng = np.random.default_rng(5)
    shifted = mmd_test(rng.normal(size=(40, 3)), rng.normal(0.8, 1, (40, 3)), permutations=199, key=("shift",))
    assert shifted == 1 / 200
    p = [
        mmd_test(rng.normal(size=(12, 3)), rng.normal(size=(12, 3)), permutations=39, key=("null", i))
        for i in range(1500)
    ]
    rejected = np.mean(np.array(p) <= 0.05)
    assert 0.03 <= rejected <= 0.07, "3.5 binomial standard errors around 5 %"


def test_undefined_is_nan() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3))
    broken = np.where(np.eye(5, 3) > 0, np.nan, x)
    for y in (x[:1], x[:0], broken):
        assert np.isnan([mmd2(x, y), kid(x, y), mmd2(y, x)]).all()
        assert np.isnan(mmd_test(x, y, permutations=9, key=("nan",)))
    assert np.isnan(mmd2(np.ones((4, 2)), np.ones((4, 2))))
    assert np.isnan(median_bandwidth(np.zeros((1, 1))))


def test_counts_mean_repeated_rows_without_pairs_of_a_row_and_its_own_copy() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(6, 3))
    kernel = rbf(Products.of(x).blocks(y).distances(), 1.5)
    counts = np.array([[2.0, 0, 1, 1, 1, 2, 0]]), np.array([[1.0, 3, 0, 0, 1, 1]])
    first, second = (np.repeat(np.arange(len(c[0])), c[0].astype(int)) for c in counts)
    pairs = [(i, j) for a, i in enumerate(second) for b, j in enumerate(second) if i != j]
    within = np.mean([kernel.second[i, j] for i, j in pairs])
    expected = within - 2 * kernel.across[np.ix_(first, second)].mean()
    assert resampled_mmd2(kernel, *counts) == pytest.approx([expected], rel=1e-12)
