"""The scores of all arms on one test split as tidy rows: figures, paired differences, how much of the gap is closed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from medi.cohort.table import slide_units
from medi.core.seeds import Key
from medi.core.set_names import parts_of
from medi.core.tables import DIFFERENCE
from medi.evaluation.classify.probes import Labels, codes, groups, text
from medi.evaluation.classify.scores import (
    BALANCED_ACCURACY,
    DRAWS,
    MEAN_RECALL,
    OVERALL,
    Answers,
    Figures,
    Measure,
    demographic_parity_gap,
    equalised_odds_gap,
    mean_recall,
    recalls,
    site_readability,
    tallies,
)
from medi.evaluation.features import placed, unplaced
from medi.evaluation.statistics import Estimate, Statistic, Values, cluster_draws, interval, p_value

REAL, MEDI, CLS, ORACLE = "real", "medi", "cls", "oracle"
EVERY = "all"  # the split of all test patches, seen and unseen combinations alike: there lies the primary endpoint
CHANCE = "chance"  # metric and arm of what guessing reaches
NO_READABILITY = "no class has two sites with two patients each, and more patches than sites"
RECALL = Measure("recall", recalls, mean_recall)
Row = dict[str, object]
Rows = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Scorer:
    """answers: what each arm's probes said of the rows of `table`; missing: what an arm's training set lacks."""

    split: str
    table: pd.DataFrame
    answers: Mapping[str, Answers]
    missing: Mapping[str, str]
    seed: int
    over: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    pairs: Sequence[tuple[str, str]] = ()
    cache: dict[tuple[str, str], Values] = field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        for measure in OVERALL:
            yield from self._figures(measure, "all", {}, self._rows_of(measure))
        for column in (*self.places, *self.attributes):
            yield from self._fairness(column)
        yield from self._levels()
        if self.places:
            yield from self._readability()
        for measure in OVERALL:
            yield from self._differences(measure)
        if self.split == "unseen" and {REAL, ORACLE} <= set(self.answers):
            yield from self._gaps_closed()
        yield self._chance()

    def overall(self) -> Iterator[Row]:
        """Over all rows alone: every measure, the paired differences, and chance."""
        for measure in OVERALL:
            yield from self._figures(measure, "all", {}, self._rows_of(measure))
            yield from self._differences(measure)
        yield self._chance()

    def _chance(self) -> Row:
        """What the best rule reaches that sees no image, only the columns beside the class.

        One over the number of classes where every class is tested at every level. Where combinations lack test patches,
        such a rule is right at each level for one of the classes that are left there.
        """
        found, known = Estimate(1 / self.table["class"].nunique()), self.table[self._placed]
        if self.places and self.split == EVERY and len(known):
            levels, combinations = (codes(known, names).max() + 1 for names in (self.places, self.over))
            found = Estimate(max(found.value, levels / combinations))
            if combinations < levels * self.table["class"].nunique():
                names = " and ".join(self.places)
                found = found.noting(f"not all combinations have test patches; this is what {names} alone can reach")
        return self._row(CHANCE, CHANCE, "all", {}, self._everything, found)

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(column for column in self.over if column != "class")

    @property
    def _everything(self) -> Rows:
        return np.ones(len(self.table), dtype=bool)

    @cached_property
    def _placed(self) -> Rows:
        """The rows that belong to a combination."""
        return placed(self.table, self.over)

    def _rows_of(self, measure: Measure) -> Rows:
        """The rows that a measure over all of them is of."""
        return self._placed if measure.grouped else self._everything

    @cached_property
    def _slides(self) -> Labels:
        return text(slide_units(self.table))

    @cached_property
    def _owners(self) -> Labels:
        return text(groups(self.table))

    def _levels(self) -> Iterator[Row]:
        """Within each level of each column, and each combination."""
        for column in self.over:
            measure = RECALL if column == "class" else BALANCED_ACCURACY
            for labels, rows in _groups(self.table, [column]):
                yield from self._figures(measure, column, labels, rows)
        if self.places:
            for labels, rows in _groups(self.table, self.over):
                yield from self._figures(RECALL, "combination", labels, rows)

    def _fairness(self, column: str) -> Iterator[Row]:
        """Gaps between the levels of a column, rows without one aside."""
        known = (self.table[column] != "").to_numpy(dtype=bool)
        levels = codes(self.table[known], [column])
        for gap in (equalised_odds_gap, demographic_parity_gap):
            yield from self._figures(gap(levels), column, {}, known)

    def _figures(self, measure: Measure, scope: str, labels: dict[str, str], rows: Rows) -> Iterator[Row]:
        classes = sorted(set(self.table["class"][rows]))
        for arm in self.answers:
            if measure.name != "recall" and len(classes) < 2:
                name = measure.name.replace("_", " ")
                why = f"{len(classes)} class ({', '.join(classes)}): no {name}" if classes else ""
                found = Estimate(np.nan, reason=why).noting(self._left_out(measure))
            else:
                found, _ = self._estimate(measure, measure.statistic, rows, [arm], tuple(labels.values()))
            yield self._row(measure.name, arm, scope, labels, rows, found)

    def _differences(self, measure: Measure) -> Iterator[Row]:
        """One arm less another, with a p-value; none of the worst combinations, which are others in each arm."""
        for pair in [] if measure.extreme else self.pairs:
            rows = self._rows_of(measure)
            found, draws = self._estimate(measure, measure.minus(), rows, pair)
            row = self._row(f"{measure.name}{DIFFERENCE}", pair[0], "all", {}, rows, found)
            yield row | {"against": pair[1], "p_value": p_value(draws, groups(self.table)[rows].nunique())}

    def _gaps_closed(self) -> Iterator[Row]:
        measure, rows = BALANCED_ACCURACY, self._everything
        gap, _ = self._estimate(measure, measure.minus(), rows, [ORACLE, REAL])
        for arm in [arm for arm in self.answers if arm not in (REAL, ORACLE)]:
            if gap.low > 0:
                found, _ = self._estimate(measure, _gap_closed, rows, [arm, REAL, ORACLE])
            else:
                found = Estimate(np.nan, reason=f"{ORACLE} - {REAL} = {gap.value:.3f} is not clearly above 0")
            yield self._row("gap_closed", arm, "all", {}, rows, found.noting(gap.reason))

    def _readability(self) -> Iterator[Row]:
        """How well the site can be read from the scores, classes and sites alike."""
        for arm, answers in self.answers.items():
            hits = np.full(len(self.table), np.nan)
            if _is_whole(answers):
                hits = site_readability(answers, self.table, self.places, self.seed)
            rows = np.isfinite(hits)
            found = Estimate(np.nan, reason=self.missing[arm] or NO_READABILITY)
            if rows.any():
                key = ("readability", self.seed, self.split)
                values = tallies(answers.groups[rows], hits[rows], int(answers.groups.max()) + 1)
                value, draws = cluster_draws(MEAN_RECALL.statistic, self._owners[rows], values, draws=DRAWS, key=key)
                found = interval(value, draws).noting(self.missing[arm])
            yield self._row("site_readability", arm, "all", {}, rows, found)

    def _estimate(
        self, measure: Measure, statistic: Statistic, rows: Rows, arms: Sequence[str], place: tuple[Key, ...] = ()
    ) -> tuple[Estimate, Figures]:
        notes = [self.missing[arm] for arm in arms]
        notes += [self._left_out(measure)]
        if measure.extreme:
            notes.append("no interval: resamples find worse combinations by chance")
        whole = measure.statistic is mean_recall or all(_is_whole(self.answers[arm]) for arm in arms)
        if not whole or not rows.any():
            return Estimate(np.nan).noting(*notes), np.empty(0)
        values = [self._values(measure, arm, rows) for arm in arms]
        key = ("utility", self.seed, self.split, *place)
        clusters = self._owners[rows]
        value, draws = cluster_draws(statistic, clusters, *values, draws=DRAWS, key=key)
        if measure.extreme:
            return Estimate(value).noting(*notes), np.empty(0)
        alone = f"{len(set(clusters))} cluster: no interval" if np.isfinite(value) and not len(draws) else ""
        found = interval(value, draws) if len(draws) else Estimate(value, reason=alone)
        undefined = f"{measure.name.replace('_', ' ')} is undefined here" if not np.isfinite(value) else ""
        return found.noting(*notes, "" if any(notes) else undefined), draws

    def _left_out(self, measure: Measure) -> str:
        return unplaced(self.table, self.over) if measure.grouped else ""

    def _values(self, measure: Measure, arm: str, rows: Rows) -> Values:
        if not rows.all() or measure not in OVERALL:
            return measure.rows(self.answers[arm][rows])
        if (measure.name, arm) not in self.cache:
            self.cache[measure.name, arm] = measure.rows(self.answers[arm])
        return self.cache[measure.name, arm]

    def _row(self, metric: str, arm: str, scope: str, labels: dict[str, str], rows: Rows, found: Estimate) -> Row:
        place = {"metric": metric, "arm": arm, "against": "", "split": self.split, "scope": scope, **labels}
        slides, owners = self._slides[rows], self._owners[rows]
        sizes = {"n_real": len(slides), "n_slides": len(set(slides)), "n_patients": len(set(owners))}
        return place | vars(found) | sizes


def pairs_of(arms: Sequence[str], compared: Sequence[str]) -> list[tuple[str, str]]:
    """Each arm of `compared` against every other arm; two that are both compared meet once, the earlier one first.

    A stain-normalised set is compared with real patches under the same normalisation as well.

    >>> pairs_of(["real", "cls", "medi"], ["medi", "cls"])
    [('medi', 'real'), ('medi', 'cls'), ('cls', 'real')]
    >>> pairs_of(["real", "macenko", "medi_macenko"], [])
    [('medi_macenko', 'macenko')]
    """
    known = [arm for arm in compared if arm in arms]
    alike = [(arm, parts_of(arm)[1]) for arm in arms if parts_of(arm)[1] in arms and arm not in known]
    return [*((arm, other) for i, arm in enumerate(known) for other in arms if other not in known[: i + 1]), *alike]


def _is_whole(answers: Answers) -> bool:
    return bool(np.isfinite(answers.votes).all())


def _groups(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[dict[str, str], Rows]]:
    """The known levels of these columns, and the rows of each."""
    index = np.where(placed(table, columns), codes(table, columns), -1)
    for number in np.unique(index[index >= 0]):
        rows = index == number
        yield dict(zip(columns, table[list(columns)].iloc[int(rows.argmax())])), rows


def _gap_closed(
    arm: Float64[np.ndarray, "draws k 2"],
    real: Float64[np.ndarray, "draws k 2"],
    oracle: Float64[np.ndarray, "draws k 2"],
) -> Figures:
    base = mean_recall(real)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (mean_recall(arm) - base) / (mean_recall(oracle) - base)
