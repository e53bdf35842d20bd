"""The page about a classifier that was shown other hospitals, from the tables that `medi stress` left."""

from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.table import Cohort
from medi.core.files import check_format, read_json, read_table, write_text
from medi.figures.names import interval, known, number, share
from medi.report.page import fill
from medi.report.parts import Cell, Picture, Section, table_of
from medi.report.pictures import view_figure

FORMAT_VERSION = 1
VIEWS = {"as is": "as it is", "back": "back at its own", "carried": "at another"}  # of a patch, as rows of a picture


def build(folder: Path) -> Path:
    """Write folder/stress.html."""
    results = read_json(folder / "results.json")
    check_format(results.get("format_version"), FORMAT_VERSION, folder / "results.json")
    table, worst = read_table(folder / "tables" / "stress.parquet"), Cohort.load(folder / "worst")
    attribute = results["attribute"]
    page = fill(
        title=f"{results['classifier']} under stress",
        asked=f"Does the classifier change its mind when only the {attribute} of a patch changes, its tissue kept?",
        cohort=f"{number(results['patches'])} patches, {number(results['carried'])} carried to another {attribute}",
        sentences=sentences(results, table),
        sections=[section(table, worst, attribute)],
    )
    return write_text(folder / "stress.html", page)


def section(table: pd.DataFrame, worst: Cohort, attribute: str) -> Section:
    """The audit as one section, for this page or within another report."""
    text = (
        f"Every patch is inverted to noise under its own {attribute} and rendered again under others by the diffusion "
        "model; the floor is the same without a change. A flip is another predicted class than for the patch as it is; "
        "the change of score is half the sum of absolute differences. Intervals resample slides."
    )
    blocks = [
        _grid(table, "flip_rate", "change", f"Share of patches that flip, per class and {attribute} they are shown at"),
        _grid(table, "flip_rate", "floor", "The same without a change: the floor"),
        _grid(table, "score_change", "change", f"Change of score, per class and {attribute} they are shown at"),
        _levels(table, attribute),
        *([_pairs(worst, attribute)] if len(worst) else []),
        table_of("All figures", table, open=False),
    ]
    return Section("stress", f"What does another {attribute} change?", [text], blocks=blocks)


def sentences(results: dict[str, Any], table: pd.DataFrame) -> list[str]:
    """What came out, in words."""
    attribute, figures = results["attribute"], results["figures"]
    change, floor = figures["flip_rate change"], figures["flip_rate floor"]
    found = [
        f"Shown at another {attribute}, {_share(change)} of the patches get another class; carried back to their own, "
        f"{_share(floor)} do: the noise of the method."
    ]
    cells = table[(table["metric"] == "flip_rate") & (table["kind"] == "change")]
    cells = cells[(cells["class"] != "") & (cells["level"] != "")].dropna(subset="value")
    if len(cells):
        worst = cells.iloc[int(cells["value"].argmax())]
        most = f"{share(worst['value'])} of {number(worst['n'])}"
        found.append(f"Most flips: {worst['class']} shown at {worst['level']}, {most}.")
    before, after = figures.get("accuracy as is"), figures.get("accuracy change")
    if before and after and known(before[0]) and known(after[0]):
        found.append(f"Accuracy is {number(before[0])} as they are and {number(after[0])} at another {attribute}.")
    return found


def _share(estimate: list[Any]) -> str:
    value, low, high = estimate
    return share(value) + interval(low, high, share)


def _grid(table: pd.DataFrame, metric: str, kind: str, title: str) -> Any:
    """A row per class, a column per level, each with its n."""
    rows = table[(table["metric"] == metric) & (table["kind"] == kind)]
    cells = rows.assign(cell=pd.Series([_cell(row) for row in rows.itertuples()], rows.index, dtype=object))
    cells = cells.replace({"class": {"": "all classes"}, "level": {"": "all levels"}})
    wide = cells.pivot(index="class", columns="level", values="cell").map(lambda c: c if isinstance(c, Cell) else "")
    return table_of(title, wide.rename_axis(None, axis=1).reset_index())


def _cell(row: Any) -> Cell:
    return Cell(f"{number(row.value)}{interval(row.low, row.high)} ({number(row.n)})", str(row.value), True)


def _levels(table: pd.DataFrame, attribute: str) -> Any:
    """Accuracy and calibration per level, as they are and carried."""
    rows = table[table["metric"].isin(["accuracy", "brier", "calibration_error"])]
    cells = rows.assign(cell=pd.Series([_cell(row) for row in rows.itertuples()], rows.index, dtype=object))
    wide = cells.pivot(index=["kind", "level"], columns="metric", values="cell").reset_index()
    wide = wide.replace({"level": {"": "all levels"}}).rename(columns={"level": attribute})
    return table_of(f"Accuracy and calibration per {attribute} that is shown", wide.rename_axis(None, axis=1))


def _pairs(worst: Cohort, attribute: str) -> Picture:
    """The largest changes: a column per pair, the patch as it is, back at its own level, and carried."""
    said = "; ".join(
        f"{row.source}: {row.predicted} {row.score} at {row.level}"
        for row in worst.table.rename(columns={attribute: "level"}).itertuples()
        if row.view == "carried"
    )
    count = len(worst) // len(VIEWS)
    return Picture(
        "The largest changes",
        view_figure(worst, VIEWS),
        f"{count} patches in three rows: as they are, back at their own {attribute}, and at another. Carried: {said}.",
        f"First row: the patch; second: inverted and rendered at its own {attribute}; third: at the {attribute} that "
        "changes the score most.",
        table_of("What the classifier says of them", worst.table, open=False),
    )
