"""Tables as text, to the last field (P6): text, spreadsheets, databases, Parquet and Arrow; a broken row is named."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.readers import spreadsheets
from medi.cohort.readers.databases import database_rows
from medi.cohort.readers.forms import ARROW, DATABASES, PARQUET, PLAIN, SPREADSHEETS, Form
from medi.cohort.readers.spreadsheets import number, sheet_rows
from medi.cohort.readers.text_tables import line_of, text_rows
from medi.core.errors import MediError

NO_TEXT = "export images as files"


def read_rows(path: Path, named: Collection[str] = (), form: Form = PLAIN) -> pd.DataFrame:
    """Every field as it is written ("" where empty): `NA`, `02` and `not reported` stay. Unnamed columns are dropped.

    form: the sheet, the query or the encoding, where the file does not say it. Of a text table with more than 1,000
    columns only the first of them are read, and those that are `named` or have a usual name.

    Raises MediError for a table that is missing, empty, ragged, not of its encoding, or has a column twice, with the
    line.
    """
    if not path.is_file():
        raise MediError(f"{path}: no such file")
    form.check(path.name, path.suffix.lower())
    table = _rows(path, named, form)
    if twice := sorted(name for name, count in Counter(table.columns).items() if name and count > 1):
        raise MediError(f"{path}: columns {', '.join(twice)} occur twice; rename one of each")
    if not len(table):
        raise MediError(f"{path}: a header but no rows")
    return table[[name for name in table.columns if name]]


def _rows(path: Path, named: Collection[str], form: Form) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        return as_texts(_with_index(_parquet(path), path), path)
    if suffix in ARROW:
        return as_texts(read_arrow(path).to_pandas(), path)
    if suffix in SPREADSHEETS:
        return _of_sheet(path, sheet_rows(path, form.sheet))
    if suffix in DATABASES:
        return as_texts(database_rows(path, form), path)
    return text_rows(path, named, form)


def place_of(path: Path, row: int, form: Form = PLAIN) -> str:
    """How an error names a data row (from 0): "metadata.csv line 7"."""
    suffix = path.suffix.lower()
    if suffix in SPREADSHEETS:
        return spreadsheets.place(path, form.sheet, row)
    if path.is_dir() or suffix in (*PARQUET, *ARROW, *DATABASES):
        return f"{path.name} row {row + 1}"
    return f"{path.name} line {line_of(path, row, form)}"


def _of_sheet(path: Path, lines: Sequence[spreadsheets.Line]) -> pd.DataFrame:
    """The rows below the header; a row is as wide as the header."""
    if not lines:
        raise MediError(f"{path}: empty; expected a header and rows")
    header = [text.strip() for text in lines[0][1]]
    blank = [""] * len(header)
    rows = [[*texts, *blank][: len(header)] for _, texts in lines[1:]]
    return pd.DataFrame(rows, columns=pd.Index(header, dtype=object), dtype=str)


# --- typed columns ----------------------------------------------------------------------------------------------------


def as_texts(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """All columns as text, "" where nothing is; MediError for images and other values that are no text."""
    columns = [_as_text(table.iloc[:, place], path) for place in range(table.shape[1])]
    names = pd.Index([str(name) for name in table.columns], dtype=object)
    return pd.DataFrame(dict(enumerate(columns))).set_axis(names, axis=1)


def read_arrow(path: Path) -> Any:
    """The pyarrow table of an Arrow file, of the file or the stream format; no code of the file is run."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                return pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid:
                return pa.ipc.open_stream(source).read_all()
    except (pa.ArrowException, OSError) as error:
        raise MediError(f"{path}: not readable as Arrow ({error})") from error


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise MediError(f"{path}: not readable as Parquet ({error})") from error


def _with_index(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Named index levels are columns like any other: many tables keep the patient there."""
    named = [name for name in table.index.names if name is not None]
    if clash := [name for name in named if name in table.columns]:
        raise MediError(f"{path}: {clash[0]!r} is a column and the index; rename one of them")
    return table.reset_index(level=named) if named else table


def _as_text(column: pd.Series, path: Path) -> pd.Series:
    known = column.notna()
    sample = column[known].iloc[0] if known.any() else ""
    if isinstance(sample, (bytes, dict, list)):
        raise MediError(f"{path}: column {column.name!r} holds {type(sample).__name__}, not text; {NO_TEXT}")
    if pd.api.types.is_object_dtype(column):
        column = column.map(_plain, na_action="ignore")
    if pd.api.types.is_float_dtype(column) and (column[known] % 1 == 0).all():
        column = column.astype("Int64")  # whole numbers that a gap turned into fractions: "1" was written, not "1.0"
    return column.astype(str).where(known, "").astype(str)


def _plain(value: object) -> object:
    """A value of a database as text; whole numbers without a point, as everywhere."""
    return number(value) if isinstance(value, float) else str(value)
