"""The report of a study that was done verb by verb: its parts are brought together in a folder like that of a run.

What was not measured is left out, and the page says so in its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from medi import __version__
from medi.cohort.holdout import Holdout
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort, concatenate, slides_in_turn
from medi.core.errors import MediError
from medi.core.files import RESULTS_FORMAT, write_json, write_table
from medi.core.locks import holding, is_empty
from medi.core.requests import cohort_hash, request_of
from medi.core.tables import CONTROL, FIDELITY, MEMORISATION, RESULTS, TRAINING, UTILITY
from medi.evaluation.splits import TESTS
from medi.models.checkpoint import load_checkpoint
from medi.report.page import build
from medi.report.remedies import records, remedies
from medi.report.verdict import verdict
from medi.study.context import CHECKPOINT
from medi.study.results import FILE, PER_COMBINATION, SPLITS, gap_closed, losses, pick, shares_as_asked
from medi.training.log import LOG

REAL = "real"
SHARED_COLUMNS = ("sample_id", "patient", "slide")


@dataclass(frozen=True)
class Parts:
    """What a study left: the packed real cohort, sampled ones by name, the folders of `medi fidelity` and `utility`."""

    real: Path
    samples: Mapping[str, Path] = field(default_factory=dict)
    fidelity: Path | None = None
    utility: Path | None = None


@holding("out")
def assemble(parts: Parts, out: Path) -> Path:
    """Write the parts and the page to the folder `out`; returns the page.

    MediError where `out` holds something else, and where tables and sets do not belong together.
    """
    if (out / "run.json").exists() or (not is_empty(out) and not (out / FILE).exists()):
        raise MediError(f"{out}: holds something else; choose another --out")
    cohort = Cohort.load(parts.real)
    sets = {name: Cohort.load(folder) for name, folder in parts.samples.items()}
    tables = dict(_tables(parts))
    _check(tables, sets, parts)
    over = _over(cohort, tables)
    for name, part in sets.items():
        if over[1] not in part.table:
            raise MediError(f"{parts.samples[name]}: has no column {over[1]}; sample again from a plan of this cohort")
    cohort.audit().save(out / "audit")
    if "certificate" in cohort.info:
        Holdout(cohort.table[["sample_id", "split"]], cohort.info["certificate"]).save(out / "holdout")
    for name, table in tables.items():
        RESULTS[name].write(out / "tables", table)
    _write_pictures(cohort, sets, over, parts, out)
    _write_logs(sets, parts.samples, out)
    write_json(out / FILE, _content(parts, over, tables))
    return build(out)


def _tables(parts: Parts) -> Iterable[tuple[str, pd.DataFrame]]:
    for folder, names in {
        parts.fidelity: ("fidelity", "control", "confusion", "memorisation", "suspects"),
        parts.utility: ("utility", "curves", "heads"),
    }.items():
        if folder is None:
            continue
        if not RESULTS[names[0]].exists(folder):
            raise MediError(f"{folder}: has no table {names[0]}.parquet; name the folder that `medi {names[0]}` wrote")
        yield from ((name, RESULTS[name].read(folder)) for name in names if RESULTS[name].exists(folder))


def _check(tables: Mapping[str, pd.DataFrame], sets: Iterable[str], parts: Parts) -> None:
    """The sets by name are those that were measured."""
    for name, folder in {"fidelity": parts.fidelity, "utility": parts.utility}.items():
        measured = list(dict.fromkeys(tables[name]["arm"])) if name in tables else list(sets)
        if unknown := [one for one in sets if one not in measured]:
            raise MediError(f"{folder}: knows no set {unknown[0]!r}; it was measured with {', '.join(measured)}")
        if folder is not None:
            _check_request(folder, {REAL: parts.real, **parts.samples})
    asked = [request_of(folder).get("over") for folder in (parts.fidelity, parts.utility) if folder is not None]
    if len({str(over) for over in asked if over is not None}) > 1:
        raise MediError(f"{parts.fidelity} and {parts.utility}: were measured with another --over; measure one again")


def _check_request(folder: Path, cohorts: Mapping[str, Path]) -> None:
    """The cohorts are those that the tables of a folder were measured on."""
    asked = request_of(folder)
    for name, cohort in cohorts.items():
        if asked.get(name, "") not in ("", cohort_hash(cohort)):
            raise MediError(f"{folder}: was measured on another cohort than {cohort}; name that one, or measure again")


def _over(cohort: Cohort, tables: Mapping[str, pd.DataFrame]) -> tuple[str, str]:
    """The class, and the attribute that the study is about: that of the hold-out, of the tables, or the first."""
    names = [a.name for a in cohort.schema.attributes if a.kind == "categorical"]
    distances = tables.get(FIDELITY.name)
    measured = [name for name in names if distances is None or name in distances.columns]
    if not measured:
        lacking = "the real cohort has no attribute" if not names else f"distances were measured without {names[0]}"
        raise MediError(f"{lacking}; a report compares the levels of one: measure again with --over class,ATTRIBUTE")
    certified = [name for name in cohort.info.get("certificate", {}).get("columns", []) if name in measured]
    return ("class", [*certified, *measured][0])


def _content(parts: Parts, over: tuple[str, str], tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What results.json holds of such a study."""
    attribute, empty = over[1], pd.DataFrame()
    fidelity = tables.get(FIDELITY.name, empty)
    label = str(fidelity["encoder"].iloc[0]) if len(fidelity) else ""
    utility, control = _first_task(tables.get(UTILITY.name, empty)), tables.get(CONTROL.name, empty)
    accuracy = _rows(utility, metric="balanced_accuracy", scope="all")
    distances = _rows(fidelity, encoder=label)
    distance = _rows(distances, metric="frechet", scope="combination_mean")
    asked = _rows(control, metric="as_asked", scope="all", attribute=attribute, probe=TRAINING)
    unseen = _by_split(accuracy).get("unseen", {})
    return {
        "format_version": RESULTS_FORMAT,
        "title": f"A study of {parts.real.name}, verb by verb",
        "verdict": verdict(utility, control, distances),
        "remedies": records(remedies(utility)),
        "balanced_accuracy": _by_split(accuracy),
        "frechet": _by_split(distance),
        "gap_closed": gap_closed(unseen),
        "control": _by_split(asked),
        "as_asked": shares_as_asked(control) if len(control) else {},
        "copy_rate": _by_arm(_rows(tables.get(MEMORISATION.name, empty), metric="copy_rate")),
        "encoder": {"name": label} if label else {},
        "versions": {"medi": __version__},
        "settings": {"attribute": attribute},
    }


def _rows(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The rows with these values, also of a table that is not there."""
    return pick(table, **wanted) if len(table) else table


def _first_task(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["task"] == rows["task"].iloc[0]] if len(rows) and "task" in rows else rows


def _by_split(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {split: _by_arm(pick(rows, split=split)) for split in SPLITS} if len(rows) else {}


def _by_arm(rows: pd.DataFrame) -> dict[str, float]:
    return dict(zip(rows["arm"], rows["value"].astype(float))) if len(rows) else {}


def _write_pictures(cohort: Cohort, sets: Mapping[str, Cohort], over: tuple[str, str], parts: Parts, out: Path) -> None:
    """The sheet of real and sampled patches, and the pairs that are most alike."""
    tests = cohort.where(split=TESTS) if "split" in cohort.table else cohort
    shown = {REAL: tests if len(tests) else cohort, **sets}
    if sets and all(part.pixels is not None for part in shown.values()):
        concatenate([_few(name, part, over, cohort.schema) for name, part in shown.items()]).save(out / "sheet")
    suspects = parts.fidelity and parts.fidelity / "suspects"
    if suspects and (suspects / "cohort.json").exists():
        Cohort.load(suspects).save(out / "suspects")


def _few(source: str, cohort: Cohort, over: Sequence[str], schema: Schema) -> Cohort:
    """A few patches of every combination, of as many slides as there are, with a column `source`."""
    order = slides_in_turn(cohort.table, over)
    first = cohort.table.iloc[order].groupby(list(over)).cumcount() < PER_COMBINATION
    named = cohort.with_columns(source=source, sample_id=source + ":" + cohort.table["sample_id"])
    chosen = named.select(order[first.to_numpy()])
    table = chosen.table[[*SHARED_COLUMNS, *over, "source"]]
    return Cohort(table, schema.restrict(over[1:]), chosen.pixels)


def _write_logs(sets: Mapping[str, Cohort], folders: Mapping[str, Path], out: Path) -> None:
    """The logs of the models that lie beside their samples, found by the hash that these carry."""
    logs = []
    for name, cohort in sets.items():
        for model in sorted(folders[name].resolve().parent.glob(f"*/{CHECKPOINT}")):
            if model.with_name(LOG).exists() and load_checkpoint(model).hash == cohort.info.get("model"):
                logs.append(losses(model.parent).assign(model=name))
    (out / "tables" / "training.parquet").unlink(missing_ok=True)
    if logs:
        write_table(out / "tables" / "training.parquet", pd.concat(logs))
