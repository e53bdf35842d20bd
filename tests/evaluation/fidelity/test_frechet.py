"""The Frechet distance against the closed form, the textbook arithmetic and its invariances."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from medi.evaluation.fidelity.frechet import (
    frechet_distance,
    merged,
    moments,
    moments_distance,
    resampled_distances,
    streamed,
)


def features(n: int, d: int, seed: int) -> np.ndarray:
    mixing = np.random.default_rng(99).normal(size=(d, d))
    return np.random.default_rng(seed).normal(size=(n, d)) @ mixing + seed


def exact(n: int, mean: np.ndarray, scales: np.ndarray, seed: int) -> np.ndarray:
    """Rows whose sample mean and covariance are exactly `mean` and diag(scales^2)."""
    rows = np.random.default_rng(seed).normal(size=(n, len(mean)))
    basis = np.linalg.qr(rows - rows.mean(axis=0))[0]
    return basis * np.sqrt(n - 1) * scales + mean


def textbook(x: np.ndarray, y: np.ndarray) -> float:
    a, b = np.cov(x.T), np.cov(y.T)
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b - 2 * np.real(sqrtm(a @ b))))


@pytest.mark.parametrize(("n", "m", "d"), [(30, 40, 3), (200, 90, 24), (65, 130, 32)])
def test_equals_the_textbook_where_n_exceeds_2d(n: int, m: int, d: int) -> None:
    x, y = features(n, d, 1), features(m, d, 2)
    assert frechet_distance(x, y) == pytest.approx(textbook(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(50, 70), (6, 70)])
def test_equals_the_closed_form_of_gaussians(n: int, m: int) -> None:
    mean_x, mean_y = np.array([1.0, 0, 2, 0]), np.array([0.0, 3, 2, -1])
    scale_x, scale_y = np.array([1.0, 2, 0.5, 0]), np.array([2.0, 2, 0.1, 1])
    expected = np.sum((mean_x - mean_y) ** 2) + np.sum((scale_x - scale_y) ** 2)
    found = frechet_distance(exact(n, mean_x, scale_x, 1), exact(m, mean_y, scale_y, 2))
    assert found == pytest.approx(expected, rel=1e-10)


def test_few_rows_give_what_eigenvalues_of_the_covariances_give() -> None:
    """n < d, where the covariances are singular: Tr sqrt(S1 S2) from the eigenvalues of a symmetric product."""
    x, y = features(9, 20, 1), features(12, 20, 2)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ np.cov(y.T) @ root).clip(0)).sum()
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(np.cov(x.T)) + np.trace(np.cov(y.T)) - 2 * overlap
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(60, 8), (8, 40)])
def test_invariances(n: int, d: int) -> None:
    x, y = features(n, d, 1), features(n + 3, d, 2)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    value = frechet_distance(x, y)
    assert frechet_distance(x[::-1].copy(), y) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(x @ rotation, y @ rotation) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(x + 7, y + 7) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(x * 3, y * 3) == pytest.approx(9 * value, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * value)


def test_degenerate_sets() -> None:
    """P7: undefined is NaN; constant images have a distance."""
    x = features(10, 4, 1)
    assert np.isnan(frechet_distance(x[:1], x))
    assert np.isnan(frechet_distance(x[:0], x))
    assert np.isnan(frechet_distance(np.where(x == x[3, 3], np.nan, x), x))
    constant = np.zeros((10, 4))
    expected = np.sum(x.mean(0) ** 2) + np.trace(np.cov(x.T))
    assert frechet_distance(x, constant) == pytest.approx(expected)
    assert np.isfinite(frechet_distance(x[:2], constant[:2]))


def test_float32_is_computed_in_float64() -> None:
    x, y = features(300, 6, 1).astype(np.float32) + np.float32(1000), features(300, 6, 2).astype(np.float32)
    assert frechet_distance(x, y) == frechet_distance(x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize("d", [3, 30])
def test_counts_mean_repeated_rows(d: int) -> None:
    x, y = features(12, d, 1), features(12, d, 2)
    counts = np.array([[0, 3, 1, 1, 0, 2, 1, 1, 0, 1, 1, 1], [1] * 12], dtype=float)
    found = resampled_distances(x, [y, x], counts, [counts[::-1].copy(), counts])
    repeated = np.repeat(x, counts[0].astype(int), axis=0)
    assert found[0, 0] == pytest.approx(moments_distance(moments(repeated), moments(y)), rel=1e-9)
    assert found[:, 1] == pytest.approx([0, 0], abs=1e-8)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (9, 30), (60, 50)])
def test_streams_equal_the_whole_in_any_batches(n: int, d: int) -> None:
    x, y = features(n, d, 1) + 1e4, features(20, d, 2) + 1e4
    whole = moments(x)
    for size in (1, 7, n):
        found = streamed(x[start : start + size] for start in range(0, n, size))
        assert found.count == n
        np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(found.root.T @ found.root, np.cov(x.T), atol=1e-9 * np.cov(x.T).max())
        assert moments_distance(found, moments(y)) == pytest.approx(frechet_distance(x, y), rel=1e-7)
    joined = merged(moments(x[: n // 3]), moments(x[n // 3 :]))
    assert moments_distance(joined, moments(y)) == pytest.approx(frechet_distance(x, y), rel=1e-7)


def test_equals_torch_fidelity() -> None:
    """Its own arithmetic on float64 statistics."""
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    x, y = features(70, 32, 1), features(90, 32, 2)
    stats = [{"mu": part.mean(axis=0), "sigma": np.cov(part, rowvar=False)} for part in (x, y)]
    (expected,) = fid.fid_statistics_to_metric(*stats, verbose=False).values()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_draws_that_lost_a_set_are_undefined() -> None:
    x, y = features(4, 20, 1), features(4, 20, 2)
    counts = np.array([[1.0, 0, 0, 0], [2.0, 0, 1, 1]])
    found = resampled_distances(x, [y], counts, [np.ones((2, 4))])
    assert np.isnan(found[0, 0])
    assert np.isfinite(found[1, 0])
