"""Tables as people have them: spreadsheets, databases, other encodings, Hugging Face `datasets` (P6, P12)."""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi.cohort import readers
from medi.cohort.readers.forms import Form
from medi.cohort.readers.rows import place_of, read_rows
from medi.core.errors import MediError
from table_files import CELL, HEADER, ROWS, book, duck, hub, ods, saved, sqlite, text

pytest.importorskip("duckdb")
pytest.importorskip("openpyxl")

SOURCES: dict[str, tuple[Callable[[Path], Path], dict[str, str]]] = {
    "book.xlsx": (lambda path: book(path, [HEADER, *ROWS]), {}),
    "named.xlsx": (lambda path: book(path, [HEADER, *ROWS]), {"sheet": "Cases"}),
    "book.ods": (lambda path: ods(path, [HEADER, *ROWS]), {}),
    "wide.csv": (lambda path: text(path, "utf-16"), {}),
    "old.csv": (lambda path: text(path, "latin-1"), {"encoding": "latin-1"}),
    "cases.sqlite": (sqlite, {"sheet": "cases"}),
    "asked.db": (sqlite, {"query": "SELECT * FROM cases ORDER BY slide"}),
    "cases.duckdb": (duck, {}),
    "asked.duckdb": (duck, {"query": "SELECT * FROM cases ORDER BY slide"}),
    "hub": (lambda path: hub(path, train=ROWS[:2], test=ROWS[2:]), {}),
    "saved": (lambda path: saved(path, ROWS), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_table_gives_the_same_texts_p6(name: str, tmp_path: Path) -> None:
    make, options = SOURCES[name]
    cohort = readers.read(make(tmp_path / name), label="diagnosis", attributes=["site"], patient="case", **options)
    found = cohort.table.sort_values("slide")[["slide", "patient", "class", "site", "age"]]
    assert sorted(found.to_numpy().tolist()) == sorted(ROWS)
    assert cohort.schema.attribute("site").levels == ("NA", "Oslo", "Åbo")
    assert cohort.audit().grades()["site"] == "too few patients to say", "the verdict of an audit"


def test_numbers_of_a_spreadsheet_are_what_the_cell_holds_p6(tmp_path: Path) -> None:
    def zeros(sheet: Any) -> None:
        sheet["B2"].number_format = "0000"

    row = [2.0, 7, 0.1 + 0.2, True, datetime(2024, 3, 9), datetime(2024, 3, 9, 8, 30), " x ", None, "007", "#N/A"]
    path = book(tmp_path / "b.xlsx", [list("abcdefghij"), row, [None] * 10, row], change=zeros)
    expected = ["2", "0007", "0.3", "TRUE", "2024-03-09", "2024-03-09 08:30:00", " x ", "", "007", "#N/A"]
    assert read_rows(path).to_numpy().tolist() == [expected, [expected[0], "7", *expected[2:]]]
    assert place_of(path, 1) == "b.xlsx row 4", "the blank row counts"
    assert place_of(path, 0, Form("Cases")) == "b.xlsx sheet 'Cases' row 2"


def test_numbers_of_an_ods_are_what_the_cell_holds_p6(tmp_path: Path) -> None:
    cells = [
        CELL.format(kind="float", more='office:value="2"', shown="2.00"),
        CELL.format(kind="float", more='office:value="7"', shown="0007"),
        CELL.format(kind="date", more='office:date-value="2024-03-09T00:00:00"', shown="9 March"),
        CELL.format(kind="boolean", more='office:boolean-value="true"', shown="WAHR"),
        CELL.format(kind="string", more="", shown='a<text:s text:c="2"/>b<text:span>c</text:span>d'),
        '<table:table-cell table:number-columns-repeated="2"/>',
        "z",
    ]
    path = ods(tmp_path / "b.ods", [list("abcdefgh"), cells])
    assert read_rows(path).to_numpy().tolist() == [["2", "0007", "2024-03-09", "TRUE", "a  bcd", "", "", "z"]]


def test_bad_spreadsheets_are_one_line_with_file_sheet_and_row(tmp_path: Path) -> None:
    rows = [HEADER, *ROWS]
    merged = book(tmp_path / "merged.xlsx", rows, change=lambda sheet: sheet.merge_cells("B3:B4"))
    formula = book(tmp_path / "formula.xlsx", [*rows, ["s4", "=B2&B3", "A", "x", "1"]])
    (tmp_path / "locked.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (tmp_path / "broken.xlsx").write_bytes(merged.read_bytes()[:900])
    spanned = CELL.format(kind="string", more='table:number-rows-spanned="2"', shown="x")
    summed = CELL.format(kind="float", more='table:formula="of:=1+1" office:value="2"', shown="2")
    for path, message in {
        merged: r"merged.xlsx sheet 'Cases' row 3: B3:B4 are merged; unmerge",
        formula: r"formula.xlsx sheet 'Cases' row 5: B5 is a formula \(=B2&B3\); paste",
        tmp_path / "locked.xlsx": r"locked.xlsx: is encrypted, or an old .xls",
        tmp_path / "broken.xlsx": r"broken.xlsx: not readable as a spreadsheet",
        ods(tmp_path / "m.ods", [HEADER, ["a", "b", spanned]]): r"m.ods sheet 'Cases' row 2: 2 x 1 cells from column 3",
        ods(tmp_path / "f.ods", [HEADER, ["a", summed]]): r"f.ods sheet 'Cases' row 2: column 2 is a formula",
        ods(tmp_path / "l.ods", [HEADER], "<encryption-data/>"): r"l.ods: is encrypted; save it without a password",
    }.items():
        with pytest.raises(MediError, match=message):
            read_rows(path)
    with pytest.raises(MediError, match="no sheet 'Casess'; there are Cases, Other; did you mean 'Cases'"):
        read_rows(merged, form=Form("Casess"))


def test_values_of_a_database_become_text_p6(tmp_path: Path) -> None:
    path = sqlite(tmp_path / "x.db")
    asked = Form(query="SELECT name, mpp, n FROM scans")
    assert read_rows(path, form=asked).to_numpy().tolist() == [["a", "0.5", "2"], ["b", "1", ""]]
    assert place_of(path, 1, asked) == "x.db row 2"


def test_databases_refuse_what_they_cannot_answer_and_are_never_written(tmp_path: Path) -> None:
    path, other = sqlite(tmp_path / "x.db"), duck(tmp_path / "y.duckdb")
    (tmp_path / "z.sqlite").write_bytes(b"nothing of the kind")
    before = path.read_bytes(), other.read_bytes()
    for file, form, message in [
        (path, Form(), "x.db: which table.*there are cases, scans"),
        (path, Form("case"), "no table 'case'; there are cases, scans; did you mean 'cases'"),
        (path, Form(query="SELECT nope FROM cases"), r"the query cannot be answered \(no such column: nope\)"),
        (path, Form(query="DELETE FROM cases"), "cannot be answered|gives no rows"),
        (path, Form(query="SELECT name, name FROM scans"), "columns name occur twice"),
        (path, Form("scans"), "column 'bytes' holds bytes, not text"),
        (other, Form(query="SELECT * FROM read_csv('/etc/passwd')"), "cannot be answered"),
        (other, Form(query="DROP TABLE cases"), "cannot be answered"),
        (tmp_path / "z.sqlite", Form(), "neither a SQLite nor a DuckDB file"),
    ]:
        with pytest.raises(MediError, match=message):
            read_rows(file, form=form)
    assert (path.read_bytes(), other.read_bytes()) == before


def test_options_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", "utf-8")
    for options, message in [
        ({"sheet": "a"}, r"t.csv: the option sheet goes with spreadsheets and databases"),
        ({"query": "SELECT 1"}, "the option query goes with databases"),
        ({"encoding": "latin-99"}, "encoding 'latin-99' is unknown; .*did you mean 'latin-1'"),
        ({"encoding": "utf-16"}, "is not UTF-16 throughout"),
        ({"sheet": "a", "query": "b"}, "name two tables"),
    ]:
        with pytest.raises(MediError, match=message):
            readers.read(path, **options)


def test_a_dataset_names_its_splits_and_what_is_left_out(tmp_path: Path) -> None:
    cohort = readers.read(hub(tmp_path / "hub", train=ROWS[:2], test=ROWS[2:]), label="diagnosis", attributes=["site"])
    assert dict(zip(cohort.table["slide"], cohort.table["hf_split"])) == {"s1": "train", "s2": "train", "s3": "test"}
    notes = "\n".join(cohort.notes)
    assert "left out, images or other values that are no text: image" in notes
    assert "scripts are never run: loader.py" in notes


def test_parts_of_a_dataset_with_other_columns_are_named(tmp_path: Path) -> None:
    folder = hub(tmp_path / "hub", train=ROWS)
    pd.DataFrame({"slide": ["a"]}).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(MediError, match=r"train-00000.*has the columns slide, case.*test-00000-of-00001.parquet has"):
        readers.read(folder)


@pytest.mark.parametrize(("package", "name"), [("openpyxl", "book.xlsx"), ("duckdb", "cases.duckdb")])
def test_a_package_that_lacks_is_one_sentence(
    package: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, options = SOURCES[name]
    path = make(tmp_path / name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MediError, match=rf"needs {package}: pip install 'medi-histo\[tables\]'"):
        readers.read(path, **options)


@pytest.mark.slow
def test_the_verb_takes_the_options_and_names_the_row(tmp_path: Path, medi: Medi) -> None:
    sqlite(tmp_path / "x.sqlite")
    words = ["--label", "diagnosis", "--attributes", "site", "--out"]
    done = fine(medi("audit", "x.sqlite", "--query", "SELECT * FROM cases WHERE site <> 'NA'", *words, "out"))
    assert "2 patches" in done
    book(tmp_path / "b.xlsx", [HEADER, *ROWS, ROWS[0]])
    refused(medi("audit", "b.xlsx", "--id", "slide", *words, "out2"), "b.xlsx row 5: sample_id 's1' was there already")
    assert not (tmp_path / "out2").exists()
