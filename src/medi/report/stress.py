"""The page about a classifier that was shown other hospitals, from the tables that `medi stress` left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.table import Cohort
from medi.core.files import STRESS_FORMAT, check_format, read_json, read_table, write_text
from medi.figures.names import interval, known, number, share
from medi.report.page import fill
from medi.report.parts import Entry, Picture, Section, Table, table_of
from medi.report.pictures import view_figure

OLD_VIEWS = {"carried": "translated"}  # as version 0.1 wrote them
VIEWS = {"as is": "as it is", "back": "back at its own", "translated": "at another"}  # of a patch, as rows of a picture
ALL = {"class": {"": "all classes"}, "level": {"": "all levels"}}  # the words for rows over all of them
LARGEST = "The largest changes"
TRANSLATED = (
    "The diffusion model inverts every patch to noise under its own {attribute} and renders it again under others. The "
    "floor is the same without a change."
)
GIVEN = (
    "No image was read. Features of the same patches at another {attribute} were given: scanned or stained again, or "
    "translated elsewhere. That they show the same tissue is not checked here. The floor comes "
    "from features of patches that were made again at their own {attribute}. It says what changes without another "
    "{attribute}."
)


@dataclass(frozen=True)
class Stress:
    """results.json of `medi stress`. figures: "<metric> <kind>" -> value and its interval, None where undefined.

    changed: by level the features that were given, none where a model translated patches.
    """

    classifier: str
    attribute: str
    patches: int
    translated: int
    figures: Mapping[str, Sequence[float | None]]
    changed: Mapping[str, str]
    remarks: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> "Stress":
        """From the file, also of version 0.1. MediError where its format is newer."""
        content = read_json(path)
        check_format(content.get("format_version"), STRESS_FORMAT, path)
        translated = content["translated"] if "translated" in content else content["carried"]
        changed, remarks = content.get("changed", {}), content.get("remarks", ())
        names = content["classifier"], content["attribute"]
        return cls(*names, content["patches"], translated, content["figures"], changed, remarks)


def build(folder: Path) -> Path:
    """Write folder/stress.html."""
    results = Stress.read(folder / "results.json")
    table, worst = read_table(folder / "tables" / "stress.parquet"), Cohort.load(folder / "worst")
    attribute = results.attribute
    page = fill(
        title=f"{results.classifier} under stress",
        asked=f"Does the classifier change its mind when only the {attribute} of a patch changes and its tissue stays?",
        cohort=f"{number(results.patches)} patches, {_again(results)}",
        sentences=[*sentences(results, table), *results.remarks],
        sections=[section(table, worst, attribute, is_given=bool(results.changed))],
    )
    return write_text(folder / "stress.html", page)


def _again(results: Stress) -> str:
    """How many patches were shown at another level, and how they came there."""
    n, attribute = number(results.translated), results.attribute
    if not results.changed:
        return f"{n} translated to another {attribute}"
    files = ", ".join(f"{level} from {path}" for level, path in results.changed.items())
    return f"features of {n} at another {attribute} ({files})"


def section(table: pd.DataFrame, worst: Cohort, attribute: str, is_given: bool = False) -> Section:
    """The audit as one section, for this page or within another report. is_given: features of another program."""
    text = [
        GIVEN.format(attribute=attribute) if is_given else TRANSLATED.format(attribute=attribute),
        "A flip is another predicted class than for the patch as it is. The change of score is half the sum of "
        "absolute differences. Intervals resample slides.",
    ]
    shown_at = f"per class and {attribute} at which patches are shown"
    blocks: list[Table | Picture] = [
        _grid(table, "flip_rate", "change", f"Share of patches that flip, {shown_at}"),
        _grid(table, "flip_rate", "floor", "The floor: the share that flips without a change"),
        _grid(table, "score_change", "change", f"Change of score, {shown_at}"),
        _levels(table, attribute),
        *([_pairs(worst, attribute) if worst.pixels else table_of(LARGEST, worst.table)] if len(worst) else []),
        table_of("All figures", table, open=False),
    ]
    return Section("stress", f"What does another {attribute} change?", text, blocks=blocks)


def sentences(results: Stress, table: pd.DataFrame) -> list[str]:
    """What came out, in words."""
    attribute, figures = results.attribute, results.figures
    change, floor = figures["flip_rate change"], figures["flip_rate floor"]
    found = [f"Shown at another {attribute}, {_share(change)} of the patches get another class."]
    if known(floor[0]):
        back = "Made again at their own" if results.changed else "Translated back to their own"
        found[0] += f" {back}, {_share(floor)} do: this is the noise of the method."
    rows = table[(table["metric"] == "flip_rate") & (table["kind"] == "change")]
    rows = rows[(rows["class"] != "") & (rows["level"] != "")].dropna(subset="value")
    if len(rows):
        worst = rows.iloc[int(rows["value"].argmax())]
        place = f"{worst['class']} shown at {worst['level']}"
        found.append(f"The most flips are those of {place}: {share(worst['value'])} of {number(worst['n'])} patches.")
    before, after = figures.get("accuracy as is"), figures.get("accuracy change")
    if before and after and known(before[0]) and known(after[0]):
        found.append(
            f"Accuracy is {number(before[0])} on patches as they are and {number(after[0])} at another {attribute}."
        )
    return found


def _share(estimate: Sequence[float | None]) -> str:
    value, low, high = estimate
    return share(value) + interval(low, high, share)


def _grid(table: pd.DataFrame, metric: str, kind: str, title: str) -> Table:
    """A row per class, a column per level, each with its n."""
    rows = _with_entries(table[(table["metric"] == metric) & (table["kind"] == kind)]).replace(ALL)
    wide = rows.pivot(index="class", columns="level", values="entry")
    wide = wide.map(lambda found: found if isinstance(found, Entry) else "")
    return table_of(title, wide.rename_axis(None, axis=1).reset_index())


def _with_entries(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(entry=pd.Series([_entry(row) for row in rows.itertuples()], rows.index, dtype=object))


def _entry(row: Any) -> Entry:
    return Entry(f"{number(row.value)}{interval(row.low, row.high)} ({number(row.n)})", str(row.value), True)


def _levels(table: pd.DataFrame, attribute: str) -> Table:
    """Accuracy and calibration per level, of patches as they are and translated."""
    rows = _with_entries(table[table["metric"].isin(["accuracy", "brier", "calibration_error"])])
    wide = rows.pivot(index=["kind", "level"], columns="metric", values="entry").reset_index()
    wide = wide.replace({"level": ALL["level"]}).rename(columns={"level": attribute})
    return table_of(f"Accuracy and calibration per {attribute} that is shown", wide.rename_axis(None, axis=1))


def _pairs(worst: Cohort, attribute: str) -> Picture:
    """The largest changes: a column per patch as it is, back at its own level, and translated."""
    worst = worst.with_columns(view=worst.table["view"].replace(OLD_VIEWS))
    rows = worst.table.rename(columns={attribute: "level"})
    rows = rows[rows["view"] == "translated"]
    said = "; ".join(f"{row.source}: {row.predicted} {row.score} at {row.level}" for row in rows.itertuples())
    return Picture(
        LARGEST,
        view_figure(worst, VIEWS),
        f"{len(rows)} patches in three rows: as they are, back at their own {attribute}, and at another. "
        f"What the classifier says at the other {attribute}: {said}.",
        f"The first row shows the patch, the second the patch inverted and rendered at its own {attribute}. The third "
        f"shows it at the {attribute} that changes the score most.",
        table_of("What the classifier says of them", worst.table, open=False),
    )
