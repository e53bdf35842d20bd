"""The heads: what each minimises, and that soft and weighted rows mean the same to all."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from medi.evaluation.classify.probes import HEADS, Pool, codes, medi, tuned, tuned_at, uni
from medi.evaluation.features import Embedded

OVER = ("class", "site")


def world(classes: int = 3, n: int = 180, d: int = 6) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(classes)
    label, site = rng.integers(0, classes, n), rng.integers(0, 2, n)
    x = rng.normal(size=(n, d)) * np.geomspace(3, 0.3, d) + rng.normal(size=(classes, d))[label] + site[:, None]
    names = [f"{i}" for i in range(n)]
    table = pd.DataFrame({"sample_id": names, "class": [f"c{k}" for k in label], "site": [f"s{k}" for k in site]})
    return x, table.assign(patient=[f"p{i % 30}-{k}" for i, k in enumerate(label)], slide="")


def pool(x: np.ndarray, table: pd.DataFrame, head: str) -> Pool:
    return Pool.of(Embedded(x, table), over=OVER, standardise=head == "tuned").dealt(table, 0)


def uni_loss(flat: np.ndarray, x: np.ndarray, labels: np.ndarray, classes: int, c: float) -> float:
    """UNI's objective written down once more: mean cross-entropy + (1 / C) 0.5 ||W||, no bias in the norm."""
    plane = flat.reshape(classes, -1)
    scores = x @ plane[:, :-1].T + plane[:, -1]
    scores -= scores.max(axis=1, keepdims=True)
    chosen = scores[np.arange(len(x)), labels] - np.log(np.exp(scores).sum(axis=1))
    return float(-chosen.mean() + 0.5 / c * np.sqrt((plane[:, :-1] ** 2).sum()))


@pytest.mark.parametrize("classes", [2, 3])
def test_uni_is_the_minimum_of_its_objective(classes: int) -> None:
    """Against an independent minimiser from another start; C = D K / 100 where none is given."""
    x, table = world(classes)
    labels = table["class"].str[1:].astype(int).to_numpy()
    assert uni(pool(x, table, "uni")).c == pytest.approx(x.shape[1] * classes / 100)
    c = 5.0
    probe = uni(pool(x, table, "uni"), c)
    found = uni_loss(np.column_stack([*probe.plane]).ravel(), x, labels, classes, c)
    start = np.random.default_rng(0).normal(size=classes * (x.shape[1] + 1))
    best = minimize(uni_loss, start, (x, labels, classes, c), method="BFGS", options={"gtol": 1e-7})
    assert found == pytest.approx(best.fun, abs=1e-6)
    assert found < uni_loss(np.zeros_like(start), x, labels, classes, c) - 0.05
    assert probe.plane[0] == pytest.approx(best.x.reshape(classes, -1)[:, :-1], abs=5e-3)


def test_medi_is_scikit_learn_as_published() -> None:
    x, table = world()
    plain = LogisticRegression(class_weight="balanced", max_iter=1000).fit(x, table["class"])
    probe = medi(pool(x, table, "medi"))
    assert (probe.predict(x) == plain.predict(x)).all()
    assert probe.probabilities(x) == pytest.approx(plain.predict_proba(x), abs=1e-2)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_twice_a_row_is_weight_two(head: str) -> None:
    """Given C, a row with weight 2 trains like two rows."""
    x, table = world(2)
    twice = np.arange(len(x)) % 3 == 0
    once = pool(x, table, head)
    weighted = np.where(twice, 2.0, 1.0)[None]
    double = pool(np.concatenate([x, x[twice]]), pd.concat([table, table[twice]], ignore_index=True), head)
    found = HEADS[head](type(once)(**{**vars(once), "weights": weighted}), 0.1)
    copied = HEADS[head](double, 0.1)
    assert (found.predict(x) == copied.predict(x)).mean() > 0.99


def test_points_at_a_given_c_are_the_fits_of_their_rows() -> None:
    x, table = world()
    whole = pool(x, table, "tuned")
    rows = np.arange(len(x)) % 2 == 0
    chosen = tuned(whole)
    first, second = tuned_at(whole, np.stack([np.ones(len(x)), rows.astype(float)]), chosen.c)
    assert first.plane[0] == pytest.approx(chosen.plane[0], abs=5e-3)
    z = (x - whole.mean) / whole.scale
    plain = LogisticRegression(C=chosen.c, class_weight="balanced", tol=1e-8, max_iter=5000)
    plain.fit(z[rows], table["class"][rows])
    assert (second.predict(x) == plain.predict(z)).mean() > 0.98


def test_numbers_of_combinations_are_those_of_pandas_groups() -> None:
    """Also where the levels of all columns together are more than 64 bits can count: 20,000 to the power of 6."""
    rng = np.random.default_rng(0)
    few = pd.DataFrame({name: rng.choice(list("abcde"), 300) for name in "pqr"} | {"k": rng.integers(0, 9, 300)})
    many = pd.DataFrame({f"c{i}": rng.permutation(20_000) for i in range(6)})
    for table, columns in ((few, ["p"]), (few, ["r", "k", "p"]), (many, list(many))):
        np.testing.assert_array_equal(codes(table, columns), table.groupby(columns, sort=True).ngroup())
    assert not codes(few, []).any()
