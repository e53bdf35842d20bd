"""Tables as text, to the last cell (P6): CSV, TSV and Parquet; a broken row is named by its line."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from medi.core.errors import MediError

PARQUET = (".parquet", ".pq")
csv.field_size_limit(1 << 20)


def read_rows(path: Path) -> pd.DataFrame:
    """Every cell as it is written ("" where empty): `NA`, `02` and `not reported` stay. Unnamed columns are dropped.

    Raises MediError for a table that is missing, empty, ragged, not UTF-8, or has a column twice, with the line.
    """
    if not path.is_file():
        raise MediError(f"{path}: no such file")
    table = _read_parquet(path) if path.suffix.lower() in PARQUET else _read_csv(path)
    if not len(table):
        raise MediError(f"{path}: a header but no rows")
    return table[[name for name in table.columns if name]]


def line_of(path: Path, row: int) -> int:
    """The line of a data row (from 0) of a CSV file, quoted line breaks counted; for Parquet the row from 1."""
    if path.suffix.lower() in PARQUET:
        return row + 1
    starts = _lines(path, _delimiter(path))
    return next(line for i, (line, _) in enumerate(starts) if i == row + 1)


def _read_csv(path: Path) -> pd.DataFrame:
    delimiter = _delimiter(path)
    header = _check_rows(path, delimiter)
    table = pd.read_csv(
        path,
        sep=delimiter,
        header=None,
        names=range(len(header)),
        skiprows=1,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        encoding="utf-8-sig",
        skip_blank_lines=True,
    )
    return table.set_axis(header, axis=1)


def _check_rows(path: Path, delimiter: str) -> list[str]:
    """The header, once every line is UTF-8 and has as many cells as it."""
    lines = _lines(path, delimiter)
    first = next(lines, None)
    if first is None:
        raise MediError(f"{path}: empty; expected a header and rows")
    header = [name.strip() for name in first[1]]
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise MediError(f"{path}: columns {', '.join(twice)} occur twice; rename one of each")
    for line, cells in lines:
        if len(cells) != len(header):
            raise MediError(
                f"{path} line {line}: {len(cells)} cells, the header has {len(header)}; mend the line (quote commas)"
            )
    return header


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The first line's number and the cells of each record; blank lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader, line = csv.reader(handle, delimiter=delimiter), 1
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except csv.Error as error:
        raise MediError(f"{path} line {line}: {error}; is this a text table?") from error


def _not_utf8(path: Path) -> MediError:
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                found = f"line {number}: byte 0x{line[error.start]:02x} (byte {error.start + 1} of the line)"
                return MediError(f"{path} {found} is not UTF-8; save it as UTF-8, e.g. iconv -f LATIN1 -t UTF-8")
    return MediError(f"{path}: not UTF-8; save it as UTF-8")


def _delimiter(path: Path) -> str:
    """The one of tab, comma and semicolon that the header has most of."""
    with path.open("rb") as handle:
        header = handle.readline()
    return max(",\t;", key=lambda mark: header.count(mark.encode()))


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise MediError(f"{path}: not readable as Parquet ({error})") from error
    return pd.DataFrame({str(name): _as_text(table[name], path) for name in table.columns})


def _as_text(column: pd.Series, path: Path) -> pd.Series:
    known = column.notna()
    sample = column[known].iloc[0] if known.any() else ""
    if isinstance(sample, (bytes, dict, list)):
        raise MediError(
            f"{path}: column {column.name!r} holds {type(sample).__name__}, not text; export images as files"
        )
    return column.astype(str).where(known, "").astype(str)
