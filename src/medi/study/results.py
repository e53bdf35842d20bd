"""What a finished study found: results.json, the sheets of pictures, and the table that a person reads first."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
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
from medi.core.tables import BY_ENCODER, CONTROL, FIDELITY, MEMORISATION, TRAINING, UTILITY, of_main_probe
from medi.core.threads import cores
from medi.evaluation.encoders import Encoder
from medi.report.page import build
from medi.report.pictures import figure_of
from medi.report.remedies import called, records, remedies
from medi.report.sections.by_encoder import spoken_by_encoder
from medi.report.sheets import write_sheets
from medi.report.verdict import OLDER, verdict, worst_class
from medi.study.context import CLS, MEDI, MODELS, Study
from medi.training.log import LOG, TIMED, LogRow, read_log

FILE = "results.json"
LIBRARIES = ("torch", "diffusers", "numpy", "scikit-learn")
SPLITS = ("seen", "unseen")
TEXT = ("arm", "needs")
HEADLINE = {  # columns of the table of remedies, and how they are called
    "arm": "training set",
    "needs": "needs",
    "value": "mean recall, all combinations",
    "low": "low",
    "high": "high",
    "unseen": "unseen",
    "seen": "seen",
    "worst_five": "five worst",
    "frechet": "Frechet, unseen",
}
PER_COMBINATION = 3  # patches of each source on the sheet

Scores = Mapping[str, Mapping[str, float | None]]  # split -> training set -> value, None where undefined
Remedies = Sequence[Mapping[str, str | float | None]]  # rows of `medi.report.remedies.remedies`


@dataclass(frozen=True)
class Results(Shown):
    """The figures of a finished study; tables, models, samples and report.html lie in its folder.

    verdict: what may be claimed, in sentences (`medi.report.verdict`). remedies: every training set under one head, as
    rows of the headline table. balanced_accuracy: on test patches of seen and unseen combinations, by training set.
    frechet: mean Frechet distances over combinations, by model, beside the real-vs-real floor. as_asked: the share of
    images that show the attribute's level that was asked for. copy_rate: by model. gap_closed: (MeDi - real) / (oracle
    - real) on unseen combinations, None where the oracle gains nothing.

    >>> rows = [{"arm": "real", "value": 0.7}, {"arm": "medi", "value": 0.8}]
    >>> found = Results(Path("run"), "A study", 0, ["No gain is claimed for MeDi."], rows)
    >>> found.title
    'A study, seed 0. No gain is claimed for MeDi.'
    >>> found.to_frame()["mean recall, all combinations"].tolist()
    [0.7, 0.8]
    """

    folder: Path
    title_of_study: str
    seed: int | None
    verdict: Sequence[str] = ()
    remedies: Remedies = ()
    balanced_accuracy: Scores = field(default_factory=dict)
    frechet: Scores = field(default_factory=dict)
    as_asked: Scores = field(default_factory=dict)
    copy_rate: Mapping[str, float | None] = field(default_factory=dict)
    gap_closed: float | None = None

    @classmethod
    def load(cls, folder: str | Path) -> "Results":
        """The results in a run folder, of this version or an older one; MediError where there are none."""
        path = Path(folder) / FILE
        content = read_json(path)
        check_format(content.get("format_version"), RESULTS_FORMAT, path)
        return cls(
            Path(folder),
            content["title"],
            content.get("seed"),
            content.get("verdict", [OLDER]),
            content.get("remedies", []),
            content["balanced_accuracy"],
            content["frechet"],
            content["control"],
            content["copy_rate"],
            content["gap_closed"],
        )

    @property
    def title(self) -> str:
        named = self.title_of_study if self.seed is None else f"{self.title_of_study}, seed {self.seed}"
        return f"{named}. {self.verdict[0] if self.verdict else ''}".strip()

    @property
    def report(self) -> Path:
        """The page for a browser."""
        return self.folder / "report.html"

    def to_frame(self) -> pd.DataFrame:
        """The headline table: a row per training set, with the primary endpoint and what stands beside it."""
        rows = pd.DataFrame(self.remedies or self._of_before()).reindex(columns=[*HEADLINE])
        rows["frechet"] = rows["arm"].map(self.frechet.get("unseen", {}))
        rows["arm"] = rows["arm"].map(called)
        numbers = [name for name in HEADLINE if name not in TEXT]
        return rows.astype(dict.fromkeys(numbers, float)).rename(columns=HEADLINE)

    def _of_before(self) -> Remedies:
        """The rows of a run of version 0.1, which knew balanced accuracies alone."""
        accuracies = {split: self.balanced_accuracy.get(split, {}) for split in SPLITS}
        arms = dict.fromkeys(arm for values in accuracies.values() for arm in values)
        return [{"arm": arm, **{split: values.get(arm) for split, values in accuracies.items()}} for arm in arms]

    def figure(self) -> Any:
        """Real patches beside those of both models, a row per level and a block per class: the report's picture."""
        return figure_of(self.folder)


def conclude(study: Study) -> Results:
    """results.json, the sheets of pictures and report.html, always written anew from what the stages left."""
    sets = study.sets()
    _sheet(study, sets).save(study.folder / "sheet")
    write_sheets(sets["reference"], sets[MEDI], study.settings.attribute, study.folder / "sheets")
    write_table(study.folder / "tables" / "training.parquet", _training_logs(study))
    write_json(study.folder / FILE, _content(study))
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


def _content(study: Study) -> dict[str, Any]:
    """What results.json holds."""
    s, extractor, tables = study.settings, study.encoder(), study.folder / "tables"
    utility, asked_of_all = UTILITY.read(tables), CONTROL.read(tables)
    distances = pick(FIDELITY.read(tables), encoder=extractor.label)
    accuracy = pick(utility, metric="balanced_accuracy", scope="all")
    distance = pick(distances, metric="frechet", scope="combination_mean")
    asked = pick(asked_of_all, metric="as_asked", scope="all", attribute=s.attribute, probe=TRAINING)
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
        "verdict": [*verdict(utility, asked_of_all, distances), *_by_encoder(tables)],
        "remedies": records(remedies(utility)),
        **measured,
        "gap_closed": gap_closed(measured["balanced_accuracy"]["unseen"]),
        "control": {str(split): _by_arm(rows) for split, rows in asked.groupby("split")},
        "as_asked": shares_as_asked(asked_of_all),
        "copy_rate": _by_arm(copies),
        "encoder": _facts(extractor),
        "by_encoder": [_in_features_of(study, name) for name in s.evaluation.encoders[1:]],
        "licences": ({"data": s.cohort.licence} if s.cohort.licence else {}) | _licences(study),
        "phantom": "" if s.cohort.source else phantom.parameters_hash(),
        "versions": {"medi": __version__, "python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
        "machine": {"processor": platform.machine(), "cores": cores(), "system": platform.system()},
        "settings": s.model_dump(mode="json"),
    }


def _by_encoder(tables: Path) -> list[str]:
    """What further encoders say, where there are any."""
    return spoken_by_encoder(BY_ENCODER.read(tables), FIDELITY.read(tables)) if BY_ENCODER.exists(tables) else []


def _facts(extractor: Encoder) -> dict[str, Any]:
    return {name: getattr(extractor, name) for name in ("name", "hash", "dimension", "licence")}


def _licences(study: Study) -> dict[str, str]:
    """The terms of the further encoders; those of the first stand with it."""
    return {f"encoder {name}": study.encoder(name).licence for name in study.settings.evaluation.encoders[1:]}


def _in_features_of(study: Study, name: str) -> dict[str, Any]:
    """The main figures in the features of a further encoder."""
    extractor, tables = study.encoder(name), study.folder / "tables"
    distances = pick(FIDELITY.read(tables), encoder=extractor.label, metric="frechet", scope="combination_mean")
    rows = pick(BY_ENCODER.read(tables), encoder=extractor.label)
    recall = pick(rows, metric="mean_recall", scope="all")
    return {
        "encoder": _facts(extractor),
        "frechet": {split: _by_arm(pick(distances, split=split)) for split in SPLITS},
        "mean_recall": {str(split): _by_arm(part) for split, part in recall.groupby("split", sort=False)},
        "as_asked": shares_as_asked(rows),
    }


def shares_as_asked(control: pd.DataFrame) -> dict[str, Any]:
    """By the probe that counts: the share as asked by attribute, split and arm; the worst class of MeDi's images."""
    rows = pick(of_main_probe(control), metric="as_asked", scope="all")
    shares = {
        str(name): {str(split): _by_arm(part) for split, part in own.groupby("split")}
        for name, own in rows.groupby("attribute", sort=False)
    }
    found = worst_class(control, MEDI)
    worst = {} if found is None else {"class": found[0], MEDI: vars(found[1]), "real": vars(found[2])}
    return {"probe": str(rows["probe"].iloc[0]) if len(rows) else "", **shares, "worst_class": worst}


def _by_arm(rows: pd.DataFrame) -> dict[str, float]:
    """Value by training set."""
    return dict(zip(rows["arm"], rows["value"].astype(float)))


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
    """The losses of both models, without what differs between two runs; of a model whose log is lost none."""
    folders = {model: study.folder / "models" / model for model in MODELS}
    return pd.concat([losses(folder).assign(model=model) for model, folder in folders.items()])


def losses(folder: Path) -> pd.DataFrame:
    """The log of a model without its speeds, as the table `training` holds it; no row where the log is lost."""
    rows = [asdict(row) for row in read_log(folder)] if (folder / LOG).exists() else []
    columns = [one.name for one in fields(LogRow) if one.name not in TIMED]
    return pd.DataFrame(rows, columns=columns).astype({"validation_loss": float})
