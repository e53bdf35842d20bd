"""Splits: which combinations are unseen, and that a level which is not known makes none."""

import pandas as pd

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.evaluation import splits
from medi.evaluation.splits import spelled_alike, unseen

OVER = ("class", "site")
ROWS = [
    *(("A", "x", "train"), ("B", "x", "train"), ("A", "n/a", "train"), ("B", "y", "train")),
    *(("A", "y", "test_unseen"), ("B", "n/a", "test_seen"), ("B", "z", "test_unseen"), ("A", "n/a", "test_unseen")),
]


def cohort() -> Cohort:
    table = pd.DataFrame(ROWS, columns=["class", "site", "split"])
    table["sample_id"] = table["patient"] = table["slide"] = [f"p{row}" for row in range(len(table))]
    return Cohort(table, Schema.infer(table, ["site"], missing=("", "n/a")))


def test_an_unknown_site_is_neither_an_unseen_combination_nor_a_new_site() -> None:
    """Defect: B at an unknown site was an unseen combination, and the unknown site one that training lacks."""
    found = spelled_alike(cohort())
    assert unseen(found, OVER) == {("A", "y"), ("B", "z")}
    parts = {name: part.table["site"].tolist() for name, part in splits.tested_parts(found, OVER).items()}
    assert parts == {"seen": [""], "unseen": ["y", ""], "unseen_sites": ["z"]}


def test_spellings_of_not_known_become_one_and_nothing_else_changes() -> None:
    given = cohort()
    found = spelled_alike(given)
    assert found.table["site"].tolist() == ["x", "x", "", "y", "y", "", "z", ""]
    assert spelled_alike(found) is found
    assert given.table["site"].tolist()[2] == "n/a"
