"""Cohort tables: what takes turns by slide."""

import pandas as pd

from medi.cohort.table import slides_in_turn


def test_slides_take_turns_within_each_group_and_unknown_slides_count_alone() -> None:
    table = pd.DataFrame(
        {
            "sample_id": list("abcdefg"),
            "slide": ["s", "s", "t", "", "", "s", "t"],
            "class": ["x", "x", "x", "x", "x", "y", "x"],
        }
    )
    assert slides_in_turn(table).tolist() == [0, 2, 3, 4, 1, 6, 5]
    assert slides_in_turn(table, ["class"]).tolist() == [0, 2, 3, 4, 5, 1, 6]
