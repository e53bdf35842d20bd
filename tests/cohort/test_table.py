"""Cohort tables: what takes turns by slide."""

import pandas as pd

from medi.cohort.table import slide_turns


def test_slides_take_turns_within_each_group_and_unknown_slides_count_alone() -> None:
    table = pd.DataFrame(
        {
            "sample_id": list("abcdefg"),
            "slide": ["s", "s", "t", "", "", "s", "t"],
            "class": ["x", "x", "x", "x", "x", "y", "x"],
        }
    )
    assert slide_turns(table).tolist() == [0, 1, 0, 0, 0, 2, 1]
    assert slide_turns(table, ["class"]).tolist() == [0, 1, 0, 0, 0, 0, 1]
