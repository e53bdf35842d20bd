"""Many fits at once: each is scikit-learn's, whatever is solved beside it."""

import shutil
import sys
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
from jaxtyping import TypeCheckError, install_import_hook
from sklearn.linear_model import LogisticRegression

from medi.evaluation.classify.logistic import Planes, Rows, solve
from shape_checks import ENFORCER

C = (1e-4, 1e-2, 1.0)


def data(classes: int, n: int = 300, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, n)
    spread = rng.normal(size=(d, d)) * np.arange(1, d + 1) ** -0.7
    x = rng.normal(size=(n, d)) @ spread.T + rng.normal(size=(classes, d))[labels]
    return (x - x.mean(axis=0)) / x.std(axis=0), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_every_plane_is_scikit_learns(classes: int) -> None:
    """Row weights, left out rows and all penalties in one call."""
    x, labels = data(classes)
    rng = np.random.default_rng(0)
    weights = np.stack([np.ones(300), rng.integers(0, 4, 300), np.arange(300) % 5 > 0]).astype(float)
    rows = Rows.of(x, np.eye(classes)[labels])
    found = solve(rows, np.repeat(weights, len(C), axis=0), np.tile(C, 3), tolerance=1e-6)
    for place, (row, c) in enumerate((row, c) for row in weights for c in C):
        plain = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x, labels, row)
        assert found.weights[place] == pytest.approx(plain.coef_, abs=2e-3 * max(1, np.abs(plain.coef_).max()))
        assert found.bias[place] == pytest.approx(plain.intercept_, abs=5e-3)


def test_soft_targets_are_split_rows() -> None:
    x, _ = data(3)
    share = np.random.default_rng(1).dirichlet(np.ones(3), 300)
    found = solve(Rows.of(x, share), np.ones((1, 300)), np.array([0.1]), tolerance=1e-6)
    plain = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000)
    plain.fit(np.repeat(x, 3, axis=0), np.tile(np.arange(3), 300), share.ravel())
    assert found.weights[0] == pytest.approx(plain.coef_, abs=2e-3)


def test_a_start_changes_the_way_but_not_the_end() -> None:
    x, labels = data(2)
    rows, weights, c = Rows.of(x, np.eye(2)[labels]), np.ones((2, 300)), np.array([0.1, 1.0])
    cold = solve(rows, weights, c, tolerance=1e-6)
    warm = solve(rows, weights, c, Planes(cold.weights + 0.3, cold.bias - 0.2), tolerance=1e-6)
    assert warm.weights == pytest.approx(cold.weights, abs=1e-2)
    assert solve(rows, weights, c, cold, tolerance=1e-6).weights == pytest.approx(cold.weights, abs=1e-4)


def test_other_problems_beside_it_do_not_matter() -> None:
    x, labels = data(3)
    rows, c = Rows.of(x, np.eye(3)[labels]), np.geomspace(1e-4, 1, 9)
    together = solve(rows, np.ones((9, 300)), c, tolerance=1e-6)
    alone = solve(rows, np.ones((1, 300)), c[4:5], tolerance=1e-6)
    assert together.weights[4] == pytest.approx(alone.weights[0], abs=1e-3)


def test_separable_rows_and_equal_columns_end() -> None:
    x = np.repeat(np.where(np.arange(40) < 20, -1.0, 1.0)[:, None], 6, axis=1)
    targets = np.eye(2)[(np.arange(40) >= 20).astype(int)]
    found = solve(Rows.of(x, targets), np.ones((1, 40)), np.array([1.0]))
    assert np.isfinite(found.weights).all()
    assert ((x @ found.weights[0].T + found.bias[0])[:, 0] > 0).tolist() == [False] * 20 + [True] * 20


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module under another name, with the check of shapes that all other modules always have."""
    folder = tmp_path_factory.mktemp("checked")
    shutil.copy(sys.modules[solve.__module__].__file__, folder / "checked_logistic.py")
    with pytest.MonkeyPatch.context() as patch, install_import_hook("checked_logistic", ENFORCER):
        patch.syspath_prepend(folder)
        return import_module("checked_logistic")


@pytest.mark.parametrize("classes", [2, 3])
def test_its_shapes_are_as_annotated(classes: int, checked: ModuleType) -> None:
    x, labels = data(classes, 60, 5)
    targets, c = np.eye(classes)[labels], np.array([0.1, 1.0])
    rows, weights = checked.Rows.of(x, targets), (np.arange(120) % 3 > 1).reshape(2, 60).astype(float)
    found = checked.solve(rows, weights, c, tolerance=1e-6)
    again = checked.solve(rows, weights, c, found, tolerance=1e-6)
    assert again.weights == pytest.approx(solve(Rows.of(x, targets), weights, c).weights, abs=1e-2)
    with pytest.raises(TypeCheckError):
        checked.solve(rows, weights, c[:1])
