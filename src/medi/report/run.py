"""What a run folder holds, as the sections of the page read it; several crossed attributes count as one joint level."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import check_format, read_json, read_table
from medi.core.tables import RESULTS, ResultTable

FORMAT_VERSION = 1
PARTS = ("results.json", "audit/audit.json", "holdout/certificate.json", "tables", "sheet/cohort.json")
TABLES = ("training", *RESULTS)
CROSS = " × "  # between the attributes, and between the levels, of a combination of several


@dataclass(frozen=True)
class Run:
    """A part that is not there yet is empty (tables, dicts) or None (cohorts of pictures)."""

    results: dict[str, Any]
    audit: dict[str, Any]
    counts: pd.DataFrame
    certificate: dict[str, Any]
    training: pd.DataFrame
    fidelity: pd.DataFrame
    control: pd.DataFrame
    confusion: pd.DataFrame
    memorisation: pd.DataFrame
    suspects: pd.DataFrame
    utility: pd.DataFrame
    curves: pd.DataFrame
    sheet: Cohort | None
    pairs: Cohort | None

    @property
    def held_columns(self) -> list[str]:
        """The columns whose combinations the hold-out chose from."""
        return [str(name) for name in self.certificate.get("columns", ["class", "site"])]

    @property
    def crossed(self) -> list[str]:
        """The attributes that are crossed with the class."""
        over = [name for name in self.held_columns if name != "class"]
        named = self.results.get("settings", {}).get("attribute")
        return [str(named)] if named and len(over) <= 1 else over or ["site"]

    @property
    def attribute(self) -> str:
        """The name of the attribute that is crossed with the class: 'site', or 'site × scanner' for a joint one."""
        return CROSS.join(self.crossed)

    @property
    def chance(self) -> float:
        """What guessing scores."""
        return 1 / max(self.utility.loc[self.utility["class"] != "", "class"].nunique(), 1)

    @property
    def held_out(self) -> list[dict[str, str]]:
        """The combinations without a training patch: those chosen, and those that lost all patients to them."""
        found = [*self.certificate.get("held_out", []), *self.certificate.get("emptied", [])]
        return [cell if isinstance(cell, dict) else dict(zip(self.held_columns, map(str, cell))) for cell in found]

    @property
    def framed(self) -> set[tuple[str, str]]:
        """(class, level) of each held-out combination; a level held out as a whole counts for every class."""
        classes = sorted(set(self.counts.loc[self.counts["by"] == "class", "group"])) if len(self.counts) else []
        held = [(cell, CROSS.join(cell.get(name, "") for name in self.crossed)) for cell in self.held_out]
        return {(name, level) for cell, level in held for name in ([cell["class"]] if "class" in cell else classes)}

    @property
    def unseen(self) -> set[tuple[str, str]]:
        """(class, level) of each combination without a training patch: held out, or never there."""
        if self.fidelity.empty:
            return self.framed
        rows = self.fidelity[(self.fidelity["split"] == "unseen") & (self.fidelity["scope"] == "combination")]
        return self.framed | set(zip(rows["class"], rows[self.attribute]))

    @property
    def tasks(self) -> list[str]:
        """The choices of classes that classifiers were compared on, the first the study's own."""
        return list(dict.fromkeys(self.utility["task"])) if "task" in self.utility else [""]

    def of_task(self, task: str) -> "Run":
        """The same run with the classifiers of one task."""
        tables = {name: getattr(self, name) for name in ("utility", "curves")}
        chosen: dict[str, Any] = {name: pick(t, task=task) for name, t in tables.items() if "task" in t}
        return replace(self, **chosen)

    def main(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of the study's own encoder, where a table was measured by several."""
        if table.empty or "encoder" not in table:
            return table
        named = str(self.results.get("encoder", {}).get("name", ""))
        found = list(dict.fromkeys(table["encoder"]))
        chosen = next((name for name in found if named and name.startswith(named)), found[0])
        return table[table["encoder"] == chosen]


def pick(table: pd.DataFrame, **wanted: str | Sequence[str]) -> pd.DataFrame:
    """The rows whose columns hold these values; of an empty table nothing."""
    for column, values in wanted.items():
        if table.empty:
            return table
        table = table[table[column].isin([values] if isinstance(values, str) else list(values))]
    return table


def read(folder: Path) -> Run:
    """Everything that the page shows, from the files of a run folder.

    Raises MediError where it holds no result at all, or one of a newer format.
    """
    if not any((folder / part).exists() for part in PARTS):
        raise MediError(f"{folder}: no results of a study here (no results.json, no tables); run `medi run` first")
    results = _json(folder / "results.json")
    if results:
        check_format(results.get("format_version"), FORMAT_VERSION, folder / "results.json")
    run = Run(
        results,
        audit=_json(folder / "audit" / "audit.json"),
        counts=_table(folder / "audit" / "counts.parquet"),
        certificate=_json(folder / "holdout" / "certificate.json"),
        training=_table(folder / "tables" / "training.parquet"),
        **{name: _result(kind, folder / "tables") for name, kind in RESULTS.items()},
        sheet=_cohort(folder / "sheet"),
        pairs=_cohort(folder / "suspects"),
    )
    return _joined(run)


def _joined(run: Run) -> Run:
    """The run with the joint level of several crossed attributes as a column."""
    tables: dict[str, Any] = {name: _with_level(getattr(run, name), run.crossed) for name in TABLES}
    sheet = run.sheet and Cohort(_with_level(run.sheet.table, run.crossed), run.sheet.schema, run.sheet.pixels)
    return replace(run, sheet=sheet, **tables)


def _with_level(table: pd.DataFrame, crossed: list[str]) -> pd.DataFrame:
    if len(crossed) < 2 or not set(crossed) <= set(table.columns):
        return table
    known = (table[crossed] != "").all(axis=1)
    return table.assign(**{CROSS.join(crossed): table[crossed].agg(CROSS.join, axis=1).where(known, "")})


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _result(kind: ResultTable, folder: Path) -> pd.DataFrame:
    """A result table as those of today are, or an empty one."""
    return kind.read(folder) if kind.exists(folder) else pd.DataFrame()


def _table(path: Path) -> pd.DataFrame:
    """A table with "" for unknown text, or an empty one where it has not been written yet."""
    if not path.exists():
        return pd.DataFrame()
    table = read_table(path)
    return table.fillna({name: "" for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])})


def _cohort(folder: Path) -> Cohort | None:
    return Cohort.load(folder) if (folder / "cohort.json").exists() else None
