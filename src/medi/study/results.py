"""What a finished study found: results.json, the sheets of pictures, and the table that a person reads first."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medi import __version__
from medi.cohort import phantom
from medi.cohort.table import Cohort, concatenate, slides_in_turn
from medi.core.files import RESULTS_FORMAT, check_format, read_json, write_json, write_table
from medi.core.showing import Shown
from medi.core.tables import CONTROL, FIDELITY, MEMORISATION, UTILITY
from medi.report.page import build
from medi.report.pictures import figure_of
from medi.report.sheets import write_sheets
from medi.study.context import CLS, MEDI, MODELS, Study

FILE = "results.json"
LIBRARIES = ("torch", "diffusers", "numpy", "scikit-learn")
SPLITS = ("seen", "unseen")
NAMES = {"floor": "real against real", "real": "real only", CLS: "CLS", MEDI: "MeDi", "oracle": "oracle"}
PER_COMBINATION = 3  # patches of each source on the sheet

Scores = Mapping[str, Mapping[str, float | None]]  # split -> training set -> value, None where undefined


@dataclass(frozen=True)
class Results(Shown):
    """The figures of a finished study; tables, models, samples and report.html lie in its folder.

    balanced_accuracy: on test patches of seen and unseen combinations, by training set. frechet: mean Frechet distances
    over combinations, by model, beside the real-vs-real floor. as_asked: the share of images that show the attribute's
    level that was asked for. copy_rate: by model. gap_closed: (MeDi - real) / (oracle - real) on unseen combinations,
    None where the oracle gains nothing.

    >>> accuracy = {"seen": {"real": 0.9}, "unseen": {"real": 0.5, "medi": 0.75, "oracle": 1.0}}
    >>> found = Results(Path("run"), "A study", 0, accuracy, {}, {}, {}, gap_closed(accuracy["unseen"]))
    >>> found.title
    'A study, seed 0; gap closed on unseen combinations: 0.50'
    >>> float(found.to_frame().set_index("training set").loc["MeDi", "accuracy unseen"])
    0.75
    """

    folder: Path
    title_of_study: str
    seed: int
    balanced_accuracy: Scores
    frechet: Scores
    as_asked: Scores
    copy_rate: Mapping[str, float | None]
    gap_closed: float | None

    @classmethod
    def load(cls, folder: str | Path) -> "Results":
        """The results in a run folder, of this version or an older one; MediError where there are none."""
        path = Path(folder) / FILE
        content = read_json(path)
        check_format(content.get("format_version"), RESULTS_FORMAT, path)
        return cls(
            Path(folder),
            content["title"],
            content["seed"],
            content["balanced_accuracy"],
            content["frechet"],
            content["control"],
            content["copy_rate"],
            content["gap_closed"],
        )

    @property
    def title(self) -> str:
        gap = "undefined" if self.gap_closed is None else f"{self.gap_closed:.2f}"
        return f"{self.title_of_study}, seed {self.seed}; gap closed on unseen combinations: {gap}"

    @property
    def report(self) -> Path:
        """The page for a browser."""
        return self.folder / "report.html"

    def to_frame(self) -> pd.DataFrame:
        """Balanced accuracy and Frechet distance on seen and unseen combinations, a row per training set."""
        tables = {"accuracy": self.balanced_accuracy, "Frechet": self.frechet}
        columns = {
            f"{name} {split}": [_number(table.get(split, {}).get(arm)) for arm in NAMES]
            for name, table in tables.items()
            for split in SPLITS
        }
        return pd.DataFrame({"training set": list(NAMES.values()), **columns})

    def figure(self) -> Any:
        """Real patches beside those of both models, a row per level and a block per class: the report's picture."""
        return figure_of(self.folder)


def conclude(study: Study, seconds: Mapping[str, float]) -> Results:
    """results.json, the sheets of pictures and report.html, always written anew from what the stages left."""
    sets = study.sets()
    _sheet(study, sets).save(study.folder / "sheet")
    write_sheets(sets["reference"], sets[MEDI], study.settings.attribute, study.folder / "sheets")
    write_table(study.folder / "tables" / "training.parquet", _training_logs(study))
    write_json(study.folder / FILE, _content(study, seconds))
    build(study.folder)
    return Results.load(study.folder)


def gap_closed(accuracy: Mapping[str, float | None]) -> float | None:
    """(medi - real) / (oracle - real) on unseen combinations; None where the oracle gains nothing (P7)."""
    real, medi, oracle = (accuracy.get(name) for name in ("real", MEDI, "oracle"))
    if real is None or medi is None or oracle is None or not oracle > real:
        return None
    return (medi - real) / (oracle - real)


def pick(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The rows whose columns hold these values."""
    return table[np.logical_and.reduce([table[column] == value for column, value in wanted.items()])]


def _content(study: Study, seconds: Mapping[str, float]) -> dict[str, Any]:
    """What results.json holds."""
    s, extractor, tables = study.settings, study.encoder(), study.folder / "tables"
    accuracy = pick(UTILITY.read(tables), metric="balanced_accuracy", scope="all")
    distance = pick(FIDELITY.read(tables), metric="frechet", scope="combination_mean", encoder=extractor.label)
    asked = pick(CONTROL.read(tables), metric="as_asked", scope="all", attribute=s.attribute)
    copies = pick(MEMORISATION.read(tables), metric="copy_rate")
    measured = {
        name: {split: _by_arm(pick(table, split=split)) for split in SPLITS}
        for name, table in {"balanced_accuracy": accuracy, "frechet": distance}.items()
    }
    return {
        "format_version": RESULTS_FORMAT,
        "title": s.title,
        "seed": s.seed,
        "note": s.note,
        **measured,
        "gap_closed": gap_closed(measured["balanced_accuracy"]["unseen"]),
        "seconds": dict(seconds),
        "control": {str(split): _by_arm(rows) for split, rows in asked.groupby("split")},
        "copy_rate": _by_arm(copies),
        "encoder": {name: getattr(extractor, name) for name in ("name", "hash", "dimension", "licence")},
        "licences": {"data": s.cohort.licence} if s.cohort.licence else {},
        "phantom": "" if s.cohort.source else phantom.parameters_hash(),
        "versions": {"medi": __version__, "python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "settings": s.model_dump(mode="json"),
    }


def _by_arm(rows: pd.DataFrame) -> dict[str, float]:
    """Value by training set."""
    return dict(zip(rows["arm"], rows["value"].astype(float)))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _sheet(study: Study, sets: Mapping[str, Cohort]) -> Cohort:
    """A few real and synthetic patches of every combination, of as many slides, with a column `source`."""
    columns = ["sample_id", "patient", "slide", *study.over, "source"]
    schema = sets["reference"].schema.restrict([study.settings.attribute])
    parts = []
    for source, cohort in {"real": sets["reference"], MEDI: sets[MEDI], CLS: sets[CLS]}.items():
        order = slides_in_turn(cohort.table, study.over)
        first = cohort.table.iloc[order].groupby(list(study.over)).cumcount() < PER_COMBINATION
        part = cohort.with_columns(source=source, sample_id=source + ":" + cohort.table["sample_id"])
        chosen = part.select(order[first.to_numpy()])
        parts.append(Cohort(chosen.table[columns], schema, chosen.pixels))
    return concatenate(parts)


def _training_logs(study: Study) -> pd.DataFrame:
    paths = {model: study.folder / "models" / model / "log.jsonl" for model in MODELS}
    return pd.concat([pd.read_json(path, lines=True).assign(model=model) for model, path in paths.items()])
