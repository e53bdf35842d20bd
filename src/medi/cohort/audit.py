"""How skewed a cohort is and which attribute gives the class away (the paper's Figure 2 and section 2).

`association` counts, `skill` grades; this module joins them into one result that shows itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from itertools import combinations as pairs_of
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.association import (
    ASSOCIATION,
    CONTINUOUS,
    GAPS,
    PAIRS,
    UNITS,
    Rows,
    associate,
    correlation_ratio,
    counts_table,
    frame,
    gaps_of,
    join,
    missingness,
    pair,
    tallied,
)
from medi.cohort.collecting import COLLECT, composing
from medi.cohort.discovery import DERIVED, note_on
from medi.cohort.identifiable import PARTS
from medi.cohort.patients import patients_unknown, too_few
from medi.cohort.schema import Schema
from medi.cohort.skill import People, Skill, skills
from medi.core.files import check_format, read_json, read_table, write_atomic, write_json, write_table
from medi.core.locks import holding
from medi.core.outputs import refuse_other
from medi.core.showing import Shown

FORMAT_VERSION = 2
SAME = 0.95  # 1 - H(a | b) / H(a) from which one attribute (nearly) determines another
CEILING = (
    *("attribute", "columns", "balanced_accuracy", "low", "high", "chance", "skill", "skill_low"),
    *("determination", "grade", "reason"),
)
FIRST = ("attribute", "levels", "empty", "rare", "cramers_v", "cramers_v_corrected", "nmi", "determination")
TABLES = ("counts", "gaps", "association", "ceiling", "missingness", "continuous", "pairs", "parts", "collect")
LATER = {"parts": PARTS, "collect": COLLECT}  # tables that version 0.1 did not write


@dataclass(frozen=True)
class Audit(Shown):
    """Tidy tables about a cohort; level is "" where it is not known.

    counts: by (class or the first attribute), group, attribute, level, patches, slides, patients;
    gaps: attribute, class, level, patches, patients, kind (empty or rare: fewer than five patients), identifiable
    (whether the seen combinations determine it, where class and attribute add up);
    association: attribute, unit, n, levels, cramers_v, cramers_v_corrected, nmi, determination (1 - H(class |
    attribute) / H(class)), single_class (share of n in levels of one class), reason;
    ceiling: attribute (or all together), columns (those in use), balanced_accuracy of unseen patients with its 95 %
    interval (low, high), chance, skill and skill_low (on the scale from chance, 0, to perfect, 1), determination (over
    patients, less what chance gives), grade, reason;
    missingness: attribute, class, n, missing, share;
    continuous: attribute, n, eta_squared, eta, reason;
    pairs: first, second, n, first_given_second, second_given_first (1 - H(a | b) / H(a)), reason;
    parts: attribute, part, classes, levels, level_count, class_count, seen, empty: the parts that share neither class
    nor level;
    collect: attribute, class, level, worth, gain_1, gain_2, gain_5, gain_10: the empty combinations that are most
    valuable to collect, see `medi.cohort.collecting`.

    >>> import medi
    >>> found = medi.phantom(patches=400, seed=0).audit()
    >>> found.title
    '400 patches, 46 slides, 37 patients, 4 classes'
    >>> found.grades()  # too few patients to be sure of anything
    {'site': 'none', 'group': 'none', 'all attributes': 'none'}
    """

    size: dict[str, Any]
    counts: pd.DataFrame
    gaps: pd.DataFrame
    association: pd.DataFrame
    ceiling: pd.DataFrame
    missingness: pd.DataFrame
    continuous: pd.DataFrame
    pairs: pd.DataFrame
    parts: pd.DataFrame
    collect: pd.DataFrame
    alarms: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name."""
        return {name: getattr(self, name) for name in TABLES}

    @property
    def title(self) -> str:
        """Patches, slides, patients and classes that were counted."""
        return ", ".join(f"{self.size[unit]:,} {unit}" for unit in ("patches", "slides", "patients", "classes"))

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes and cautions, and the alarms at the end, where they are not passed over."""
        return (*self.notes, *self.composing(), *self.cautions(), *(f"ALARM: {alarm}" for alarm in self.alarms))

    def to_frame(self) -> pd.DataFrame:
        """A row per attribute: its combinations with the class, its association, how far it gives the class away."""
        patches = self.association[self.association["unit"] == "patch"].set_index("attribute")
        gaps = pd.DataFrame(self.size["combinations"]).T.reindex(columns=["combinations", "empty", "rare"])
        joined = patches.join(gaps).reset_index()[list(FIRST)] if len(patches) else pd.DataFrame(columns=list(FIRST))
        ceiling = self.ceiling[["attribute", "balanced_accuracy", "low", "high", "chance", "grade"]]
        return joined.merge(ceiling, on="attribute", how="right")

    def figure(self) -> Any:
        """Patches per class and level of the first attribute, as a matplotlib figure (the paper's Figure 2, left)."""
        from medi.figures.audit import counts_map

        return counts_map(self.counts)

    def composing(self) -> list[str]:
        """Which empty combinations the seen ones determine, and what to collect first, a sentence per attribute."""
        return composing(self.size, self.parts, self.collect)

    def cautions(self) -> list[str]:
        """What the grades must not be taken for: that there are too few patients to grade an attribute well."""
        return [text for text in [too_few(self.size, self.grades())] if text]

    def grades(self) -> dict[str, str]:
        """How far each attribute, and all together, give the class away, in plain words."""
        return dict(zip(self.ceiling["attribute"], self.ceiling["grade"]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: everything but the long tables `counts` and `gaps`, which are Parquet beside it."""
        short = {name: table for name, table in self.tables.items() if name not in ("counts", "gaps")}
        records = {name: table.astype(object).where(table.notna(), None) for name, table in short.items()}
        head = {"format_version": FORMAT_VERSION, "size": self.size, "alarms": self.alarms, "notes": self.notes}
        return head | {name: table.to_dict("records") for name, table in records.items()}

    def summary(self) -> list[str]:
        """Short lines for a terminal."""
        gaps = [
            f"class x {name}: {found['combinations']:,} combinations, {found['empty']:,} empty, {found['rare']:,} rare"
            for name, found in self.size["combinations"].items()
        ]
        rows = [row for row in self.ceiling.to_dict("records") if not row["reason"]]
        return [self.title, *gaps, *map(_sentence, rows), *self.remarks]

    @holding("folder")
    def save(self, folder: str | Path) -> Path:
        """Write the tables as Parquet, counts.png and attributes.png, and, last, audit.json; refused is another audit's
        folder."""
        from medi.figures.audit import attribute_bars, counts_map

        folder = Path(folder)
        if (folder / "audit.json").exists():
            refuse_other(folder, "audit", read_json(folder / "audit.json"), self.to_dict())
        for name, table in self.tables.items():
            write_table(folder / f"{name}.parquet", table)
        for name, draw in (("counts", counts_map), ("attributes", attribute_bars)):
            figure = draw(self.counts)
            if figure is not None:
                write_atomic(folder / f"{name}.png", partial(figure.savefig, format="png", dpi=150))
        write_json(folder / "audit.json", self.to_dict())
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Audit":
        """The audit that `save` wrote to a folder."""
        head = read_json(Path(folder) / "audit.json")
        check_format(head.get("format_version"), FORMAT_VERSION, Path(folder) / "audit.json")
        paths = {name: Path(folder) / f"{name}.parquet" for name in TABLES}
        tables = {name: read_table(path) for name, path in paths.items() if name not in LATER or path.exists()}
        tables = {name: frame([], columns) for name, columns in LATER.items()} | tables
        tables["ceiling"] = _of_today(tables["ceiling"])
        return cls(head["size"], **tables, alarms=tuple(head["alarms"]), notes=tuple(head["notes"]))


def _of_today(ceiling: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns that version 0.1 did not write: not known."""
    text = {"columns", "grade"}
    lacking = [name for name in CEILING if name not in ceiling.columns]
    return ceiling.assign(**{name: "" if name in text else float("nan") for name in lacking})[list(CEILING)]


def audit(table: pd.DataFrame, schema: Schema, seed: int = 0) -> Audit:
    """Everything that the metadata of a cohort say about its bias; `seed` deals patients into folds and resamples.

    Rows whose level is not known are a level of their own in `counts` and in the ceiling, and are left out of
    association and pairs. Rows without a class are left out throughout. MediError where no row has a class.
    """
    data = Rows.of(table, schema)
    names = [a.name for a in schema.attributes if a.kind == "categorical"]
    numbers = [a.name for a in schema.attributes if a.kind == "continuous"]
    by_class = {name: tallied(data, ("class", name)) for name in names}
    gaps = [gaps_of(data, name, by_class[name]) for name in names]
    association = frame([associate(by_class[name], name, unit) for name in names for unit in UNITS], ASSOCIATION)
    pairs = frame([pair(data, first, second) for first, second in pairs_of(names, 2)], PAIRS)
    ceiling = frame(_ceilings(data, names, seed), CEILING)
    return Audit(
        size=data.size | {"combinations": {name: found.size for name, found in zip(names, gaps)}},
        counts=counts_table(data, by_class),
        gaps=join([found.listed for found in gaps], GAPS),
        association=association,
        ceiling=ceiling,
        missingness=missingness(data, schema),
        continuous=frame([correlation_ratio(data, name) for name in numbers], CONTINUOUS),
        pairs=pairs,
        parts=join([found.parts for found in gaps], PARTS),
        collect=join([found.collect for found in gaps if len(found.collect)], COLLECT),
        alarms=tuple(_alarms(association, ceiling)),
        notes=(*filter(None, [patients_unknown(table), _derived(schema, ceiling)]), *_notes(data, association, pairs)),
    )


def shortcut(whole: Audit, training: Audit) -> list[str]:
    """How far each attribute gives the class away in the training patches, beside the whole cohort; a line each."""
    before = {row["attribute"]: row for row in whole.ceiling.to_dict("records") if not row["reason"]}
    rows = [row for row in training.ceiling.to_dict("records") if not row["reason"]]
    return [f"{_sentence(row)}{_before(before.get(row['attribute']))}" for row in rows]


def _before(row: Mapping[Any, Any] | None) -> str:
    if row is None:
        return ""
    return f" (before the hold-out {row['balanced_accuracy']:.2f}: {row['grade']})"


def _ceilings(data: Rows, names: list[str], seed: int) -> list[dict[str, Any]]:
    """What the metadata alone say about the class, per attribute and for all together."""
    chance = 1 / data.size["classes"]
    reason = "only one class occurs" if chance == 1 else "only one patient" if data.size["patients"] < 2 else ""
    if reason or not names:
        return [{"attribute": name, "columns": name, "chance": chance, "grade": "", "reason": reason} for name in names]
    people = People.of({name: data.codes[name] for name in names}, data.codes["class"], data.codes["patient"], seed)
    return [_ceiling(name, found) for name, found in skills(people, names, seed).items()]


def _ceiling(name: str, found: Skill) -> dict[str, Any]:
    values = {field.name: getattr(found, field.name) for field in fields(found) if field.name in CEILING}
    shown = {"attribute": name, "columns": ", ".join(found.columns), "reason": ""}
    return values | shown | {"skill": found.skill, "skill_low": found.skill_low}


def _sentence(row: Mapping[Any, Any]) -> str:
    interval = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] == row["low"] else ""  # version 0.1 had none
    return (
        f"class from {row['attribute']}, without the image: balanced accuracy {row['balanced_accuracy']:.2f}"
        f"{interval} of patients (chance {row['chance']:.2f})" + (f": {row['grade']}" if row["grade"] else "")
    )


def _derived(schema: Schema, ceiling: pd.DataFrame) -> str:
    """What groups that were found in the images are, and how far they give the class away."""
    note = note_on(schema)
    rows = ceiling[(ceiling["attribute"] == DERIVED) & (ceiling["reason"] == "")].to_dict("records")
    return "; ".join([note, *map(_sentence, rows)]) if note else ""


def _alarms(association: pd.DataFrame, ceiling: pd.DataFrame) -> Iterator[str]:
    patches = association[association["unit"] == "patch"].set_index("attribute")
    for row in ceiling[(ceiling["grade"] == "alarm") & ceiling["attribute"].isin(patches.index)].to_dict("records"):
        name, found = row["attribute"], patches.loc[row["attribute"]]
        yield (
            f"{name} gives the class away: without the image the class of {row['balanced_accuracy']:.0%} of unseen "
            f"patients is right (chance {row['chance']:.0%}), 1 - H(class | {name}) / H(class) = "
            f"{found['determination']:.2f}, {found['single_class']:.0%} of the patches lie in levels of one class. "
            f"Nothing learned here can tell {name} from class: map its levels to coarser ones that span classes (site "
            "codes to hospitals) or leave it out"
        )


def _notes(data: Rows, association: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    if data.size["unlabelled"]:
        yield f"{data.size['unlabelled']:,} rows without a class are left out"
    patches = association[association["unit"] == "patch"]
    for row in patches[patches["reason"] != ""].to_dict("records"):
        yield f"{row['attribute']}: {row['reason']}, so that it says nothing about the class"
    for row in pairs.to_dict("records"):
        first, second = row["first"], row["second"]
        if min(row["first_given_second"], row["second_given_first"]) >= SAME:
            yield f"{first} and {second} cannot be told apart: each (nearly) determines the other"
        elif max(row["first_given_second"], row["second_given_first"]) >= SAME:
            fine, coarse = (second, first) if row["first_given_second"] >= SAME else (first, second)
            yield (
                f"{coarse} and {fine} cannot be told apart: each {fine} (nearly) belongs to one {coarse}, so that what "
                f"one of them does to an image may be the other's doing"
            )
