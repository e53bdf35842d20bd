"""Which combination to collect: against simulated least squares, and against fitting again with more patients."""

import numpy as np
import pandas as pd
import pytest

from medi.cohort.collecting import COLLECT, MORE, collect_table, moments
from medi.core.seeds import generator

NAMES = np.array(["A", "B", "C"], dtype=object), np.array(["w", "x", "y", "z"], dtype=object)
SEEN = np.array([[9, 4, 0, 3], [2, 0, 5, 0], [0, 6, 0, 1]])  # patients; all in one part


def table() -> pd.DataFrame:
    label, level = (ids.astype(np.int64) for ids in np.nonzero(SEEN))
    return collect_table("site", NAMES, label, level, SEEN[label, level])


def design(counts: np.ndarray) -> np.ndarray:
    """A one-hot row per patient."""
    at = np.repeat(np.argwhere(counts), counts[counts > 0], axis=0)
    return np.hstack([np.eye(3)[at[:, 0]], np.eye(4)[at[:, 1]]])


def row_of(name: str, level: str) -> np.ndarray:
    return np.concatenate([NAMES[0] == name, NAMES[1] == level]).astype(float)


def test_worth_is_how_well_simulated_patients_predict_an_unseen_combination() -> None:
    """Oracle: least squares on patients that are drawn; its error has the variance of a mean of `worth` patients."""
    x, random = design(SEEN), generator("collecting", 0)
    noise = random.normal(size=(len(x), 20_000))  # the effects cancel: the error is that of the noise alone
    fitted = np.linalg.lstsq(x, noise, rcond=None)[0]
    for row in table().to_dict("records"):
        errors = row_of(row["class"], row["level"]) @ fitted
        assert 1 / errors.var() == pytest.approx(row["worth"], rel=0.05)


def test_gain_is_that_of_fitting_again_with_more_patients() -> None:
    found = table()
    empty = [row_of(row["class"], row["level"]) for row in found.to_dict("records")]

    def mean_variance(counts: np.ndarray) -> float:
        inverse = np.linalg.pinv(design(counts).T @ design(counts))
        return float(np.mean([one @ inverse @ one for one in empty]))

    for row in found.to_dict("records"):
        for more in MORE:
            counts = SEEN.copy()
            counts[list(NAMES[0]).index(row["class"]), list(NAMES[1]).index(row["level"])] = more
            assert 1 - mean_variance(counts) / mean_variance(SEEN) == pytest.approx(row[f"gain_{more}"])


def test_the_most_valuable_comes_first_and_what_is_not_determined_is_left_out() -> None:
    found = table()
    assert len(found) == (SEEN == 0).sum()
    assert found["gain_1"].is_monotonic_decreasing
    assert (found["gain_10"] > found["gain_1"]).all()
    apart = np.array([0, 1]), np.array([0, 1])
    assert collect_table("site", NAMES, *apart, np.array([3, 3])).empty
    assert list(collect_table("site", NAMES, *apart, np.array([3, 3])).columns) == list(COLLECT)
    label, level = (ids.astype(np.int64) for ids in np.nonzero(SEEN))
    np.testing.assert_array_equal(moments(label, level, SEEN[label, level], (3, 4)), design(SEEN).T @ design(SEEN))
