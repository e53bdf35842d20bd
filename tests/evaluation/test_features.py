"""Embeddings and their table stay together; features that do not vary are known as such."""

import numpy as np
import pandas as pd
import pytest

from medi.core.errors import MediError
from medi.evaluation.features import Embedded, scales, spreads

ROWS = Embedded(np.arange(8.0).reshape(4, 2), pd.DataFrame({"sample_id": list("abcd")}, index=[3, 1, 2, 0]))


def test_rows_go_by_position() -> None:
    assert ROWS.table.index.tolist() == [0, 1, 2, 3]
    mask, places = np.array([True, False, False, True]), np.array([3, 0])
    assert ROWS.take(mask).table["sample_id"].tolist() == ["a", "d"]
    assert ROWS.take(places).table["sample_id"].tolist() == ["d", "a"]
    assert ROWS.take(places).features[:, 0].tolist() == [6, 0]
    both = ROWS.join(ROWS.take(mask), ROWS.take(places))
    assert both.table["sample_id"].tolist() == list("abcdadda")
    assert both.features[:, 0].tolist() == [0, 2, 4, 6, 0, 6, 6, 0]
    assert ROWS.assign(site="x").table["site"].tolist() == ["x"] * 4


def test_features_of_other_rows_are_refused() -> None:
    with pytest.raises(MediError, match=r"3 embeddings \[3, 2\] for 4 table rows"):
        Embedded(ROWS.features[1:], ROWS.table)


def test_constant_but_for_rounding_is_constant() -> None:
    """Defect: a standard deviation of 1e-17 is above 0."""
    x = np.column_stack([np.full(30, 0.1), np.linspace(0, 1, 30), np.full(30, 1e9) + np.arange(30) % 2, np.zeros(30)])
    assert 0 < x[:, 0].std() < 1e-15
    assert (spreads(x) > 0).tolist() == [False, True, False, False]
    assert scales(x)[[0, 2, 3]].tolist() == [1, 1, 1]
    assert spreads(x)[1] == x[:, 1].std()
