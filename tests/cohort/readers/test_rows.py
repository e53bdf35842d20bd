"""Tables as text (P6), broken rows by their line."""

from pathlib import Path

import pandas as pd
import pytest

from medi.cohort.readers.rows import line_of, read_rows
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
        (b"a,b\n1,2\n3\n", r"line 3: 1 cells, the header has 2"),
        (b"a,b\n1,2\n\n3,4,5\n", r"line 4: 3 cells"),
        (b'a,b\n"x\ny",2\n3\n', r"line 4: 1 cells"),
        (b"a,b,a\n1,2,3\n", "columns a occur twice"),
        (b"a,b\n", "no rows"),
        (b"", "empty"),
        ("a,b\n1,2\nRenée,4\n".encode("latin1"), r"line 3: byte 0xe9 \(byte 4 of the line\) is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8"),
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
    assert read_rows(path).values.tolist() == [["2", "57.0", "NA", "True"], ["3", "", "", "False"]]


def test_parquet_with_image_bytes_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"image": [b"\xff\xd8"]}).to_parquet(path)
    with pytest.raises(MediError, match="export images as files"):
        read_rows(path)
    with pytest.raises(MediError, match="not readable as Parquet"):
        read_rows(write(tmp_path, b"nonsense", "broken.parquet"))
