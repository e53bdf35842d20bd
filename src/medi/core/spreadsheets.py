"""CSV that a person opens in a spreadsheet: text from metadata must not become a formula there (P11)."""

from contextlib import suppress

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a spreadsheet knows one


def no_formula(value: object) -> object:
    """Text that a spreadsheet would run has an apostrophe before it, the usual mark of plain text; numbers stay.

    >>> no_formula("=cmd|' /C calc'!A0"), no_formula("-0.5"), no_formula("Rome")
    ("'=cmd|' /C calc'!A0", '-0.5', 'Rome')
    """
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    with suppress(ValueError):
        float(value)
        return value
    return f"'{value}"


def csv_of(table: pd.DataFrame, float_format: str | None = None) -> str:
    """A table as CSV for a spreadsheet, names of columns as well."""
    return table.rename(columns=no_formula).map(no_formula).to_csv(index=False, float_format=float_format)
