"""What a classifier said of patches as they are and of the same patches at other levels, and the figures of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from medi.cohort.table import Cohort, slide_units
from medi.core.seeds import generator
from medi.evaluation.statistics import Estimate, cluster_bootstrap, confidence_bins
from medi.stress.classifiers import Scores

DRAWS = 1000
ALL = ""  # the class or level of a figure over all of them
UNKNOWN = "not known"  # the class or own level of a patch whose table does not say it
Row = dict[str, object]
FIRST = ("metric", "kind", "class", "level")


@dataclass(frozen=True)
class Asked:
    """What a classifier said: of n patches as they are (`before` [n, k]) and of m at a level (`after` [m, k]).

    Row i of these is patch `source[i]` translated, or made again; `own` marks those whose level is that of the patch.
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
    truth, level = asked.rows["class"].replace("", UNKNOWN).to_numpy(), asked.rows[attribute].to_numpy()
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
