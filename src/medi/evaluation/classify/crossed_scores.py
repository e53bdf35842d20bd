"""The figures of sets under heads on one test split: the primary endpoint, the worst combinations, differences.

Resamples are those of the table `utility`, so that its intervals are met again; p-values take ten times as many, as
Holm's method over many differences needs small ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from medi.cohort.table import slide_units
from medi.core.registry import registry
from medi.core.set_names import parts_of
from medi.core.tables import DIFFERENCE
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.heads.contract import SITE, Trained, numbered, sites_of
from medi.evaluation.classify.probes import groups
from medi.evaluation.classify.scores import DRAWS, MEAN_RECALL, OVERALL, Answers, Measure
from medi.evaluation.classify.scoring import REAL, Row
from medi.evaluation.classify.utility import answers_of, missing, synthetic_rows, tested_on_every
from medi.evaluation.features import Embedded, placed, unplaced
from medi.evaluation.statistics import Estimate, cluster_draws, holm, interval, p_value

CHOSEN = "chosen"  # in place of a head: that which the inner hold-out chose for the set
INNER = "inner_recall"  # metric of the inner hold-out
AND = ", "  # between the heads that vote
P_DRAWS = 10_000
WORST = next(measure for measure in OVERALL if measure.name == "worst_five")


@dataclass(frozen=True)
class Fit:
    """A set under a head: classifiers, one per seed, or the reason why there are none.

    by: the head that was chosen, where head is "chosen", or those that vote, where it is "soft_vote".
    """

    head: str
    arm: Arm
    trained: tuple[Trained, ...] = ()
    reason: str = ""
    by: str = ""

    @property
    def inner(self) -> float:
        """What the inner hold-out says, the mean over seeds; NaN without."""
        return float(np.mean([one.inner for one in self.trained])) if self.trained else float("nan")


class Resampled(NamedTuple):
    """A figure and its resamples."""

    value: float
    draws: Float64[np.ndarray, " draws"]


@dataclass(frozen=True)
class Split:
    """The test rows of one split; tests: of all, for sets that embed them in their own way."""

    name: str
    test: Embedded
    tests: Mapping[str, Embedded]
    over: tuple[str, ...]
    seed: int
    found: dict[tuple[str, str], Resampled] = field(default_factory=dict)
    noted: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def rows(self, fits: Sequence[Fit], reference: str) -> Iterator[Row]:
        """Figures of every fit, then differences within each head."""
        for fit in fits:
            yield from self._figures(fit)
        for head in dict.fromkeys(fit.head for fit in fits):
            own = {fit.arm.name: fit for fit in fits if fit.head == head}
            for first, second in _pairs(list(own), reference):
                yield self._difference(own[first], own[second])

    def _figures(self, fit: Fit) -> Iterator[Row]:
        answers = None
        if fit.trained:
            arm = tested_on_every(fit.arm, self.tests)
            answers = answers_of(fit.trained, arm, self.name, self.test, self.over)
        for measure in (MEAN_RECALL, WORST):
            yield self._row(measure.name, fit, self._estimate(measure, fit, answers))

    def _estimate(self, measure: Measure, fit: Fit, answers: Answers | None) -> Estimate:
        notes = self._notes(fit)
        if answers is None or not np.isfinite(answers.votes).all() or not self._placed.any():
            return Estimate(np.nan).noting(*notes)
        values = measure.rows(answers[self._placed])
        if measure.extreme:
            return Estimate(float(measure.statistic(values.sum(axis=0, keepdims=True))[0])).noting(*notes)
        key = ("utility", self.seed, self.name)
        found = Resampled(*cluster_draws(measure.statistic, self._owners, values, draws=P_DRAWS, key=key))
        self.found[fit.head, fit.arm.name] = found
        return _with_interval(found).noting(*notes)

    def _difference(self, first: Fit, second: Fit) -> Row:
        """Paired: both have met the same resamples."""
        notes = [f"{fit.arm.name}: {note}" for fit in (first, second) for note in self._notes(fit) if note]
        estimate = Estimate(np.nan)
        a, b = (self.found.get((fit.head, fit.arm.name)) for fit in (first, second))
        if a is not None and b is not None:
            apart = Resampled(a.value - b.value, a.draws - b.draws)
            estimate = replace(_with_interval(apart), p_value=p_value(apart.draws, self._owners.nunique()))
        row = self._row(f"{MEAN_RECALL.name}{DIFFERENCE}", first, estimate.noting(*notes))
        return row | {"against": second.arm.name}

    def _notes(self, fit: Fit) -> list[str]:
        """What limits a figure: the fit's own reasons, and test rows that a head can do nothing about."""
        place = fit.head, fit.arm.name
        if place not in self.noted:
            self.noted[place] = list(self._limits(fit))
        return self.noted[place]

    def _limits(self, fit: Fit) -> list[str]:
        notes = [
            f"head{'s' * (AND in fit.by)} {fit.by}" if fit.by else "",
            fit.reason,
            *(one.reason for one in fit.trained),
            unplaced(self.test.table, self.over),
        ]
        if fit.trained:
            notes += [missing(fit.arm, fit.trained, self.test.table), self._elsewhere(fit)]
            rows, d = fit.arm.rows.features.shape
            notes += [f"{rows} training rows for {d} numbers: the penalty alone decides"] if rows <= d else []
        return notes

    def _elsewhere(self, fit: Fit) -> str:
        """How many test rows are of a site that training has not, for a head that goes by the site."""
        if all(getattr(registry("head")[name], "needs", "") != SITE for name in (fit.by or fit.head).split(AND)):
            return ""
        known = list(set(sites_of(fit.arm.table, self.over)))
        new = int((numbered(sites_of(self.test.table, self.over), known) < 0).sum())
        return f"{new:,} test patches of sites that training has not: no effect is known there" if new else ""

    @cached_property
    def _placed(self) -> Bool[np.ndarray, " n"]:
        return placed(self.test.table, self.over)

    @cached_property
    def _owners(self) -> pd.Series:
        return groups(self.test.table)[self._placed]

    @cached_property
    def _counts(self) -> Row:
        table = self.test.table[self._placed]
        return {"n_real": len(table), "n_slides": slide_units(table).nunique(), "n_patients": self._owners.nunique()}

    def _row(self, metric: str, fit: Fit, found: Estimate) -> Row:
        return _place(metric, fit, self.name) | vars(found) | self._counts | _sizes(fit.arm)


def inner_row(fit: Fit) -> Row:
    """What the inner hold-out says of a fit."""
    reason = "; ".join(dict.fromkeys(filter(None, [fit.reason, *(one.reason for one in fit.trained)])))
    return _place(INNER, fit, "") | {"value": fit.inner, "reason": reason} | _sizes(fit.arm)


def adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """p-values by Holm, over all differences of a metric and split under a same head, and over those of chosen ones."""
    known = table["p_value"].notna()
    for _, rows in table[known].groupby(["metric", "split", table["head"][known] == CHOSEN]):
        table.loc[rows.index, "p_adjusted"] = holm(rows["p_value"].to_numpy(dtype=np.float64))
    return table


def _pairs(arms: Sequence[str], reference: str) -> list[tuple[str, str]]:
    """Every set less the real rows, the reference less every other set, and a normalised set less real rows like it.

    >>> _pairs(["real", "cls", "medi"], "medi")
    [('cls', 'real'), ('medi', 'real'), ('medi', 'cls')]
    >>> _pairs(["real", "macenko", "medi_macenko"], "")
    [('macenko', 'real'), ('medi_macenko', 'real'), ('medi_macenko', 'macenko')]
    """
    above_real = [(arm, REAL) for arm in arms if arm != REAL] if REAL in arms else []
    others = [arm for arm in arms if arm not in (REAL, reference)]
    alike = [(arm, parts_of(arm)[1]) for arm in arms if parts_of(arm)[1] in arms]
    return [*above_real, *((reference, arm) for arm in others if reference in arms), *alike]


def _with_interval(found: Resampled) -> Estimate:
    if not len(found.draws):
        return Estimate(found.value, reason="1 cluster: no interval" if np.isfinite(found.value) else "")
    return interval(found.value, found.draws[:DRAWS])


def _place(metric: str, fit: Fit, split: str) -> Row:
    return {"metric": metric, "head": fit.head, "arm": fit.arm.name, "against": "", "split": split, "scope": "all"}


def _sizes(arm: Arm) -> Row:
    return {"n_train": len(arm.rows), "n_synthetic": synthetic_rows(arm), "panel": arm.panel}
