"""Tables as text, to the last field (P6): CSV, TSV and Parquet; a broken row is named by its line."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd

from medi.cohort.readers.guess import NAMES, plain
from medi.core.errors import MediError

PARQUET = (".parquet", ".pq")
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how a text of UTF-16 begins
SEPARATOR = re.compile(r"sep=([,;\t|])", re.IGNORECASE)
MOST = 1_000  # columns of a table that are read without being named
csv.field_size_limit(1 << 20)


def read_rows(path: Path, named: Collection[str] = ()) -> pd.DataFrame:
    """Every field as it is written ("" where empty): `NA`, `02` and `not reported` stay. Unnamed columns are dropped.

    Of a table with more than MOST columns only the first of them are read, and those that are `named` or have a usual
    name.

    Raises MediError for a table that is missing, empty, ragged, not UTF-8, or has a column twice, with the line.
    """
    if not path.is_file():
        raise MediError(f"{path}: no such file")
    table = _read_parquet(path) if path.suffix.lower() in PARQUET else _read_csv(path, named)
    if not len(table):
        raise MediError(f"{path}: a header but no rows")
    return table[[name for name in table.columns if name]]


def place_of(path: Path, row: int) -> str:
    """How an error names a data row (from 0): "metadata.csv line 7"."""
    return f"{path.name} line {line_of(path, row)}"


def line_of(path: Path, row: int) -> int:
    """The line of a data row (from 0) of a CSV file, quoted line breaks counted; for Parquet the row from 1."""
    if path.suffix.lower() in PARQUET:
        return row + 1
    starts = _lines(path, _delimiter(path))
    return next(line for i, (line, _, _) in enumerate(starts) if i == row + 1)


def _read_csv(path: Path, named: Collection[str]) -> pd.DataFrame:
    delimiter = _delimiter(path)
    _check_quotes(path, delimiter)
    header, above = _check_rows(path, delimiter)
    if _has_lone_returns(path):
        fields = [fields for _, _, fields in _lines(path, delimiter)][1:]
        return pd.DataFrame(fields, columns=header, dtype=str)
    table = pd.read_csv(
        path,
        sep=delimiter,
        header=None,
        names=range(len(header)),
        skiprows=above,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        encoding="utf-8-sig",
        skip_blank_lines=True,
        usecols=_kept(header, named),
    )
    return _without_blank_rows(table).set_axis([header[int(place)] for place in table.columns], axis=1)


def _without_blank_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of separators alone, as spreadsheets leave them, are no rows; those that are left are numbered anew."""
    blank = pd.Series(True, index=table.index)
    for name in table.columns:
        blank[blank] = table[name][blank].str.strip() == ""
        if not blank.any():
            return table
    return table[~blank].reset_index(drop=True)


def _kept(header: Sequence[str], named: Collection[str]) -> list[int] | None:
    """The places of the columns that are read; None: all."""
    if len(header) <= MOST:
        return None
    usual = {name for names in NAMES.values() for name in names}
    return [i for i, name in enumerate(header) if i < MOST or name in named or plain(name) in usual]


def _has_lone_returns(path: Path) -> bool:
    """Whether lines end in the old way of the Macintosh, CR alone, which readers of tables count differently."""
    with path.open("rb") as handle:
        before = b""
        while block := handle.read(1 << 20):
            text = before + block
            if text[:-1].count(b"\r") > text.count(b"\r\n"):
                return True
            before = text[-1:]
    return before == b"\r"


def _check_quotes(path: Path, delimiter: str) -> None:
    """Refuse a quote that opens and is never closed, with the line where it opens: all below would be one field."""
    with path.open("rb") as handle:
        marks = sum(block.count(b'"') for block in iter(lambda: handle.read(1 << 20), b""))
    if marks % 2 == 0:
        return
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        reader, line = csv.reader(handle, delimiter=delimiter, strict=True), 1
        try:
            for _ in reader:
                line = reader.line_num + 1
        except csv.Error as error:
            if "end of data" in str(error):
                raise MediError(f'{path} line {line}: a quote (") opens here and is never closed; remove it') from error


def _check_rows(path: Path, delimiter: str) -> tuple[list[str], int]:
    """The header, once every line is UTF-8 and has as many fields as it; and how many lines end with the header."""
    lines = _lines(path, delimiter)
    first = next(lines, None)
    if first is None:
        raise MediError(f"{path}: empty; expected a header and rows")
    header = [name.strip() for name in first[2]]
    if twice := sorted(name for name, count in Counter(header).items() if name and count > 1):
        raise MediError(f"{path}: columns {', '.join(twice)} occur twice; rename one of each")
    for line, _, fields in lines:
        if len(fields) != len(header):
            raise MediError(
                f"{path} line {line}: {len(fields)} fields, the header has {len(header)}; mend the line (quote commas)"
            )
    return header, first[1]


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """The numbers of the first and last line and the fields of each record; blank lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader, line = csv.reader(handle, delimiter=delimiter), 1
            for fields in reader:
                if any(field.strip() for field in fields) and not _names_separator(fields, delimiter, line):
                    yield line, reader.line_num, fields
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except csv.Error as error:
        raise MediError(f"{path} line {line}: {error}; is this a text table?") from error


def _names_separator(fields: Sequence[str], delimiter: str, line: int) -> bool:
    """Whether these are "sep=;", a first line by which Excel tells itself what separates the fields."""
    return line == 1 and SEPARATOR.fullmatch(delimiter.join(fields)) is not None


def _not_utf8(path: Path) -> MediError:
    with path.open("rb") as handle:
        if handle.read(2) in UTF16:
            return MediError(f"{path}: is UTF-16; save it as UTF-8, e.g. iconv -f UTF-16 -t UTF-8")
        handle.seek(0)
        for number, line in enumerate(handle, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                found = f"line {number}: byte 0x{line[error.start]:02x} (byte {error.start + 1} of the line)"
                return MediError(f"{path} {found} is not UTF-8; save it as UTF-8, e.g. iconv -f LATIN1 -t UTF-8")
    return MediError(f"{path}: not UTF-8; save it as UTF-8")


def _delimiter(path: Path) -> str:
    """The one of tab, comma and semicolon that the header has most of; blank lines above it are passed over."""
    with path.open("rb") as handle:
        header = next((line for line in handle if line.strip()), b"")
    if named := SEPARATOR.fullmatch(header.decode("utf-8-sig", errors="replace").strip()):
        return named[1]
    return max(",\t;", key=lambda mark: header.count(mark.encode()))


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise MediError(f"{path}: not readable as Parquet ({error})") from error
    table = _with_index(table, path)
    return pd.DataFrame({str(name): _as_text(table[name], path) for name in table.columns})


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
        raise MediError(
            f"{path}: column {column.name!r} holds {type(sample).__name__}, not text; export images as files"
        )
    if pd.api.types.is_float_dtype(column) and (column[known] % 1 == 0).all():
        column = column.astype("Int64")  # whole numbers that a gap turned into fractions: "1" was written, not "1.0"
    return column.astype(str).where(known, "").astype(str)
