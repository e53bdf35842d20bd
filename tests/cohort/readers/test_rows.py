"""Tables as text (P6), broken rows by their line."""

from pathlib import Path

import pandas as pd
import pytest

from medi.cohort.readers.rows import read_rows
from medi.cohort.readers.text_tables import MOST, line_of
from medi.core.errors import MediError


def write(folder: Path, content: bytes, name: str = "metadata.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_cells_stay_as_written_p6(tmp_path: Path, mark: str) -> None:
    rows = ["site,age,race,code", "NA,02,not reported,1e3", "null,,nan,TRUE", '"a b", 7 ,None,007']
    table = read_rows(write(tmp_path, "\n".join(rows).replace(",", mark).encode()))
    assert table.values.tolist() == [
        ["NA", "02", "not reported", "1e3"],
        ["null", "", "nan", "TRUE"],
        ["a b", " 7 ", "None", "007"],
    ]


def test_byte_order_mark_and_unnamed_index_column(tmp_path: Path) -> None:
    table = read_rows(write(tmp_path, "\ufeff,a,b\n0,x,y\n".encode()))
    assert table.to_dict("list") == {"a": ["x"], "b": ["y"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3\n", r"line 3: 1 fields, the header has 2"),
        (b"a,b\n1,2\n\n3,4,5\n", r"line 4: 3 fields"),
        (b'a,b\n"x\ny",2\n3\n', r"line 4: 1 fields"),
        (b"a,b,a\n1,2,3\n", "columns a occur twice"),
        (b"a,b\n", "no rows"),
        (b"", "empty"),
        ("a,b\n1,2\nRenée,4\n".encode("latin1"), r"line 3: byte 0xe9 \(byte 4 of the line\) is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], "is not UTF-16 throughout"),
        (b"a,b\n1,\0\n3,4\n5\n", "metadata.csv"),
    ],
)
def test_broken_tables_name_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(MediError, match=message):
        read_rows(write(tmp_path, content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MediError, match="no such file"):
        read_rows(tmp_path / "none.csv")


def test_line_counts_quoted_breaks_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path, b'a,b\n"x\ny",2\n\n3,4\n')
    assert [line_of(path, row) for row in (0, 1)] == [2, 5]
    assert len(read_rows(path)) == 2


def test_parquet_becomes_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"n": [2, 3], "x": [57.0, None], "s": ["NA", None], "b": [True, False]}).to_parquet(path)
    assert read_rows(path).values.tolist() == [["2", "57", "NA", "True"], ["3", "", "", "False"]]


def test_parquet_with_image_bytes_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"image": [b"\xff\xd8"]}).to_parquet(path)
    with pytest.raises(MediError, match="export images as files"):
        read_rows(path)
    with pytest.raises(MediError, match="not readable as Parquet"):
        read_rows(write(tmp_path, b"nonsense", "broken.parquet"))


@pytest.mark.parametrize(
    ("text", "line"),
    [('image,label,"site\na,b,c\n', 1), ('image,label\na,b\nc,"d\ne,f\n', 3), ('"x\ny",z\n"1",2\n3,"4\n5,6\n', 4)],
)
def test_a_quote_that_is_never_closed_is_named_by_its_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(MediError, match=rf't.csv line {line}: a quote \("\) opens here and is never closed'):
        read_rows(tmp_path / "t.csv")


def test_an_odd_number_of_quotes_inside_of_cells_is_no_open_quote(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('image,size\na.png,5" slide\n')
    assert read_rows(tmp_path / "t.csv").to_numpy().tolist() == [["a.png", '5" slide']]


@pytest.mark.parametrize("start", ["\n", " \n\n", ",\n"])
def test_blank_lines_above_the_header_are_passed_over(tmp_path: Path, start: str) -> None:
    (tmp_path / "t.csv").write_text(f"{start}a,b\n1,2\n\n3,4\n")
    table = read_rows(tmp_path / "t.csv")
    assert list(table) == ["a", "b"]
    assert table.to_numpy().tolist() == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\r"])
def test_any_line_end_gives_the_same_cells(tmp_path: Path, end: str) -> None:
    (tmp_path / "t.csv").write_bytes(end.join(["a,b", "1,02", "3,NA", ""]).encode())
    assert read_rows(tmp_path / "t.csv").to_numpy().tolist() == [["1", "02"], ["3", "NA"]]


def test_the_index_of_a_parquet_table_is_a_column(tmp_path: Path) -> None:
    table = pd.DataFrame({"patient": ["p", "q"], "image": ["1.png", "2.png"]})
    table.set_index("patient").to_parquet(tmp_path / "t.parquet")
    assert read_rows(tmp_path / "t.parquet").to_numpy().tolist() == [["p", "1.png"], ["q", "2.png"]]


def test_whole_numbers_with_gaps_stay_whole(tmp_path: Path) -> None:
    pd.DataFrame({"patient": [1.0, None, 20.0], "mpp": [0.5, 1.0, None]}).to_parquet(tmp_path / "t.parquet")
    assert read_rows(tmp_path / "t.parquet").to_numpy().tolist() == [["1", "0.5"], ["", "1.0"], ["20", ""]]


def test_of_a_very_wide_table_only_what_is_used_is_read(tmp_path: Path) -> None:
    names = ["image", *(f"c{i}" for i in range(3 * MOST)), "Slide_ID", "scanner type"]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join(["x"] * len(names)) + "\n")
    assert list(read_rows(tmp_path / "t.csv", ["c2500"]))[MOST:] == ["c2500", "Slide_ID"]


def test_rows_of_separators_alone_are_no_rows_and_lines_stay_right(tmp_path: Path) -> None:
    path = write(tmp_path, b"a,b\n1,2\n,,\n".replace(b",,", b",") + b" , \n3,\n,4\n,\n")
    assert read_rows(path).to_numpy().tolist() == [["1", "2"], ["3", ""], ["", "4"]]
    assert [line_of(path, row) for row in (0, 1, 2)] == [2, 5, 6]


@pytest.mark.parametrize("mark", [";", ",", "\t", "|"])
def test_the_line_by_which_excel_names_its_separator_is_no_header(tmp_path: Path, mark: str) -> None:
    path = write(
        tmp_path, f"\ufeffsep={mark}\r\na,b\r\n1,2\r\n".replace(",b", f"{mark}b").replace(",2", f"{mark}2").encode()
    )
    assert read_rows(path).to_dict("list") == {"a": ["1"], "b": ["2"]}
    assert line_of(path, 0) == 3
