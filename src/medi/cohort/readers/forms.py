"""How a table is written, where its file does not say so itself: which sheet, which query, which encoding."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medi.core.errors import MediError, did_you_mean

TEXT = (".csv", ".tsv", ".txt")
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather")
SPREADSHEETS = (".xlsx", ".xlsm", ".ods")
DATABASES = (".sqlite", ".sqlite3", ".db", ".duckdb", ".ddb")
TABLES = (*TEXT, *PARQUET, *ARROW, *SPREADSHEETS, *DATABASES)
ENCODINGS = ("latin-1", "cp1252", "utf-8", "utf-16", "mac-roman", "gb18030", "shift-jis")
NEEDS = {  # option: the files that it goes with
    "sheet": (SPREADSHEETS + DATABASES, "spreadsheets and databases"),
    "query": (DATABASES, "databases"),
    "encoding": (TEXT, "text tables"),
}


@dataclass(frozen=True)
class Form:
    """sheet: of a spreadsheet, or the table of a database; query: SQL that a database answers; encoding: of a text.

    MediError where the encoding is not known, or sheet and query are both given.

    >>> Form(encoding="latin1").codec
    'latin1'
    """

    sheet: str | None = None
    query: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.sheet is not None and self.query is not None:
            raise MediError("sheet and query name two tables; give one of them")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError as error:
            near = did_you_mean(str(self.encoding), ENCODINGS)
            raise MediError(f"encoding {self.encoding!r} is unknown; examples: {', '.join(ENCODINGS)}{near}") from error

    @property
    def codec(self) -> str:
        """The encoding of a text as Python calls it; that of UTF-8 passes over a byte order mark."""
        is_utf8 = codecs.lookup(self.encoding or "utf-8").name == "utf-8"
        return "utf-8-sig" if is_utf8 else str(self.encoding)

    def check(self, name: str, suffix: str) -> None:
        """Refuse an option that says nothing about a file of this kind. name: for the message."""
        for option, (suffixes, what) in NEEDS.items():
            if getattr(self, option) is not None and suffix not in suffixes:
                raise MediError(f"{name}: the option {option} goes with {what} ({', '.join(suffixes)}) alone")


PLAIN = Form()


def form_of(options: Mapping[str, Any]) -> Form:
    """The form among the options of a reader."""
    return Form(**{name: options[name] for name in NEEDS if name in options})
