"""The audit of a metadata table that someone drops on the page; nothing of it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

import medi
from medi.cohort.audit import Audit
from medi.cohort.readers.guess import NAMES, plain
from medi.cohort.readers.rows import read_rows
from medi.core.errors import MediError

MOST_ROWS = 2_000_000


@dataclass(frozen=True)
class Columns:
    """Which columns play a role; None: to be guessed."""

    label: str | None = None
    patient: str | None = None
    attributes: Sequence[str] | None = None


@dataclass(frozen=True)
class TableAudit:
    """The audit, and what the reader guessed."""

    audit: Audit
    notes: tuple[str, ...]

    def counts(self) -> tuple[str, pd.DataFrame] | None:
        """The first attribute and its patches per class and level; None without attributes."""
        rows = self.audit.counts[self.audit.counts["by"] == "class"]
        if rows.empty:
            return None
        name = str(rows["attribute"].iloc[0])
        rows = rows[rows["attribute"] == name]
        return name, rows.pivot_table(index="group", columns="level", values="patches", fill_value=0).astype(int)


def read_table_of(path: Path) -> pd.DataFrame:
    """The rows of a text table, a Parquet table or the first sheet of a spreadsheet, all text."""
    rows = read_rows(path)
    if len(rows) > MOST_ROWS:
        raise MediError(f"{path.name} has {len(rows):,} rows, over {MOST_ROWS:,}: use `medi audit {path.name}` instead")
    return rows


def audit_table(name: str, rows: pd.DataFrame, scratch: Path, columns: Columns) -> TableAudit:
    """The audit of a table with a row per patch or slide; images need not be there. name: for messages."""
    with TemporaryDirectory(dir=scratch) as folder:
        numbered = _numbered(rows, Path(folder) / Path(name).with_suffix(".csv").name)
        roles = {"label": columns.label, "patient": columns.patient, "attributes": columns.attributes}
        cohort = medi.read(numbered, kind="table", image="", **roles)
    if not (cohort.table["class"] != "").any():
        raise MediError(f"{name}: which column holds the class? choose it in the list")
    notes = tuple(note for note in cohort.info["notes"] if not note.startswith(("id from", "no column for id")))
    return TableAudit(cohort.audit(), notes)


def _numbered(rows: pd.DataFrame, path: Path) -> Path:
    """A copy of the table in which every row has an id of its own, whatever its columns repeat."""
    kept = rows.drop(columns=[name for name in rows if plain(str(name)) in NAMES["id"]])
    kept.assign(sample_id=[f"row {i}" for i in range(len(rows))]).to_csv(path, index=False)
    return path
