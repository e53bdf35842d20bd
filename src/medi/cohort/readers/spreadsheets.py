"""Spreadsheets (.xlsx, .ods) as text: what a cell holds, not how it is rounded for the eye (P6).

A whole number has no point (2, not 2.0), a number format of zeros keeps them (0007), a date is 2024-03-09. Merged cells
and formulas are refused with their row: which row a merged value belongs to, and what a formula gave, is not known.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from medi.core.errors import MediError, did_you_mean

Line = tuple[int, list[str]]  # the number of a row in its sheet, from 1, and its texts
OLE = b"\xd0\xcf\x11\xe0"  # how an old or an encrypted Office file begins
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OSError,
    EOFError,
)
INSTALL = "reading .xlsx needs openpyxl: pip install 'medi-histo[tables]', or save the sheet as CSV"
OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
WORDS = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
MOST_COLUMNS = 16_384  # that a sheet can have; repeated empty cells up to it are nothing


def sheet_rows(path: Path, sheet: str | None = None) -> list[Line]:
    """The rows of a sheet that hold something, the header first. sheet: by default the first one.

    MediError for a file that is encrypted or broken, a sheet that is not there, and, by its row, for merged cells and
    formulas.
    """
    with path.open("rb") as file:
        is_ole = file.read(4) == OLE
    if is_ole:
        raise MediError(f"{path}: is encrypted, or an old .xls; save it as .xlsx without a password")
    with _readable(path):
        lines = _ods(path, sheet) if path.suffix.lower() == ".ods" else _xlsx(path, sheet)
        return [(number, texts) for number, texts in lines if any(text.strip() for text in texts)]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A file that no reader understands is one sentence."""
    try:
        yield
    except MediError:
        raise
    except (*BROKEN, ElementTree.ParseError) as error:
        raise MediError(f"{path}: not readable as a spreadsheet ({error}); save it again") from error


def place(path: Path, sheet: str | None, row: int) -> str:
    """How an error names a data row (from 0): "book.xlsx sheet 'Cases' row 7"."""
    return f"{path.name} sheet {sheet!r} row {sheet_rows(path, sheet)[row + 1][0]}" if sheet else _unnamed(path, row)


def _unnamed(path: Path, row: int) -> str:
    return f"{path.name} row {sheet_rows(path)[row + 1][0]}"


def _chosen(path: Path, names: Sequence[str], sheet: str | None) -> str:
    if not names:
        raise MediError(f"{path}: has no sheet of cells")
    if sheet is not None and sheet not in names:
        raise MediError(f"{path}: no sheet {sheet!r}; there are {', '.join(names)}{did_you_mean(sheet, names)}")
    return sheet or names[0]


def _merged(path: Path, sheet: str, row: object, cells: str) -> MediError:
    return MediError(f"{path} sheet {sheet!r} row {row}: {cells} are merged; unmerge them and fill in every row")


def _formula(path: Path, sheet: str, row: object, cell: str, text: object) -> MediError:
    return MediError(
        f"{path} sheet {sheet!r} row {row}: {cell} is a formula ({text}); paste the column's values in its place"
    )


# --- .xlsx ------------------------------------------------------------------------------------------------------------


def _xlsx(path: Path, sheet: str | None) -> Iterator[Line]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise MediError(INSTALL) from error
    book = load_workbook(path, read_only=True, data_only=False)
    try:
        found = book[_chosen(path, [one.title for one in book.worksheets], sheet)]
        _refuse_merged(path, found)
        found.reset_dimensions()  # what a file says of its size is wrong in some
        for row in found.iter_rows():
            known = [cell for cell in row if cell.value is not None]
            if formulas := [cell for cell in known if cell.data_type == "f"]:
                cell = formulas[0]
                text = getattr(cell.value, "text", cell.value)
                raise _formula(path, found.title, cell.row, cell.coordinate, text)
            if known:
                yield known[0].row, [_text(cell) for cell in row]
    finally:
        book.close()


def _refuse_merged(path: Path, sheet: Any) -> None:
    """The list of merged cells stands behind the rows of a sheet: it is looked for in the file itself."""
    with zipfile.ZipFile(path) as book, book.open(sheet._worksheet_path.lstrip("/")) as file:
        before = b""
        while block := file.read(1 << 20):
            if found := re.search(rb'<(?:\w+:)?mergeCell [^>]*?ref="([A-Z]+(\d+):[^"]+)"', before + block):
                raise _merged(path, sheet.title, int(found[2]), found[1].decode())
            before = block[-200:]


def _text(cell: Any) -> str:
    """What a cell holds."""
    value = cell.value
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return _date(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, int | float):
        zeros = cell.number_format if set(cell.number_format or "") == {"0"} else ""
        return number(value).zfill(len(zeros))
    return str(value)


def _date(value: datetime) -> str:
    return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")


def number(value: int | float) -> str:
    """As Excel shows it where nothing is rounded: at most 15 digits, no point behind a whole number.

    >>> number(2.0), number(0.1 + 0.2), number(12)
    ('2', '0.3', '12')
    """
    return str(value) if isinstance(value, int) else f"{value:.15g}"


# --- .ods -------------------------------------------------------------------------------------------------------------


def _ods(path: Path, sheet: str | None) -> Iterator[Line]:
    with zipfile.ZipFile(path) as book:
        if b"encryption-data" in book.read("META-INF/manifest.xml"):
            raise MediError(f"{path}: is encrypted; save it without a password")
        tree = ElementTree.fromstring(book.read("content.xml"))
    tables = {str(table.get(f"{TABLE}name")): table for table in tree.iter(f"{TABLE}table")}
    name, row = _chosen(path, list(tables), sheet), 1
    for element in tables[name].iter(f"{TABLE}table-row"):
        texts = _ods_row(path, name, row, element)
        repeats = int(element.get(f"{TABLE}number-rows-repeated", "1"))
        if any(texts):
            yield from ((row + i, texts) for i in range(repeats))
        row += repeats


def _ods_row(path: Path, sheet: str, row: int, element: Any) -> list[str]:
    texts: list[str] = []
    for cell in element:
        if cell.tag not in (f"{TABLE}table-cell", f"{TABLE}covered-table-cell"):
            continue
        spans = [int(cell.get(f"{TABLE}number-{what}-spanned", "1")) for what in ("rows", "columns")]
        column = f"column {len(texts) + 1}"
        if max(spans) > 1:
            raise _merged(path, sheet, row, f"{spans[0]} x {spans[1]} cells from {column}")
        if formula := cell.get(f"{TABLE}formula"):
            raise _formula(path, sheet, row, column, formula)
        repeats = int(cell.get(f"{TABLE}number-columns-repeated", "1"))
        texts += [_ods_text(cell)] * min(repeats, MOST_COLUMNS - len(texts))
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _ods_text(cell: Any) -> str:
    kind = cell.get(f"{OFFICE}value-type", "")
    shown = "\n".join(map(_words, cell.findall(f"{WORDS}p")))
    if kind == "float" and (value := float(cell.get(f"{OFFICE}value"))) is not None:
        is_padded = shown.isdecimal() and shown.startswith("0") and int(shown) == value
        return shown if is_padded else number(value)
    if kind == "date":
        return str(cell.get(f"{OFFICE}date-value")).removesuffix("T00:00:00")
    if kind == "boolean":
        return str(cell.get(f"{OFFICE}boolean-value")).upper()
    return shown


def _words(paragraph: Any) -> str:
    """The text of a paragraph; blanks beyond the first are elements of their own."""
    parts = [paragraph.text or ""]
    for child in paragraph:
        blanks = {f"{WORDS}s": " " * int(child.get(f"{WORDS}c", "1")), f"{WORDS}tab": "\t", f"{WORDS}line-break": "\n"}
        parts += [blanks.get(child.tag, "") or _words(child), child.tail or ""]
    return "".join(parts)
