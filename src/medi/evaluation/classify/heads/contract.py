"""What a head is: from embedded training rows to a classifier, which may use the site of a test patch.

`Head` is the contract of the registry "head"; `Tuned` makes one of a fit over settings, chosen by leaving combinations
out. The attribute of a test patch is known at test time in this project, as its scanner and hospital are in a clinic;
a head says in `needs` whether it uses it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from medi.evaluation.classify.heads.inner import Fold, inner_folds
from medi.evaluation.classify.probes import DEFAULT_C, balanced_score, codes, text
from medi.evaluation.features import Embedded, Features

SITE = "the site of the test patch"
Probabilities = Float64[np.ndarray, "n k"]


class Undefined(Exception):
    """A head that cannot be fitted or trusted here: its message is the reason in the table (P7)."""


@runtime_checkable
class Classifier(Protocol):
    """classes: in the order of the columns of probabilities, whose rows sum to 1; reason: what limits it, or ""."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def reason(self) -> str: ...

    def probabilities(self, features: Features, table: pd.DataFrame) -> Probabilities: ...


@dataclass(frozen=True)
class Setting:
    """c: the inverse penalty; alike: all combinations of a class weigh alike, instead of all rows of a class.

    adversary: what a site that can be read counts against a class that can, for the head that has an adversary.
    """

    c: float = DEFAULT_C
    alike: bool = False
    adversary: float = 1.0


@dataclass(frozen=True)
class Trained:
    """A classifier, how it was chosen, and what the inner hold-out says of it.

    inner: mean recall over combinations that were left out of training, NaN where none could be; reason: what limits
    the choice.
    """

    classifier: Classifier
    setting: Setting = Setting()
    inner: float = float("nan")
    reason: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.classifier.classes

    def probabilities(self, features: Features, table: pd.DataFrame) -> Probabilities:
        return self.classifier.probabilities(features, table)


@runtime_checkable
class Head(Protocol):
    """Trains a classifier on embedded rows of two classes or more; a plain function will do.

    over: the columns that make combinations; seed: of whatever is drawn. Raises `Undefined` where there is none.
    """

    def __call__(self, rows: Embedded, over: Sequence[str], seed: int) -> Classifier: ...


Fit = Callable[
    [Embedded, Sequence[str], Sequence[Setting]], Sequence[Classifier]
]  # one per setting; its reason: a fault


@dataclass(frozen=True)
class Tuned:
    """A head whose setting is the one that does best on combinations of training that are left out.

    fit: classifiers of some rows, one per setting, or `Undefined`; grid: the settings, of equals the first is taken;
    needs: what a test row must have beside its features.
    """

    fit: Fit
    grid: tuple[Setting, ...]
    needs: str = ""

    def __call__(self, rows: Embedded, over: Sequence[str], seed: int) -> Trained:
        found, reason = inner_folds(rows.table, over, seed)
        scores = inner_scores(self.fit, self.grid, rows, over, found)
        best = None if np.isnan(scores).all() else int(np.nanargmax(scores.round(9)))
        setting = Setting() if best is None else self.grid[best]
        (classifier,) = self.fit(rows, over, [setting])
        if classifier.reason:
            raise Undefined(classifier.reason)
        return Trained(classifier, setting, float("nan") if best is None else float(scores[best]), reason)


def inner_scores(
    fit: Fit, grid: Sequence[Setting], rows: Embedded, over: Sequence[str], found: Sequence[Fold]
) -> Float64[np.ndarray, " settings"]:
    """Mean recall of each setting over the rows that folds leave out, combinations and classes alike; NaN without."""
    labels, groups = codes(rows.table, ["class"]), codes(rows.table, over)
    hits = inner_hits(fit, grid, rows, over, found)
    tested = np.isfinite(hits[0])
    if not tested.any():
        return np.full(len(grid), np.nan)
    return np.array([balanced_score(one[tested] > 0, labels[tested], groups[tested]) for one in hits])


def inner_hits(
    fit: Fit, grid: Sequence[Setting], rows: Embedded, over: Sequence[str], found: Sequence[Fold]
) -> Float64[np.ndarray, "settings n"]:
    """1 where a setting is right of a row that its fold leaves out, 0 where it is wrong; NaN of rows in no fold."""
    told = inner_probabilities(fit, grid, rows, over, found, classes_of(rows))
    right = told.argmax(axis=2) == codes(rows.table, ["class"])
    return np.where(np.isnan(told[:, :, 0]), np.nan, right)


def inner_probabilities(
    fit: Fit,
    grid: Sequence[Setting],
    rows: Embedded,
    over: Sequence[str],
    found: Sequence[Fold],
    classes: Sequence[str],
) -> Float64[np.ndarray, "settings n k"]:
    """What each setting says of a row that its fold leaves out, class by class; NaN of rows in no fold."""
    told = np.full((len(grid), len(rows), len(classes)), np.nan)
    for fold in found:
        test = rows.take(fold.tests)
        try:
            classifiers = fit(rows.take(fold.trains), over, grid)
        except Undefined:
            continue
        for row, classifier in enumerate(classifiers):
            told[row, fold.tests] = probabilities_of(classifier, test, classes)
    return told


def classes_of(rows: Embedded) -> tuple[str, ...]:
    """The classes that rows have, in order of their names."""
    return tuple(sorted(set(text(rows.table["class"]))))


def probabilities_of(classifier: Classifier, rows: Embedded, classes: Sequence[str]) -> Probabilities:
    """What a classifier says of each row, in columns of these classes."""
    return columns_of(classifier.probabilities(rows.features, rows.table), classifier.classes, classes)


def columns_of(found: Probabilities, own: Sequence[str], classes: Sequence[str]) -> Float64[np.ndarray, "n classes"]:
    """Columns of one's own classes as columns of these; 0 for a class that is not among one's own.

    >>> columns_of(np.array([[0.2, 0.8]]), ["b", "a"], ["a", "b", "c"]).tolist()
    [[0.8, 0.2, 0.0]]
    """
    columns = {name: column for column, name in enumerate(own)}
    told = [found[:, columns[name]] if name in columns else np.zeros(len(found)) for name in classes]
    return np.stack(told, axis=1)


def predicted(classifier: Classifier, rows: Embedded) -> np.ndarray:
    """The class that a classifier gives each row, as objects [n]."""
    found = classifier.probabilities(rows.features, rows.table).argmax(axis=1)
    return np.array(classifier.classes, dtype=object)[found]


def sites_of(table: pd.DataFrame, over: Sequence[str]) -> list[tuple[str, ...]]:
    """The site of each row: its levels of the columns beside the class."""
    places = [column for column in over if column != "class"]
    return list(zip(*(text(table[name]) for name in places))) if places else [()] * len(table)


def numbered(values: Sequence[tuple[str, ...]], known: Sequence[tuple[str, ...]]) -> Int64[np.ndarray, " n"]:
    """The place of each value among the known ones, -1 for others."""
    index = {value: number for number, value in enumerate(known)}
    return np.array([index.get(value, -1) for value in values], dtype=np.int64)
