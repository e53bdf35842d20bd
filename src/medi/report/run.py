"""What a run folder holds, as the sections of the page read it; several crossed attributes count as one joint level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.collecting import composing
from medi.cohort.patients import too_few
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import RESULTS_FORMAT, check_format, read_json, read_table
from medi.core.tables import RECOMMEND, RESULTS, ResultTable, of_main_probe
from medi.figures.names import in_order

PARTS = ("results.json", "audit/audit.json", "holdout/certificate.json", "tables", "sheet/cohort.json")
TABLES = ("training", RECOMMEND.name, *RESULTS)
AUDIT_TABLES = ("association", "ceiling", "missingness", "continuous", "pairs", "parts", "collect")
CROSS = " × "  # between the attributes, and between the levels, of a combination of several

Facts = Mapping[str, Any]  # names and values that the page lists as they are, nested ones too
Values = Mapping[str, float | None]  # a number per arm, None where it is undefined


@dataclass(frozen=True)
class Results:
    """results.json of a finished study. balanced_accuracy, frechet: split -> arm -> value, None where undefined."""

    finished: bool = False
    title: str = ""
    seed: int | None = None
    seeds: Sequence[int] = ()
    phantom: str = ""
    format_version: int = RESULTS_FORMAT
    balanced_accuracy: Mapping[str, Values] = field(default_factory=dict)
    frechet: Mapping[str, Values] = field(default_factory=dict)
    gap_closed: float | None = None
    seconds: Values = field(default_factory=dict)
    encoder: Facts = field(default_factory=dict)
    licences: Facts = field(default_factory=dict)
    settings: Facts = field(default_factory=dict)
    versions: Facts = field(default_factory=dict)
    machine: Facts = field(default_factory=dict)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Results":
        """From the content of results.json; keys that the page does not show are left out, null is a lacking key."""
        known = set(cls.__dataclass_fields__) & {name for name, value in content.items() if value is not None}
        return cls(**{name: content[name] for name in known}, finished=True) if content else cls()

    @classmethod
    def read(cls, path: Path) -> "Results":
        """From the file, or those of an unfinished study. MediError where the file's format is newer."""
        if not path.exists():
            return cls()
        content = read_json(path)
        check_format(content.get("format_version"), RESULTS_FORMAT, path)
        return cls.of({"seconds": _seconds(path.parent), **content})

    def accuracy(self, arm: str, split: str = "unseen") -> float | None:
        """Balanced accuracy of an arm."""
        return self.balanced_accuracy.get(split, {}).get(arm)

    def distance(self, arm: str, split: str = "unseen") -> float | None:
        """Mean Fréchet distance of an arm over combinations."""
        return self.frechet.get(split, {}).get(arm)


@dataclass(frozen=True)
class Audit:
    """audit/audit.json. size: unit -> how many; tables: name -> a table that is not empty; composing: which empty
    combinations the seen ones determine, a sentence per attribute."""

    found: bool = False
    size: Mapping[str, int] = field(default_factory=dict)
    alarms: Sequence[str] = ()
    notes: Sequence[str] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    composing: Sequence[str] = ()

    @classmethod
    def read(cls, path: Path) -> "Audit":
        """From the file, or an empty one."""
        if not path.exists():
            return cls()
        content = read_json(path)
        tables = {name: pd.DataFrame(content[name]) for name in AUDIT_TABLES if content.get(name)}
        size, graded = content.get("size", {}), content.get("ceiling", [])
        few = too_few(size, {row["attribute"]: row.get("grade") or "" for row in graded})
        notes = [*content.get("notes", []), *([few] if few else [])]
        none = pd.DataFrame(columns=["attribute"])
        told = composing(size, tables.get("parts", none), tables.get("collect", none))
        return cls(True, size, content.get("alarms", []), notes, tables, told)


@dataclass(frozen=True)
class Certificate:
    """holdout/certificate.json. held_out: the level of every column, of those chosen and those that lost all patients
    to them; counts: a row per split, a column per unit; facts: rule, seed and hashes."""

    found: bool = False
    columns: Sequence[str] = ("class", "site")
    held_out: Sequence[Mapping[str, str]] = ()
    counts: pd.DataFrame = field(default_factory=pd.DataFrame)
    facts: Facts = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Certificate":
        """From the file, or an empty one."""
        if not path.exists():
            return cls()
        content = read_json(path)
        columns = [str(name) for name in content.get("columns", cls.columns)]
        named = [*content.get("held_out", []), *content.get("emptied", [])]
        held_out = [one if isinstance(one, dict) else dict(zip(columns, map(str, one))) for one in named]
        units = {"rows": "patches", "slides": "slides", "patients": "patients"}
        counts = pd.DataFrame({name: content.get(unit, {}) for unit, name in units.items()})
        shown = {*units, "held_out", "emptied", "format_version", "leaks"}
        facts = {k: v for k, v in content.items() if k not in shown}
        for leak in content.get("leaks", []):  # whose they are is not for a page that is given away
            facts[f"{leak['unit']}s in {' and '.join(leak['sides'])}"] = len(leak["names"])
        return cls(True, columns, held_out, counts, facts)


@dataclass(frozen=True)
class Run:
    """A part that is not there yet is empty (tables, files) or None (cohorts of pictures)."""

    results: Results
    audit: Audit
    training_audit: Audit
    counts: pd.DataFrame
    certificate: Certificate
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
    by_encoder: pd.DataFrame = field(default_factory=pd.DataFrame)
    heads: pd.DataFrame = field(default_factory=pd.DataFrame)
    recommend: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def crossed(self) -> list[str]:
        """The attributes that are crossed with the class."""
        over = [name for name in self.certificate.columns if name != "class"]
        named = self.results.settings.get("attribute")
        return [str(named)] if named and len(over) <= 1 else over or ["site"]

    @property
    def attribute(self) -> str:
        """The name of the attribute that is crossed with the class: 'site', or 'site × scanner' for a joint one."""
        return CROSS.join(self.crossed)

    @property
    def sets(self) -> list[str]:
        """The sets of generated images that there are, CLS and MeDi first; both where nothing is measured yet."""
        measured = set(self.fidelity["arm"]) if len(self.fidelity) else set()
        shown = set(self.sheet.table["source"]) if self.sheet is not None else set()
        found = (measured or shown) - {"real", "floor"}
        return in_order(found) if found else ["cls", "medi"]

    @property
    def chance(self) -> float:
        """What guessing scores."""
        return 1 / max(self.utility.loc[self.utility["class"] != "", "class"].nunique(), 1)

    @property
    def chances(self) -> dict[str, float]:
        """What guessing scores on each split of the test patches."""
        rows = pick(self.utility, metric="chance")
        found = dict.fromkeys(self.utility["split"], self.chance) if len(self.utility) else {}
        return found | (dict(zip(rows["split"], rows["value"])) if len(rows) else {})

    @property
    def framed(self) -> set[tuple[str, str]]:
        """(class, level) of each held-out combination; a level held out as a whole counts for every class."""
        classes = sorted(set(self.counts.loc[self.counts["by"] == "class", "group"])) if len(self.counts) else []
        held = [(one, CROSS.join(one.get(name, "") for name in self.crossed)) for one in self.certificate.held_out]
        return {(name, level) for one, level in held for name in ([one["class"]] if "class" in one else classes)}

    @property
    def unseen(self) -> set[tuple[str, str]]:
        """(class, level) of each combination without a training patch: held out, or never there."""
        if self.fidelity.empty:
            return self.framed
        rows = self.fidelity[(self.fidelity["split"] == "unseen") & (self.fidelity["scope"] == "combination")]
        return self.framed | set(zip(rows["class"], rows[self.attribute]))

    @property
    def lacking(self) -> set[tuple[str, str]]:
        """Those of `unseen` that were not held out: no patch of the cohort is of them."""
        have = self.counts[self.counts["patches"] > 0] if len(self.counts) else pd.DataFrame(columns=["group", "level"])
        return self.unseen - self.framed - set(zip(have["group"], have["level"]))

    @property
    def tasks(self) -> list[str]:
        """The choices of classes that classifiers were compared on, the first the study's own."""
        return list(dict.fromkeys(self.utility["task"])) if "task" in self.utility else [""]

    def of_task(self, task: str) -> "Run":
        """The same run with the classifiers of one task."""
        utility, curves, heads = (_of_task(table, task) for table in (self.utility, self.curves, self.heads))
        return replace(self, utility=utility, curves=curves, heads=heads)

    def main(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of the study's own encoder and of the probe that counts, where a table has several."""
        table = of_main_probe(table)
        if table.empty or "encoder" not in table:
            return table
        named = str(self.results.encoder.get("name", ""))
        found = list(dict.fromkeys(table["encoder"]))
        chosen = next((name for name in found if named and name.startswith(named)), found[0])
        return table[table["encoder"] == chosen]


def _seconds(folder: Path) -> Values | None:
    """The time that each stage took, from the record of the run or its copy; version 0.1 kept it in results.json."""
    record = next((folder / name for name in ("run.json", ".run.json") if (folder / name).exists()), None)
    if record is None:
        return None
    return {name: stage["seconds"] for name, stage in read_json(record)["stages"].items() if "seconds" in stage}


def _of_task(table: pd.DataFrame, task: str) -> pd.DataFrame:
    return pick(table, task=task) if "task" in table else table


def pick(table: pd.DataFrame, **wanted: str | Sequence[str]) -> pd.DataFrame:
    """The rows whose columns hold these values; of an empty table nothing."""
    for column, values in wanted.items():
        if table.empty:
            return table
        table = table[table[column].isin([values] if isinstance(values, str) else list(values))]
    return table


def read(folder: Path) -> Run:
    """Everything that the page shows, from the files of a run folder, also of one that version 0.1 wrote.

    Raises MediError where it holds no result at all, or one of a newer format.
    """
    if not any((folder / part).exists() for part in PARTS):
        raise MediError(f"{folder}: no results of a study here (no results.json, no tables); run `medi run` first")
    run = Run(
        Results.read(folder / "results.json"),
        audit=Audit.read(folder / "audit" / "audit.json"),
        training_audit=Audit.read(folder / "audit-training" / "audit.json"),
        counts=_table(folder / "audit" / "counts.parquet"),
        certificate=Certificate.read(folder / "holdout" / "certificate.json"),
        training=_table(folder / "tables" / "training.parquet"),
        **{name: _result(kind, folder / "tables") for name, kind in RESULTS.items()},
        recommend=_result(RECOMMEND, folder / "tables"),
        sheet=_cohort(folder / "sheet"),
        pairs=_cohort(folder / "suspects"),
    )
    return _joined(run)


def _joined(run: Run) -> Run:
    """The run with the joint level of several crossed attributes as a column."""
    tables = {name: _with_level(getattr(run, name), run.crossed) for name in TABLES}
    sheet = run.sheet and Cohort(_with_level(run.sheet.table, run.crossed), run.sheet.schema, run.sheet.pixels)
    return replace(run, sheet=sheet, **tables)  # type: ignore[arg-type]  # a table per name of TABLES


def _with_level(table: pd.DataFrame, crossed: list[str]) -> pd.DataFrame:
    if len(crossed) < 2 or not set(crossed) <= set(table.columns):
        return table
    known = (table[crossed] != "").all(axis=1)
    return table.assign(**{CROSS.join(crossed): table[crossed].agg(CROSS.join, axis=1).where(known, "")})


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
