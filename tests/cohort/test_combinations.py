"""Combinations are numbered as pandas numbers groups, without overflow; unknown levels are named by row (P1)."""

import numpy as np
import pandas as pd
import pytest

from medi.cohort.combinations import Combinations, counts, joint_ids, level_ids, over, text_ids
from medi.cohort.schema import Attribute, Schema
from medi.core import seeds
from medi.core.errors import MediError


@pytest.mark.parametrize("top", [3, 10**6, 2**40])
def test_joint_ids_equal_group_numbers_without_overflow(top: int) -> None:
    codes = [seeds.generator("codes", top, i).integers(-1, 3, 400) for i in range(5)]
    codes = [np.where(code > 0, code * (top // 3), code) for code in codes]
    ids, first = joint_ids(codes)
    frame = pd.DataFrame(dict(enumerate(codes)))
    known = (frame >= 0).all(axis=1)
    assert (ids[~known] == -1).all()
    groups = frame[known].groupby(list(range(5)))
    assert ids[known].tolist() == groups.ngroup().tolist()
    assert first.tolist() == [rows[0] for rows in (frame.index[known][ids[known] == i] for i in range(len(groups)))]


def test_level_ids_equal_encode_and_name_the_row() -> None:
    attribute = Attribute("site", levels=("b", "a"), missing=("", "NA"))
    table = pd.DataFrame({"site": ["a", "", "b", "NA", "a"]})
    assert level_ids(table, attribute).tolist() == attribute.encode(table["site"]).tolist() == [1, -1, 0, -1, 1]
    with pytest.raises(MediError, match=r"site 'c' \(row 3\) is unknown; known levels: b, a"):
        level_ids(pd.DataFrame({"site": ["a", "a", "b", "c"]}), attribute)
    with pytest.raises(MediError, match="no column 'site'"):
        level_ids(table.rename(columns={"site": "tss"}), attribute)


def test_combinations_follow_the_schemas_level_order() -> None:
    table = pd.DataFrame({"class": ["x", "y", "x", ""], "site": ["h1", "h2", "h2", "h1"]})
    schema = Schema(Attribute("class", levels=("y", "x")), (Attribute("site", levels=("h2", "h1")),))
    found = Combinations.of(table, over(schema))
    assert found.tuples() == [("y", "h2"), ("x", "h2"), ("x", "h1")]
    assert found.index.tolist() == [2, 0, 1, -1]
    assert len(Combinations.of(table.iloc[:0], over(schema))) == 0


def test_an_empty_id_is_an_error_with_its_row() -> None:
    with pytest.raises(MediError, match="row 2 has no patient"):
        text_ids(pd.DataFrame({"patient": ["b", "a", "", "a"]}), "patient")


def test_counts_of_combinations_keep_missing_values() -> None:
    table = pd.DataFrame({"class": list("abab"), "site": ["x", "", "x", ""], "age": ["1", "2", "3", "4"]})
    table = pd.concat([table, table.head(1)])
    assert counts(table, Schema.infer(table, ["site", "age"], continuous=["age"])) == {
        "columns": ["class", "site"],
        "rows": [["a", "x", 3], ["b", "", 2]],
        "always": ["age"],
    }
