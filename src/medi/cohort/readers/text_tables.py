"""Tables of text, CSV and TSV, to the last field as written (P6); a broken row is named by its line."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd

from medi.cohort.readers.forms import PLAIN, Form
from medi.cohort.readers.guess import NAMES, plain
from medi.core.errors import MediError

UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how a text of UTF-16 begins
SEPARATOR = re.compile(r"sep=([,;\t|])", re.IGNORECASE)
MOST = 1_000  # columns of a table that are read without being named
csv.field_size_limit(1 << 20)


def codec_of(path: Path, form: Form) -> str:
    """How a text is encoded: UTF-16 where its first bytes say so, else as the form says; UTF-8 without either."""
    with path.open("rb") as handle:
        return "utf-16" if handle.read(2) in UTF16 else form.codec


def header_of(path: Path) -> str:
    """The first line of a table, for a look at its columns."""
    with path.open(encoding=codec_of(path, PLAIN), errors="replace") as handle:
        return handle.readline()


def line_of(path: Path, row: int, form: Form = PLAIN) -> int:
    """The line of a data row (from 0), quoted line breaks counted."""
    codec = codec_of(path, form)
    starts = _lines(path, _delimiter(path, codec), codec)
    return next(line for i, (line, _, _) in enumerate(starts) if i == row + 1)


def text_rows(path: Path, named: Collection[str] = (), form: Form = PLAIN) -> pd.DataFrame:
    """Every field of a text table; of one with more than MOST columns those that are `named` or have a usual name."""
    codec = codec_of(path, form)
    try:
        return _fields(path, named, codec)
    except UnicodeError as error:
        raise _undecoded(path, codec) from error


def _fields(path: Path, named: Collection[str], codec: str) -> pd.DataFrame:
    delimiter = _delimiter(path, codec)
    _check_quotes(path, delimiter, codec)
    header, above = _check_rows(path, delimiter, codec)
    if _has_lone_returns(path, codec):
        fields = [fields for _, _, fields in _lines(path, delimiter, codec)][1:]
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
        encoding=codec,
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


def _blocks(path: Path, codec: str) -> Iterator[str]:
    """The text in parts, line ends as they are, and a mark for what cannot be decoded."""
    with path.open(encoding=codec, errors="replace", newline="") as handle:
        yield from iter(lambda: handle.read(1 << 20), "")


def _has_lone_returns(path: Path, codec: str) -> bool:
    """Whether lines end in the old way of the Macintosh, CR alone, which readers of tables count differently."""
    before = ""
    for block in _blocks(path, codec):
        text = before + block
        if text[:-1].count("\r") > text.count("\r\n"):
            return True
        before = text[-1:]
    return before == "\r"


def _check_quotes(path: Path, delimiter: str, codec: str) -> None:
    """Refuse a quote that opens and is never closed, with the line where it opens: all below would be one field."""
    if sum(block.count('"') for block in _blocks(path, codec)) % 2 == 0:
        return
    with path.open(encoding=codec, errors="replace", newline="") as handle:
        reader, line = csv.reader(handle, delimiter=delimiter, strict=True), 1
        try:
            for _ in reader:
                line = reader.line_num + 1
        except csv.Error as error:
            if "end of data" in str(error):
                raise MediError(f'{path} line {line}: a quote (") opens here and is never closed; remove it') from error


def _check_rows(path: Path, delimiter: str, codec: str) -> tuple[list[str], int]:
    """The header, once every line is text and has as many fields as it; and how many lines end with the header."""
    lines = _lines(path, delimiter, codec)
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


def _lines(path: Path, delimiter: str, codec: str) -> Iterator[tuple[int, int, list[str]]]:
    """The numbers of the first and last line and the fields of each record; blank lines are passed over."""
    try:
        with path.open(encoding=codec, newline="") as handle:
            reader, line = csv.reader(handle, delimiter=delimiter), 1
            for fields in reader:
                if any(field.strip() for field in fields) and not _names_separator(fields, delimiter, line):
                    yield line, reader.line_num, fields
                line = reader.line_num + 1
    except csv.Error as error:
        raise MediError(f"{path} line {line}: {error}; is this a text table?") from error


def _names_separator(fields: Sequence[str], delimiter: str, line: int) -> bool:
    """Whether these are "sep=;", a first line by which Excel tells itself what separates the fields."""
    return line == 1 and SEPARATOR.fullmatch(delimiter.join(fields)) is not None


def _undecoded(path: Path, codec: str) -> MediError:
    """Which line is not of the encoding, where lines can be told without it."""
    if codec != "utf-8-sig":
        return MediError(f"{path}: is not {codec.upper()} throughout; name its encoding (--encoding)")
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                found = f"line {number}: byte 0x{line[error.start]:02x} (byte {error.start + 1} of the line)"
                remedy = "name its encoding (--encoding latin-1), or save it as UTF-8"
                return MediError(f"{path} {found} is not UTF-8; {remedy}")
    return MediError(f"{path}: not UTF-8; name its encoding (--encoding)")


def _delimiter(path: Path, codec: str) -> str:
    """The one of tab, comma and semicolon that the header has most of; blank lines above it are passed over."""
    with path.open(encoding=codec, errors="replace") as handle:
        header = next((line for line in handle if line.strip()), "")
    if named := SEPARATOR.fullmatch(header.strip()):
        return named[1]
    return max(",\t;", key=header.count)
