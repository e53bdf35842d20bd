"""Tables and queries of SQLite and DuckDB files as text; the file is opened for reading alone."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.readers.forms import Form
from medi.core.errors import MediError, did_you_mean

SQLITE, DUCK = b"SQLite format 3\0", b"DUCK"  # the latter from byte 8 on
INSTALL = "reading DuckDB files needs duckdb: pip install 'medi-histo[tables]'"
LISTED = 20
SAFE = {"enable_external_access": "false", "autoinstall_known_extensions": "false"}  # no other file, no network (P10)
TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY 1",
    "duckdb": "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' ORDER BY 1",
}


def database_rows(path: Path, form: Form) -> pd.DataFrame:
    """The rows of `form.query`, of the table `form.sheet`, or of the one table that there is, as Python values.

    MediError for a file that is no database, a table that is not there, and SQL that the database refuses.
    """
    kind = _kind(path)
    with _connected(path, kind) as connection:
        names, rows = _answer(path, connection, form.query or _select(path, connection, kind, form.sheet))
    return pd.DataFrame(rows, columns=pd.Index(names, dtype=object), dtype=object)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if head == SQLITE:
        return "sqlite"
    if head[8:12] == DUCK:
        return "duckdb"
    raise MediError(f"{path}: is neither a SQLite nor a DuckDB file (or it is encrypted)")


@contextmanager
def _connected(path: Path, kind: str) -> Iterator[Any]:
    if kind == "sqlite":
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("PRAGMA trusted_schema = 0")
            yield connection
        return
    try:
        import duckdb
    except ImportError as error:
        raise MediError(INSTALL) from error
    try:
        connection = duckdb.connect(str(path), read_only=True, config=SAFE)
    except duckdb.Error as error:
        raise MediError(f"{path}: DuckDB cannot open it ({_first_line(error)})") from error
    with closing(connection):
        yield connection


def _answer(path: Path, connection: Any, query: str) -> tuple[list[str], list[Sequence[Any]]]:
    """The names of the columns, and the rows."""
    try:
        cursor = connection.execute(query)
        if cursor.description is None:
            raise MediError(f"{path}: the query gives no rows; write one that begins with SELECT")
        return [str(column[0]) for column in cursor.description], cursor.fetchall()
    except MediError:
        raise
    except Exception as error:  # each library has its own kinds
        if type(error).__module__.split(".")[0].strip("_") not in ("sqlite3", "duckdb"):
            raise
        raise MediError(f"{path}: the query cannot be answered ({_first_line(error)}): {query}") from error


def _select(path: Path, connection: Any, kind: str, table: str | None) -> str:
    """The query for a whole table."""
    names = [str(name) for (name,) in _answer(path, connection, TABLES[kind])[1]]
    if table is None and len(names) != 1:
        raise MediError(f"{path}: which table? name one as the sheet, or give a query; there are {_some(names)}")
    if table is not None and table not in names:
        raise MediError(f"{path}: no table {table!r}; there are {_some(names)}{did_you_mean(table, names)}")
    quoted = (table or names[0]).replace('"', '""')
    return f'SELECT * FROM "{quoted}"'


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "") or "none"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
