"""Acquisition groups where no metadata are known: slides of one colour and sharpness, as a column `derived`.

A mixture of Gaussians of one shape (tied covariance) is fitted to the statistics of `medi.cohort.acquisition`, a row
per slide. Their number is chosen by stability (Ben-Hur, Elisseeff and Guyon 2002): it must come again in subsamples of
80 % of the slides, with a mean adjusted Rand index of 0.9 on what two subsamples share. Of the numbers that do, one
group among them, the Bayesian information criterion decides (Fraley and Raftery 2002). So slides that differ without
gaps are one group, which stability alone does not see (Ben-David, von Luxburg and Pal 2006).

Groups may be biology as well as scanners. Nobody recorded them, and every name of a level says so.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort, slide_units
from medi.core.errors import MediError
from medi.core.progress import Advance, unheard
from medi.core.threads import one_thread

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

    from medi.cohort.acquisition import OnError

DERIVED = "derived"  # the column, and the beginning of every level's name
LEAST_SLIDES = 30  # with fewer, one acquisition is too often taken for two
SLIDES_EACH, MOST = 10, 12  # slides that a group needs on average, and groups that are tried
STABLE, SUBSAMPLES, SHARE = 0.9, 8, 0.8
STARTS, ROUNDS, SOFTEST = 4, 100, 1e-3  # of a mixture: starts, rounds, and what is added to its covariance
KEPT, MOST_AXES = 0.95, 5  # variance that the axes keep, and how many there are at most
Values = Float64[np.ndarray, "n _d"]
Ids = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Groups:
    """centre, scale [6] and axes [6, d] make the statistics of a slide a row that the mixture knows.

    stability: the mean adjusted Rand index between subsamples, by the number of groups; rank: the place of each part of
    the mixture by its number of slides, the largest first.
    """

    centre: Float64[np.ndarray, " 6"]
    scale: Float64[np.ndarray, " 6"]
    axes: Float64[np.ndarray, "6 _d"]
    mixture: "GaussianMixture"
    stability: dict[int, float]
    rank: Ids

    def __len__(self) -> int:
        return int(self.mixture.n_components)

    def assign(self, values: Values) -> Ids:
        """The group of every slide, 0 the largest."""
        return self.rank[self.mixture.predict((values - self.centre) / self.scale @ self.axes)]

    @property
    def levels(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(f"{DERIVED} {number + 1}" for number in range(len(self)))


@one_thread
def discover(cohort: Cohort, seed: int = 0, on_error: "OnError" = "fail", progress: Advance = unheard) -> Cohort:
    """The cohort with the column and attribute `derived`, a level per group; as it is where there is one group alone.

    Slides are told by the column `slide`, and by `patient` where it is empty; a slide without tissue has no group. In a
    cohort with a split the groups are fitted on training patches alone, and the other slides are assigned to them. A
    note and info["derived"] say what was found. on_error: "skip" leaves out images that cannot be read.

    MediError for a cohort that has such a column already, has no images, or fewer than 30 slides with tissue.
    """
    from medi.cohort.acquisition import by_slide

    if DERIVED in cohort.table:
        raise MediError(
            f"this cohort has a column {DERIVED!r} already; use it as it is, or call it something else in the source"
        )
    unit = slide_units(cohort.table, alone="patient")
    trains = _trains(cohort)
    fits = unit.isin(set(unit[trains]))
    counted = np.where(fits, trains, True)  # of a training slide no other patch says anything
    values, failed = by_slide(cohort, unit, counted, on_error, progress)
    values = values.dropna()
    training = values[values.index.isin(set(unit[fits]))]
    if len(training) < LEAST_SLIDES:
        raise MediError(
            f"{len(training)} {'' if trains.all() else 'training '}slides show tissue, and {LEAST_SLIDES} are needed "
            "to look for acquisition groups; name the column of the slide (--slide) or of the hospital (--attributes)"
        )
    groups = fit(training.to_numpy(), seed)
    said = _said(groups, len(training), "training" if not trains.all() else "all", failed)
    info = {**cohort.info, "notes": [*cohort.notes, said["note"], *failed], DERIVED: said}
    if len(groups) == 1:
        return replace(cohort, info=info)
    named = pd.Series([groups.levels[i] for i in groups.assign(values.to_numpy())], index=values.index, dtype=object)
    table = cohort.table.assign(**{DERIVED: unit.map(named).fillna("").astype(str)})
    return Cohort(table, _with(cohort.schema, groups.levels), cohort.pixels, info)


def note_on(schema: Schema) -> str:
    """What everything that shows the column has to say; "" of a schema without it."""
    if not any(a.name == DERIVED and all(level.startswith(DERIVED) for level in a.levels) for a in schema.attributes):
        return ""
    return f"{DERIVED}: groups of colour and sharpness, found in the images and recorded by nobody; they may be biology"


def _trains(cohort: Cohort) -> pd.Series:
    """Which rows train; all of a cohort without a split."""
    split = cohort.table.get("split", pd.Series("", index=cohort.table.index))
    return split.eq("train") if split.ne("").any() else split.eq("")


def _with(schema: Schema, levels: tuple[str, ...]) -> Schema:
    return replace(schema, attributes=(*schema.attributes, Attribute(DERIVED, levels=levels)))


def _said(groups: Groups, slides: int, patches: str, failed: Sequence[str]) -> dict[str, Any]:
    one = f"no acquisition groups found (of {SLIDES_EACH} slides or more): one fits best"
    found = f"{len(groups)} acquisition groups" if len(groups) > 1 else one
    shown = f", stability {groups.stability[len(groups)]:.2f}" if len(groups) > 1 else ""
    note = f"{DERIVED}: {found}, by colour and sharpness of {slides:,} slides ({patches} patches{shown})"
    stability = {str(number): value for number, value in groups.stability.items()}
    return {"groups": len(groups), "slides": slides, "patches": patches, "stability": stability, "note": note}


# --- how many groups there are ----------------------------------------------------------------------------------------


def fit(values: Values, seed: int) -> Groups:
    """The groups of slides [n, 6]; the same slides in another order give the same number of groups."""
    centre = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - centre), axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    scaled = (values - centre) / scale
    axes = _axes(scaled)
    rows = scaled @ axes
    numbers = range(2, min(MOST, len(rows) // SLIDES_EACH) + 1)
    stability = {number: _stability(rows, number, seed) for number in numbers}
    tried = {number: _mixture(rows, number, seed) for number in (1, *numbers) if stability.get(number, 1.0) >= STABLE}
    best = min(tried.values(), key=lambda mixture: mixture.bic(rows))
    order = np.argsort(-np.bincount(best.predict(rows), minlength=best.n_components), kind="stable")
    return Groups(centre, scale, axes, best, stability, np.argsort(order))


def _axes(scaled: Values) -> Float64[np.ndarray, "6 _d"]:
    """The principal axes that keep most of the variance."""
    _, sizes, axes = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)
    share = np.cumsum(sizes**2) / max((sizes**2).sum(), 1e-12)
    return axes[: min(int((share < KEPT).sum()) + 1, MOST_AXES)].T


def _stability(rows: Values, number: int, seed: int) -> float:
    """The mean adjusted Rand index between groups of two subsamples, on the slides that both have."""
    from sklearn.metrics import adjusted_rand_score

    made = []
    for draw in range(SUBSAMPLES):
        chosen = np.random.default_rng([seed, draw]).permutation(len(rows))[: int(SHARE * len(rows))]
        group = np.full(len(rows), -1)
        group[chosen] = _mixture(rows[chosen], number, draw).predict(rows[chosen])
        made.append(group)
    both = [(one, other, (one >= 0) & (other >= 0)) for one, other in combinations(made, 2)]
    return float(np.mean([adjusted_rand_score(one[shared], other[shared]) for one, other, shared in both]))


def _mixture(rows: Values, number: int, seed: int) -> "GaussianMixture":
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    made = GaussianMixture(
        number, covariance_type="tied", n_init=STARTS, max_iter=ROUNDS, reg_covar=SOFTEST, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start that has not ended is as good as its likelihood
        return made.fit(rows)
