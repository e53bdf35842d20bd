"""What does a classifier do when only the hospital changes? Its patches are translated to every level of an attribute.

They are translated back to their own as well: what changes there is the noise of the method, the floor.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import STRESS_FORMAT, write_json, write_table
from medi.core.progress import Advance, unheard
from medi.core.seeds import generator
from medi.evaluation.statistics import Estimate, cluster_bootstrap, confidence_bins
from medi.models.checkpoint import load_checkpoint
from medi.report.stress import build
from medi.sampling.transfer import TransferSettings, at_levels, transfer
from medi.stress.classifiers import Classifier, Scores

DRAWS = 1000
WORST = 12  # pairs shown
FIRST = ("metric", "kind", "class", "level")


@dataclass(frozen=True)
class Shown:
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


def stress(
    classifier: Classifier,
    model: Path,
    cohort: Cohort,
    attribute: str,
    levels: Sequence[str],
    out: Path,
    settings: TransferSettings | None = None,
    progress: Advance = unheard,
    seed: int = 0,
) -> dict[str, Any]:
    """Question a classifier on a packed cohort; writes out/transferred (resumable), the tables, worst, results.json and
    stress.html, and returns the results.

    The classifier sees the patches first, so that one that raises or returns the wrong shape stops at once.
    """
    schema = load_checkpoint(model).schema
    before = classifier.probabilities(cohort.images[:])
    rows = _rows(cohort, schema, attribute, levels)
    made = transfer(model, cohort, rows, out / "transferred", settings or TransferSettings(), progress)
    if made is None:
        raise MediError(f"{out}: other processes still transfer patches; run again when they have ended")
    source = pd.Index(cohort.table["sample_id"]).get_indexer(made.table["source"]).astype(np.int64)
    own = (made.table[attribute] == made.table["translated_from"]).to_numpy(dtype=bool)
    after = classifier.probabilities(made.images[:])
    shown = Shown(classifier.classes, cohort.table, before, made.table, after, source, own)
    table = measure(shown, attribute, seed)
    write_table(out / "tables" / "stress.parquet", table)
    _worst(shown, cohort, made, attribute).save(out / "worst")
    results = _results(shown, table, classifier, attribute)
    write_json(out / "results.json", results)
    build(out)
    return results


def _rows(cohort: Cohort, schema: Any, attribute: str, levels: Sequence[str]) -> pd.DataFrame:
    """Every patch at the wanted levels and at its own."""
    schema.attribute(attribute).encode(list(levels))
    if attribute not in cohort.table:
        raise MediError(f"the patches lack the column {attribute!r}: without their own level nothing can be inverted")
    every = [*levels, *sorted(set(cohort.table[attribute]) - set(levels))]
    rows = at_levels(cohort, schema, attribute, every, own=True)
    wanted = rows[attribute].isin(levels) | (rows[attribute] == rows["translated_from"])
    return rows[wanted].reset_index(drop=True)


# --- figures ----------------------------------------------------------------------------------------------------------


def measure(shown: Shown, attribute: str, seed: int) -> pd.DataFrame:
    """One tidy row per figure: metric, kind ("change", "floor" or "as is"), class, level ("" for all), value, low,
    high, n, n_slides, reason.

    "flip_rate" and "score_change" per class and level; "excess_flips", a patch's mean over other levels less its floor;
    "accuracy", "brier" and "calibration_error" per level that is shown, for patches whose class the classifier knows.
    Intervals are 95 %, from resampled slides; the calibration error (15 bins of equal width) has none.
    """
    found = [*_changes(shown, attribute, seed), _excess(shown, seed), *_calibration(shown, attribute, seed)]
    return pd.DataFrame(found)[[*FIRST, "value", "low", "high", "n", "n_slides", "reason"]]


def _changes(shown: Shown, attribute: str, seed: int) -> Iterator[dict[str, Any]]:
    truth, level = shown.rows["class"].to_numpy(), shown.rows[attribute].to_numpy()
    for kind, chosen in (("change", ~shown.own), ("floor", shown.own)):
        for class_, at in _groups(truth[chosen], level[chosen]):
            rows = chosen & (np.isin(truth, [class_]) | (class_ is ALL)) & (np.isin(level, [at]) | (at is ALL))
            place = {"kind": kind, "class": class_, "level": at}
            for metric, values in (("flip_rate", shown.flips), ("score_change", shown.changes)):
                yield {"metric": metric, **place} | _mean(shown.rows[rows], values[rows], seed)


ALL = ""


def _groups(truth: np.ndarray, level: np.ndarray) -> list[tuple[str, str]]:
    """Everything, each class, each level, each class at each level."""
    classes, levels = sorted(set(truth)), sorted(set(level))
    return [
        (ALL, ALL),
        *[(c, ALL) for c in classes],
        *[(ALL, at) for at in levels],
        *sorted(set(zip(truth, level))),
    ]


def _excess(shown: Shown, seed: int) -> dict[str, Any]:
    n = len(shown.table)
    sums = {own: np.bincount(shown.source[shown.own == own], shown.flips[shown.own == own], n) for own in (True, False)}
    count = {own: np.bincount(shown.source[shown.own == own], minlength=n) for own in (True, False)}
    both = (count[True] > 0) & (count[False] > 0)
    value = sums[False][both] / count[False][both] - sums[True][both] / count[True][both]
    place = {"metric": "excess_flips", "kind": "change", "class": ALL, "level": ALL}
    return place | _mean(shown.table[both], value, seed)


def _calibration(shown: Shown, attribute: str, seed: int) -> Iterator[dict[str, Any]]:
    sets = [("as is", shown.table, shown.before)]
    sets += [(k, shown.rows[o], shown.after[o]) for k, o in (("change", ~shown.own), ("floor", shown.own))]
    for kind, table, scores in sets:
        known = table["class"].isin(shown.classes).to_numpy()
        for at in [ALL, *sorted(set(table[attribute][known]))]:
            chosen = known & (table[attribute].isin([at]).to_numpy() | (at == ALL))
            yield from _calibrated(shown, kind, at, table[chosen], scores[chosen], seed)


def _calibrated(
    shown: Shown, kind: str, level: str, table: pd.DataFrame, scores: Scores, seed: int
) -> Iterator[dict[str, Any]]:
    truth = table["class"].map({name: i for i, name in enumerate(shown.classes)}).to_numpy(dtype=np.int64)
    right = (scores.argmax(axis=1) == truth).astype(np.float64)
    brier = ((scores - np.eye(len(shown.classes))[truth]) ** 2).sum(axis=1)
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


def _mean(table: pd.DataFrame, values: Float64[np.ndarray, " n"], seed: int) -> dict[str, Any]:
    """The mean with an interval from resampled slides."""
    if not len(values):
        return _described(table, Estimate(float("nan"), reason="no patches"))
    found = cluster_bootstrap(
        _ratio, _slides(table), np.stack([values, np.ones(len(values))], axis=1), draws=DRAWS, key=("stress", seed)
    )
    return _described(table, found)


def _described(table: pd.DataFrame, found: Estimate) -> dict[str, Any]:
    return vars(found) | {"n": len(table), "n_slides": _slides(table).nunique()}


def _ratio(totals: Float64[np.ndarray, "draws 2"]) -> Float64[np.ndarray, " draws"]:
    with np.errstate(invalid="ignore"):
        return totals[:, 0] / totals[:, 1]


def _slides(table: pd.DataFrame) -> pd.Series:
    """What is resampled as one: the slide, or the patch itself where it is not known."""
    alone = table["source"] if "source" in table else table["sample_id"]
    return table["slide"].where(table["slide"] != "", alone)


# --- what is written --------------------------------------------------------------------------------------------------


def _worst(shown: Shown, cohort: Cohort, made: Cohort, attribute: str) -> Cohort:
    """The largest changes, one of a patch: three rows each, as it is, back at its own level, translated."""
    order = pd.Series([i for i in np.argsort(-shown.changes, kind="stable") if not shown.own[i]], dtype=np.int64)
    chosen = order[~pd.Series(shown.source[order]).duplicated()][:WORST]
    floor = {int(source): i for i, source in enumerate(shown.source) if shown.own[i]}
    table, images = [], []
    for pair, i in enumerate(chosen):
        source = int(shown.source[i])
        views = [("as is", cohort, source, shown.before[source])]
        views += [(what, made, at, shown.after[at]) for what, at in (("back", floor[source]), ("translated", i))]
        for what, where, at, scores in views:
            row = where.table.iloc[at]
            said = {"predicted": shown.classes[int(scores.argmax())], "score": f"{scores.max():.3f}"}
            kept = {name: row[name] for name in ("class", "patient", "slide", attribute)}
            named = {"sample_id": f"{pair} {what}", "pair": str(pair), "view": what}
            table.append(named | kept | said | {"source": cohort.table["sample_id"].iloc[source]})
            images.append(where.images[[at]][0])
    size = cohort.images.size
    pixels = Pixels.of(np.array(images, dtype=np.uint8).reshape(-1, size, size, 3))
    columns = ["sample_id", "pair", "view", "class", "patient", "slide", attribute, "predicted", "score", "source"]
    return Cohort(pd.DataFrame(table, columns=columns), made.schema.restrict([attribute]), pixels)


def _results(shown: Shown, table: pd.DataFrame, classifier: Classifier, attribute: str) -> dict[str, Any]:
    overall = table[(table["class"] == ALL) & (table["level"] == ALL)]
    figures = {f"{row.metric} {row.kind}": [row.value, row.low, row.high] for row in overall.itertuples()}
    head = {"format_version": STRESS_FORMAT, "classifier": classifier.name, "classes": list(classifier.classes)}
    sizes = {"patches": len(shown.table), "translated": int((~shown.own).sum())}
    return head | {"attribute": attribute, "levels": sorted(set(shown.rows[attribute]))} | sizes | {"figures": figures}
