"""Columns and missing values under the names that people use."""

import pytest

from medi.cohort.readers.guess import NAMES, column_of, likely_missing, plain


@pytest.mark.parametrize(
    ("role", "columns", "found"),
    [
        ("image", ["Filename", "Label"], "Filename"),
        ("image", ["patch_path", "y"], "patch_path"),
        ("slide", ["Slide_ID", "WSI"], "Slide_ID"),
        ("slide", ["WSI"], "WSI"),
        ("label", ["Diagnose"], "Diagnose"),
        ("label", ["LABEL", "Class"], "Class"),
        ("patient", ["Anonymised Patient-ID"], "Anonymised Patient-ID"),
        ("patient", ["age", "site"], ""),
        ("patient", ["patient", "PATIENT"], "patient"),
    ],
)
def test_usual_names_whatever_case_and_marks(role: str, columns: list[str], found: str) -> None:
    assert column_of(role, columns) == found


def test_every_usual_name_is_found_as_it_is_written_here() -> None:
    for role, names in NAMES.items():
        for name in names:
            assert plain(name) == name
            assert column_of(role, ["other", name.upper()]) == name.upper()


def test_likely_spellings_of_missing_are_named_as_written() -> None:
    assert likely_missing(["NaN", "n/a", "-", "A", "", "NA", " unknown "]) == [" unknown ", "-", "NA", "NaN", "n/a"]
    assert likely_missing(["None of these", "nanterre"]) == []
