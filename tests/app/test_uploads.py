"""The audit of an uploaded table: guesses are told, columns can be chosen, nothing is kept."""

from pathlib import Path

import pytest

from medi.app.tables import Columns, audit_table, read_table_of
from medi.core.errors import MediError

ROWS = "image,diagnosis,hospital,case,fold\n" + "".join(
    f"p{i}.png,{'LUAD' if i % 2 else 'LUSC'},{'NA' if i % 2 else 'X'},c{i // 3},{i % 3}\n" for i in range(40)
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "metadata.csv"
    path.write_text(ROWS)
    return path


def test_a_table_without_its_images_is_audited(table: Path, tmp_path: Path) -> None:
    """P6: the hospital called NA is a hospital."""
    found = audit_table(table.name, read_table_of(table), tmp_path, Columns())
    assert found.audit.size["patches"] == 40
    assert "hospital gives the class away" in found.audit.alarms[0]
    assert "label from column 'diagnosis'" in found.notes
    counts = found.counts()
    assert counts is not None
    assert counts[0] == "hospital"
    assert counts[1].loc["LUAD"].to_dict() == {"NA": 20, "X": 0}
    assert sorted(tmp_path.iterdir()) == [table], "nothing is kept"


def test_columns_can_be_chosen(table: Path, tmp_path: Path) -> None:
    found = audit_table(table.name, read_table_of(table), tmp_path, Columns("hospital", "case", ["fold"]))
    assert set(found.audit.counts["attribute"]) == {"fold"}
    assert found.audit.size["patients"] == 14
    assert not found.audit.alarms


def test_rows_of_one_slide_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("slide_id,label,site\n" + "s1,a,X\n" * 3 + "s2,b,Y\n" * 3)
    found = audit_table(path.name, read_table_of(path), tmp_path, Columns())
    assert found.audit.size["slides"] == 2
    assert found.audit.size["patches"] == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a,b\n1\n", "line 2: 1 fields, the header has 2"),
        ("slide,site\ns1,X\ns2,Y\n", "which column holds the class"),
    ],
)
def test_a_table_that_cannot_be_audited_is_one_clear_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(MediError, match=words):
        audit_table(path.name, read_table_of(path), tmp_path, Columns())
    assert sorted(tmp_path.iterdir()) == [path]
