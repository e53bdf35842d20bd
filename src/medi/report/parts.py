"""What a page is made of: tables, pictures and sections. Undefined is a dash (P7)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd
from matplotlib.figure import Figure

from medi.core.spreadsheets import csv_of
from medi.figures import to_svg
from medi.figures.names import METRICS, known, number

COLUMNS = {
    "cls": "CLS",
    "medi": "MeDi",
    "cramers_v": "Cramér's V",
    "cramers_v_corrected": "Cramér's V, bias-corrected",
    "determination": "1 − H(class | attribute) / H(class)",
    "single_class": "share in levels of one class",
    "nmi": "NMI",
    "p_value": "p",
    "p_adjusted": "p, adjusted",
    "n_real": "n real",
    "n_train": "training patches",
    "images": "training images drawn",
    "images_per_second": "images/s",
    "against": "compared with",
}
ROWS_SHOWN = 200  # a browser table; the CSV beside it holds every row
CSV, PLAIN = "%.8g", ",;:/()-+="  # digits of the CSV (all of them lie in the Parquet tables); what an address may hold


@dataclass(frozen=True)
class Entry:
    """A value as it is read (`text`) and as it is sorted (`key`)."""

    text: str
    key: str
    number: bool


@dataclass(frozen=True)
class Table:
    """Column names and rows of entries; `csv` is the whole table as a data: address."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    csv: str
    total: int
    open: bool = True  # shown at once, or one click away
    kind: str = "table"  # or "facts": name and value, nothing to sort


@dataclass(frozen=True)
class Picture:
    """A figure, what it shows for those who cannot see it, and the numbers behind it."""

    title: str
    figure: Figure
    alt: str
    caption: str
    data: Table
    kind: str = "picture"

    @property
    def svg(self) -> str:
        """The figure as a part of the page."""
        return to_svg(self.figure)


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, a list that stands out (alarms), then tables and pictures."""

    anchor: str
    title: str
    text: Sequence[str] = ()
    alarms: Sequence[str] = ()
    blocks: Sequence[Table | Picture] = ()
    warned: str = "Alarm"  # before each of `alarms`


def entry(value: Any) -> Entry:
    if isinstance(value, Entry):
        return value
    if isinstance(value, (list, tuple, set)):
        return entry(", ".join(map(str, value)))
    if isinstance(value, str):
        return Entry(value, value, False)
    if isinstance(value, bool):
        return Entry("yes" if value else "no", str(value), False)
    return Entry(number(value), repr(float(value)) if known(value) else "", True)


def label(column: str) -> str:
    return COLUMNS.get(column, METRICS.get(column, column.replace("_", " ")))


def table_of(title: str, frame: pd.DataFrame, open: bool = True, kind: str = "table") -> Table:
    """A table of a frame; empty columns are left to the CSV; an Entry is shown by its text, saved by its key."""
    keys = frame.map(lambda value: value.key if isinstance(value, Entry) else value)
    csv = csv_of(keys, CSV)
    shown = frame.loc[:, ~(frame == "").all()] if len(frame) else frame
    rows = [[entry(value) for value in row] for row in shown.head(ROWS_SHOWN).astype(object).itertuples(index=False)]
    columns = [label(str(name)) for name in shown.columns]
    address = f"data:text/csv;charset=utf-8,{quote(csv, safe=PLAIN)}"
    return Table(title, columns, rows, address, len(frame), open, kind)


def facts(title: str, content: Mapping[str, Any], open: bool = True) -> Table:
    """A nested mapping as rows of name and value; levels are joined by dots."""
    frame = pd.DataFrame(list(_flat(content)), columns=["name", "value"], dtype=object)
    return table_of(title, frame, open, "facts")


def _flat(content: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", "none" if value == "" or (isinstance(value, (list, tuple)) and not value) else value
