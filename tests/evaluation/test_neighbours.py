import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from medi.evaluation.neighbours import neighbours, reach


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
    assert turned is not None and turned.values() == pytest.approx(found.values()), "order does not matter"


def test_known_cases() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(100, 5))
    same, far = neighbours(real, real), neighbours(real, real + 100)
    assert same is not None and far is not None
    assert same.values() == {"precision": 1, "recall": 1, "coverage": 1, "density": pytest.approx(6 / 5)}
    assert far.values() == {"precision": 0, "recall": 0, "coverage": 0, "density": 0}
    one = neighbours(real, np.repeat(real[:1], 100, axis=0))
    assert one is not None and one.values()["precision"] == 1 and one.values()["recall"] <= 0.01, "collapse"


def test_undefined_is_none() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    assert neighbours(x, x[:5]) is None and neighbours(x[:5], x) is None
    broken = x.copy()
    broken[3, 1] = np.nan
    assert neighbours(x, broken) is None and neighbours(broken, x) is None


def test_reach_counts_other_rows() -> None:
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert reach(line, 1).tolist() == [1, 1, 2, 4]
    assert reach(line, 2).tolist() == [3, 2, 3, 6]
