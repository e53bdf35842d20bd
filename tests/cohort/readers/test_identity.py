"""P5: a patient whose id is spelt in two ways is one patient, and is on one side of a split."""

from pathlib import Path

import pandas as pd
import pytest

from medi.cohort import readers
from medi.cohort.readers.identity import key_of, one_spelling

SAME = ["Pat07 ", "pat07", "\u00a0Pat07", "Pat\u200b07", "PAT07", "Pat07\ufeff"]


@pytest.mark.parametrize("text", SAME)
def test_what_no_eye_sees_makes_no_second_person(text: str) -> None:
    assert key_of(text) == key_of("Pat07")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("7", "7.0", True),
        ("7", "7.00", True),
        ("7", "7.01", False),
        ("7", "07", False),
        ("a-1", "a\u20131", True),
        ("Ren\u00e9", "Rene\u0301", True),
        ("P1", "P2", False),
        ("A 1", "A  1", True),
    ],
)
def test_pairs_of_ids(first: str, second: str, same: bool) -> None:
    assert (key_of(first) == key_of(second)) is same


def test_the_first_spelling_stands_for_all_and_the_others_are_listed() -> None:
    found, others = one_spelling(pd.Series(["P01", "P01 ", "p01", "P02", "  ", ""]))
    assert found.tolist() == ["P01", "P01", "P01", "P02", "", ""]
    assert others == {"P01": ["P01 ", "p01"]}


def test_a_reader_joins_them_and_says_so(tmp_path: Path) -> None:
    rows = [("a", "P01"), ("b", "p01 "), ("a", "P02"), ("b", "P02")]
    text = "".join(f"s{i},{label},x{i % 2},{patient}\n" for i, (label, patient) in enumerate(rows))
    (tmp_path / "t.csv").write_text("sample_id,label,site,patient\n" + text)
    cohort = readers.read(tmp_path / "t.csv", "table")
    assert cohort.table["patient"].tolist() == ["P01", "P01", "P02", "P02"]
    assert "patient: 1 spellings are read as another one of the same id ('p01 ' is 'P01')" in cohort.info["notes"]
