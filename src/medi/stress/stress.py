"""What does a classifier do when only the hospital changes? Its patches are translated to every level of an attribute.

They are translated back to their own as well: what changes there is the noise of the method, the floor.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort, slide_units
from medi.core.errors import MediError
from medi.core.files import STRESS_FORMAT, read_json, write_json, write_table
from medi.core.locks import holding
from medi.core.outputs import refuse_other
from medi.core.progress import Advance, unheard
from medi.core.seeds import generator
from medi.core.showing import Shown
from medi.evaluation.statistics import Estimate, cluster_bootstrap, confidence_bins
from medi.models.checkpoint import load_checkpoint
from medi.report.stress import build
from medi.sampling.transfer import TransferSettings, at_levels, transfer
from medi.stress.classifiers import Classifier, Scores

DRAWS = 1000
WORST = 12  # pairs shown
ALL = ""  # the class or level of a figure over all of them
Row = dict[str, object]
FIRST = ("metric", "kind", "class", "level")


@dataclass(frozen=True)
class Asked:
    """What a classifier said: n patches as they are (`before` [n, k]) and m translated ones (`after` [m, k]).

    Row i of these comes from patch `source[i]`; `own` marks patches translated to the level that they had.
    """

    classes: tuple[str, ...]
    table: pd.DataFrame
    before: Scores
    rows: pd.DataFrame
    after: Float64[np.ndarray, "m k"]
    source: Int64[np.ndarray, " m"]
    own: Bool[np.ndarray, " m"]

    @property
    def flips(self) -> Float64[np.ndarray, " m"]:
        """1 where the predicted class is another one than for the patch as it is."""
        return (self.after.argmax(axis=1) != self.before.argmax(axis=1)[self.source]).astype(np.float64)

    @property
    def changes(self) -> Float64[np.ndarray, " m"]:
        """Total variation of the scores: half the sum of their absolute differences, 0 to 1."""
        return np.abs(self.after - self.before[self.source]).sum(axis=1) / 2


def some_of(cohort: Cohort, most: int | None, seed: int) -> Cohort:
    """At most so many patches, drawn at random, in the cohort's order; all of them for None."""
    if most is None or most >= len(cohort):
        return cohort
    chosen = generator("stress", seed).permutation(len(cohort))[:most]
    chosen.sort()
    return cohort.select(chosen)


@dataclass(frozen=True)
class StressResults(Shown):
    """What `stress` found. table: the figures of `measure`; translated: the patches shown at another level."""

    classifier: str
    classes: tuple[str, ...]
    attribute: str
    levels: tuple[str, ...]
    patches: int
    translated: int
    table: pd.DataFrame

    @property
    def title(self) -> str:
        return f"{self.classifier}, {self.patches:,} patches at another {self.attribute}"

    def to_frame(self) -> pd.DataFrame:
        """The figures over all classes and levels."""
        whole = self.table[(self.table["class"] == ALL) & (self.table["level"] == ALL)]
        return whole[["metric", "kind", "value", "low", "high", "n", "n_slides", "reason"]].reset_index(drop=True)

    @property
    def figures(self) -> dict[str, tuple[float, float, float]]:
        """Value and interval by "<metric> <kind>", over all classes and levels."""
        table = self.to_frame()
        names = table["metric"] + " " + table["kind"]
        return dict(zip(names, table[["value", "low", "high"]].itertuples(index=False, name=None)))

    def save(self, folder: Path) -> Path:
        """Write results.json and tables/stress.parquet; returns the folder."""
        write_table(folder / "tables" / "stress.parquet", self.table)
        names = ("classifier", "classes", "attribute", "levels", "patches", "translated", "figures")
        content = {name: getattr(self, name) for name in names}
        write_json(folder / "results.json", {"format_version": STRESS_FORMAT} | content)
        return folder


@holding("out")
def stress(
    classifier: Classifier,
    model: str | Path,
    cohort: Cohort,
    attribute: str,
    levels: Sequence[str],
    out: str | Path,
    settings: TransferSettings | None = None,
    progress: Advance = unheard,
    seed: int = 0,
) -> StressResults:
    """Question a classifier on a packed cohort.

    Writes out/transferred (resumable), the tables, worst, results.json and stress.html. The classifier sees the patches
    first, so that one that raises or returns the wrong shape stops at once.
    """
    out, schema = Path(out), load_checkpoint(Path(model)).schema
    _refuse_another(out, {"classifier": classifier.name, "classes": classifier.classes, "attribute": attribute})
    before = classifier.probabilities(cohort.images[:])
    rows = _rows(cohort, schema, attribute, levels)
    made = transfer(Path(model), cohort, rows, out / "transferred", settings or TransferSettings(), progress)
    if made is None:
        raise MediError(f"{out}: other processes still transfer patches; run again when they have ended")
    source = pd.Index(cohort.table["sample_id"]).get_indexer(made.table["source"]).astype(np.int64)
    own = (made.table[attribute] == made.table["translated_from"]).to_numpy(dtype=bool)
    after = classifier.probabilities(made.images[:])
    asked = Asked(classifier.classes, cohort.table, before, made.table, after, source, own)
    shown = tuple(sorted(set(asked.rows[attribute])))
    sizes = len(asked.table), int((~asked.own).sum())
    table = measure(asked, attribute, seed)
    results = StressResults(classifier.name, classifier.classes, attribute, shown, *sizes, table)
    results.save(out)
    _worst(asked, cohort, made, attribute).save(out / "worst")
    build(out)
    return results


def _refuse_another(out: Path, asked: Mapping[str, object]) -> None:
    """Refuse to overwrite the results of another question."""
    if (out / "results.json").exists():
        old = read_json(out / "results.json")
        refuse_other(out, "stress test", {name: old.get(name) for name in asked}, asked)


def _rows(cohort: Cohort, schema: Schema, attribute: str, levels: Sequence[str]) -> pd.DataFrame:
    """Every patch at the wanted levels and at its own."""
    schema.attribute(attribute).encode(list(levels))
    if attribute not in cohort.table:
        raise MediError(f"the patches lack the column {attribute!r}: without their own level nothing can be inverted")
    every = [*levels, *sorted(set(cohort.table[attribute]) - set(levels))]
    rows = at_levels(cohort, schema, attribute, every, own=True)
    wanted = rows[attribute].isin(levels) | (rows[attribute] == rows["translated_from"])
    return rows[wanted].reset_index(drop=True)


# --- figures ----------------------------------------------------------------------------------------------------------


def measure(asked: Asked, attribute: str, seed: int) -> pd.DataFrame:
    """One tidy row per figure: metric, kind ("change", "floor" or "as is"), class, level ("" for all), value, low,
    high, n, n_slides, reason.

    "flip_rate" and "score_change" per class and level; "excess_flips", a patch's mean over other levels less its floor;
    "accuracy", "brier" and "calibration_error" per level that is shown, for patches whose class the classifier knows.
    Intervals are 95 %, from resampled slides; the calibration error (15 bins of equal width) has none.
    """
    found = [*_changes(asked, attribute, seed), _excess(asked, seed), *_calibration(asked, attribute, seed)]
    return pd.DataFrame(found)[[*FIRST, "value", "low", "high", "n", "n_slides", "reason"]]


def _changes(asked: Asked, attribute: str, seed: int) -> Iterator[Row]:
    truth, level = asked.rows["class"].to_numpy(), asked.rows[attribute].to_numpy()
    for kind, chosen in (("change", ~asked.own), ("floor", asked.own)):
        for class_, at in _groups(truth[chosen], level[chosen]):
            rows = chosen & (np.isin(truth, [class_]) | (class_ is ALL)) & (np.isin(level, [at]) | (at is ALL))
            place = {"kind": kind, "class": class_, "level": at}
            for metric, values in (("flip_rate", asked.flips), ("score_change", asked.changes)):
                yield {"metric": metric, **place} | _mean(asked.rows[rows], values[rows], seed)


def _groups(truth: np.ndarray, level: np.ndarray) -> list[tuple[str, str]]:
    """Everything, each class, each level, each class at each level."""
    classes, levels = sorted(set(truth)), sorted(set(level))
    return [
        (ALL, ALL),
        *[(c, ALL) for c in classes],
        *[(ALL, at) for at in levels],
        *sorted(set(zip(truth, level))),
    ]


def _excess(asked: Asked, seed: int) -> Row:
    n = len(asked.table)
    sums = {own: np.bincount(asked.source[asked.own == own], asked.flips[asked.own == own], n) for own in (True, False)}
    count = {own: np.bincount(asked.source[asked.own == own], minlength=n) for own in (True, False)}
    both = (count[True] > 0) & (count[False] > 0)
    value = sums[False][both] / count[False][both] - sums[True][both] / count[True][both]
    place = {"metric": "excess_flips", "kind": "change", "class": ALL, "level": ALL}
    return place | _mean(asked.table[both], value, seed)


def _calibration(asked: Asked, attribute: str, seed: int) -> Iterator[Row]:
    sets = [("as is", asked.table, asked.before)]
    sets += [(k, asked.rows[o], asked.after[o]) for k, o in (("change", ~asked.own), ("floor", asked.own))]
    for kind, table, scores in sets:
        known = table["class"].isin(asked.classes).to_numpy()
        for at in [ALL, *sorted(set(table[attribute][known]))]:
            chosen = known & (table[attribute].isin([at]).to_numpy() | (at == ALL))
            yield from _calibrated(asked, kind, at, table[chosen], scores[chosen], seed)


def _calibrated(asked: Asked, kind: str, level: str, table: pd.DataFrame, scores: Scores, seed: int) -> Iterator[Row]:
    truth = table["class"].map({name: i for i, name in enumerate(asked.classes)}).to_numpy(dtype=np.int64)
    right = (scores.argmax(axis=1) == truth).astype(np.float64)
    brier = ((scores - np.eye(len(asked.classes))[truth]) ** 2).sum(axis=1)
    place = {"kind": kind, "class": ALL, "level": level}
    yield {"metric": "accuracy", **place} | _mean(table, right, seed)
    yield {"metric": "brier", **place} | _mean(table, brier, seed)
    error = calibration_error(scores.max(axis=1, initial=0), right)
    yield {"metric": "calibration_error", **place} | _described(table, Estimate(error, reason=_few(len(table))))


def calibration_error(confidence: Float64[np.ndarray, " n"], right: Float64[np.ndarray, " n"]) -> float:
    """Expected calibration error (Guo et al., ICML 2017, equation 3), 15 bins of equal width; NaN without rows."""
    if not len(right):
        return float("nan")
    gap = np.bincount(confidence_bins(confidence), confidence - right)
    return float(np.abs(gap).sum() / len(right))


def _few(n: int) -> str:
    return "" if n else "no patch whose class the classifier knows"


def _mean(table: pd.DataFrame, values: Float64[np.ndarray, " n"], seed: int) -> Row:
    """The mean with an interval from resampled slides."""
    if not len(values):
        return _described(table, Estimate(float("nan"), reason="no patches"))
    found = cluster_bootstrap(
        _ratio, _slides(table), np.stack([values, np.ones(len(values))], axis=1), draws=DRAWS, key=("stress", seed)
    )
    return _described(table, found)


def _described(table: pd.DataFrame, found: Estimate) -> Row:
    return vars(found) | {"n": len(table), "n_slides": _slides(table).nunique()}


def _ratio(totals: Float64[np.ndarray, "draws 2"]) -> Float64[np.ndarray, " draws"]:
    with np.errstate(invalid="ignore"):
        return totals[:, 0] / totals[:, 1]


def _slides(table: pd.DataFrame) -> pd.Series:
    """What is resampled as one: the slide, or the patch itself where it is not known."""
    return slide_units(table, "source" if "source" in table else "sample_id")


# --- what is written --------------------------------------------------------------------------------------------------


def _worst(asked: Asked, cohort: Cohort, made: Cohort, attribute: str) -> Cohort:
    """The largest changes, one of a patch: three rows each, as it is, back at its own level, translated."""
    order = pd.Series([i for i in np.argsort(-asked.changes, kind="stable") if not asked.own[i]], dtype=np.int64)
    chosen = order[~pd.Series(asked.source[order]).duplicated()][:WORST]
    floor = {int(source): i for i, source in enumerate(asked.source) if asked.own[i]}
    table, images = [], []
    for pair, i in enumerate(chosen):
        source = int(asked.source[i])
        views = [("as is", cohort, source, asked.before[source])]
        views += [(what, made, at, asked.after[at]) for what, at in (("back", floor[source]), ("translated", i))]
        for what, where, at, scores in views:
            row = where.table.iloc[at]
            said = {"predicted": asked.classes[int(scores.argmax())], "score": f"{scores.max():.3f}"}
            kept = {name: row[name] for name in ("class", "patient", "slide", attribute)}
            named = {"sample_id": f"{pair} {what}", "pair": str(pair), "view": what}
            table.append(named | kept | said | {"source": cohort.table["sample_id"].iloc[source]})
            images.append(where.images[[at]][0])
    size = cohort.images.size
    pixels = Pixels.of(np.array(images, dtype=np.uint8).reshape(-1, size, size, 3))
    columns = ["sample_id", "pair", "view", "class", "patient", "slide", attribute, "predicted", "score", "source"]
    return Cohort(pd.DataFrame(table, columns=columns), made.schema.restrict([attribute]), pixels)
