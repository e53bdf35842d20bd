"""Small tables as people have them: other encodings, spreadsheets, databases, folders of Hugging Face `datasets`."""

import json
import sqlite3
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HEADER = ["slide", "case", "diagnosis", "site", "age"]
ROWS = [["s1", "p1", "A", "NA", "02"], ["s2", "p2", "B", "Oslo", "61"], ["s3", "p3", "A", "Åbo", ""]]


def text(path: Path, codec: str, rows: Sequence[Sequence[str]] = ROWS) -> Path:
    path.write_bytes("\n".join(map(",".join, [HEADER, *rows])).encode(codec))
    return path


def book(
    path: Path, rows: Sequence[Sequence[Any]], sheet: str = "Cases", change: Callable[..., None] | None = None
) -> Path:
    import openpyxl

    made = openpyxl.Workbook()
    made.active.title = sheet
    for row in rows:
        made.active.append(row)
    made.create_sheet("Other").append(["a"])
    if change:
        change(made.active)
    made.save(path)
    return path


CELL = '<table:table-cell office:value-type="{kind}" {more}><text:p>{shown}</text:p></table:table-cell>'
SPACES = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
)


def ods(path: Path, rows: Sequence[Sequence[str]], manifest: str = "") -> Path:
    """A spreadsheet of LibreOffice, reduced to what matters: rows of cells as XML or text."""
    cells = [[c if c.startswith("<") else CELL.format(kind="string", more="", shown=c) for c in row] for row in rows]
    body = "".join(f"<table:table-row>{''.join(row)}</table:table-row>" for row in cells)
    empty = '<table:table-cell table:number-columns-repeated="99"/>'
    end = f'<table:table-row table:number-rows-repeated="1048000">{empty}</table:table-row>'
    content = f'<office:document-content {SPACES}><office:body><office:spreadsheet><table:table table:name="Cases">'
    content += f"{body}{end}</table:table></office:spreadsheet></office:body></office:document-content>"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("META-INF/manifest.xml", f"<manifest>{manifest}</manifest>")
        made.writestr("content.xml", content)
    return path


def sqlite(path: Path, rows: Sequence[Sequence[str]] = ROWS) -> Path:
    with sqlite3.connect(path) as made:
        pd.DataFrame(rows, columns=HEADER).to_sql("cases", made, index=False)
        made.execute("CREATE TABLE scans (name TEXT, mpp REAL, n REAL, bytes BLOB)")
        made.execute("INSERT INTO scans VALUES ('a', 0.5, 2.0, NULL), ('b', 1.0, NULL, x'00')")
    made.close()
    return path


def duck(path: Path, rows: Sequence[Sequence[str]] = ROWS) -> Path:
    import duckdb

    with duckdb.connect(str(path)) as made:
        columns = ", ".join(f'"{name}" TEXT' for name in HEADER)
        made.execute(f"CREATE TABLE cases ({columns})")
        made.executemany("INSERT INTO cases VALUES (?, ?, ?, ?, ?)", rows)
    return path


def hub(folder: Path, **splits: list[list[str]]) -> Path:
    """data/train-00000-of-00001.parquet and so on, with pictures and a class that is stored as a number."""
    (folder / "data").mkdir(parents=True)
    (folder / "loader.py").write_text("raise SystemExit('a script was run')")
    features = {"diagnosis": {"names": ["A", "B"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    told = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for name, rows in splits.items():
        frame = pd.DataFrame(rows, columns=HEADER)
        images = pa.array([{"bytes": b"\xff", "path": "x.png"}] * len(frame))
        table = pa.Table.from_pandas(frame.assign(diagnosis=frame["diagnosis"].map({"A": 0, "B": 1})))
        table = table.append_column("image", images).replace_schema_metadata(told)
        pq.write_table(table, folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


def saved(folder: Path, rows: list[list[str]]) -> Path:
    """As `save_to_disk` writes a dataset: the stream format of Arrow, and state.json."""
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    table = pa.Table.from_pandas(pd.DataFrame(rows, columns=HEADER))
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    return folder
