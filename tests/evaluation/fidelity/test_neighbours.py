"""Neighbourhoods against an independent search and known cases."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from medi.evaluation.fidelity.blocks import Products
from medi.evaluation.fidelity.neighbours import jackknife, neighbours, reach


def by_trees(real: np.ndarray, synthetic: np.ndarray, k: int) -> dict[str, float]:
    """The four shares with scikit-learn's neighbour search, ball by ball."""
    radius = {
        name: NearestNeighbors(n_neighbors=k + 1).fit(rows).kneighbors(rows)[0][:, k] * (1 + 1e-12)
        for name, rows in (("real", real), ("synthetic", synthetic))
    }
    in_real = np.array([[np.linalg.norm(s - r) <= b for r, b in zip(real, radius["real"])] for s in synthetic])
    in_made = np.array([[np.linalg.norm(r - s) <= b for s, b in zip(synthetic, radius["synthetic"])] for r in real])
    return {
        "precision": in_real.any(axis=1).mean(),
        "recall": in_made.any(axis=1).mean(),
        "density": in_real.sum() / (k * len(synthetic)),
        "coverage": in_real.any(axis=0).mean(),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_shares_are_those_of_an_independent_search(k: int) -> None:
    rng = np.random.default_rng(k)
    real, synthetic = rng.normal(size=(40, 3)), rng.normal(0.7, 0.8, size=(40, 3))
    found = neighbours(real, synthetic, k)
    assert found is not None
    assert found.values() == pytest.approx(by_trees(real, synthetic, k))
    turned = neighbours(real[::-1], rng.permutation(synthetic), k)
    assert turned is not None
    assert turned.values() == pytest.approx(found.values()), "order does not matter"


def met(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    found = neighbours(real, synthetic)
    assert found is not None
    return found.values()


def test_known_cases() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(100, 5))
    assert met(real, real) == {"precision": 1, "recall": 1, "coverage": 1, "density": pytest.approx(6 / 5)}
    assert met(real, real + 100) == {"precision": 0, "recall": 0, "coverage": 0, "density": 0}
    one = met(real, np.repeat(real[:1], 100, axis=0))
    assert one["precision"] == 1
    assert one["recall"] <= 0.01, "collapse"


def test_undefined_is_none() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    broken = x.copy()
    broken[3, 1] = np.nan
    for other in (x[:5], broken):
        assert neighbours(x, other) is None
        assert neighbours(other, x) is None


def test_reach_counts_other_rows() -> None:
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    distances = (line - line.T) ** 2
    assert reach(distances, 1).tolist() == [1, 1, 4, 16]
    assert reach(distances, 2).tolist() == [9, 4, 9, 36]


@pytest.mark.slow
def test_jackknife_is_about_the_spread_over_fresh_synthetic_rows() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(size=(100, 4))
    made = [rng.normal(0, 0.8, size=(100, 4)) for _ in range(60)]
    spread = np.std([met(real, rows)["recall"] for rows in made])
    groups = np.arange(100) % 10
    errors = [jackknife(Products.of(real).blocks(rows).distances(), groups)["recall"] for rows in made]
    assert 0.6 * spread < np.sqrt(np.mean(np.square(errors))) < 1.7 * spread
    few = jackknife(Products.of(real).blocks(made[0][:3]).distances(), np.arange(3))
    assert np.isnan(few["recall"])
