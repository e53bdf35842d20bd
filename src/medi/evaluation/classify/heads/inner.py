"""The inner hold-out: combinations of training are left out in turn, as the true hold-out leaves combinations out.

What a head must do is to meet combinations that it never saw. How it does on others of the same combinations says
little about that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medi.core.seeds import generator
from medi.evaluation.classify import probes
from medi.evaluation.classify.probes import codes, groups, is_real
from medi.evaluation.features import placed

FOLDS = 4
BY_PATIENTS = "too few combinations to leave some out: chosen over patients of seen ones"
NEITHER = "neither combinations nor patients enough to leave some out: settings by default"

Pairs = Int64[np.ndarray, "_m 2"]  # class and site of each combination, as numbers


@dataclass(frozen=True)
class Fold:
    """trains, tests [n]: the rows that are fitted, and those that are left out; no patient is in both (P5)."""

    trains: Bool[np.ndarray, " n"]
    tests: Bool[np.ndarray, " n"]


def inner_folds(table: pd.DataFrame, over: Sequence[str], seed: int) -> tuple[list[Fold], str]:
    """Folds over combinations of real rows; over patients where those are too few, and then a reason.

    A fold leaves out only what keeps the others connected, so that a head can tell site from class in each. Every
    combination is left out once at most. Synthetic rows always train, as they do for the true hold-out.
    """
    found = _over_combinations(table, over, seed)
    if found:
        return found, ""
    by_patient = probes.folds(table, seed)
    rows = is_real(table) & (by_patient >= 0)
    found = [Fold(by_patient != fold, rows & (by_patient == fold)) for fold in np.unique(by_patient[rows])]
    return found, BY_PATIENTS if found else NEITHER


def parts(pairs: Pairs) -> int:
    """How many parts of the graph of classes and sites share neither a class nor a site.

    In one part alone x = class + site tells the two apart: elsewhere a shift of all its sites is one of its classes.

    >>> parts(np.array([[0, 0], [0, 1], [1, 1]])), parts(np.array([[0, 0], [1, 1]]))
    (1, 2)
    """
    _, first = np.unique(pairs[:, 0], return_inverse=True)
    _, second = np.unique(pairs[:, 1], return_inverse=True)
    size = int(first.max() + 1 + second.max() + 1)
    edges = coo_array((np.ones(len(pairs)), (first, first.max() + 1 + second)), shape=(size, size))
    return int(connected_components(edges, directed=False)[0])


def pairs_of(table: pd.DataFrame, over: Sequence[str]) -> Int64[np.ndarray, "n 2"]:
    """The class and the site of each row, as numbers."""
    return np.stack([codes(table, ["class"]), codes(table, [name for name in over if name != "class"])], axis=1)


def _over_combinations(table: pd.DataFrame, over: Sequence[str], seed: int) -> list[Fold]:
    if len(over) < 2:
        return []
    pairs, usable = pairs_of(table, over), is_real(table) & placed(table, over)
    rng = generator("inner folds", seed)
    left_out = _dealt(np.unique(pairs[usable], axis=0), rng)
    found = [_fold(table, usable & _among(pairs, out), usable, rng) for out in left_out]
    sound = [fold for fold in found if _is_sound(pairs, usable, fold)]
    tested = np.any([fold.tests for fold in sound], axis=0) if sound else np.zeros(len(table), dtype=bool)
    return sound if len(sound) > 1 and len(np.unique(pairs[tested, 0])) > 1 else []


def _dealt(seen: Pairs, rng: np.random.Generator) -> list[Pairs]:
    """Combinations dealt to folds, each to the smallest fold whose others stay connected without it."""
    out: list[list[int]] = [[] for _ in range(FOLDS)]
    for one in rng.permutation(len(seen)):
        for fold in sorted(out, key=len):
            if _stays_whole(seen, np.array([*fold, one])):
                fold.append(int(one))
                break
    return [seen[fold] for fold in out if fold]


def _stays_whole(seen: Pairs, out: Int64[np.ndarray, " k"]) -> bool:
    """Whether every class and site is still there without these combinations, and all are connected."""
    rest = np.delete(seen, out, axis=0)
    there = all(len(np.unique(rest[:, i])) == len(np.unique(seen[:, i])) for i in (0, 1)) if len(rest) else False
    return there and parts(rest) == 1


def _among(pairs: Int64[np.ndarray, "n 2"], out: Pairs) -> Bool[np.ndarray, " n"]:
    return (pairs[:, None] == out[None]).all(axis=2).any(axis=1)


def _fold(
    table: pd.DataFrame, left_out: Bool[np.ndarray, " n"], usable: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> Fold:
    """Real rows of these combinations train nothing; half of the patients who have others too test, the rest train."""
    owner = groups(table).to_numpy(dtype=object)
    elsewhere = set(owner[usable & ~left_out])
    mixed = sorted(set(owner[left_out]) & elsewhere)
    testers = (set(owner[left_out]) - elsewhere) | set(np.array(mixed, dtype=object)[rng.permutation(len(mixed))][::2])
    tests_patient = np.array([one in testers for one in owner], dtype=bool)
    return Fold(~left_out & ~tests_patient, left_out & tests_patient)


def _is_sound(pairs: Int64[np.ndarray, "n 2"], usable: Bool[np.ndarray, " n"], fold: Fold) -> bool:
    """Whether something is tested and, patients taken out, all classes and sites train in one part."""
    kept = pairs[usable & fold.trains]
    there = len(kept) > 0 and all(len(np.unique(kept[:, i])) == len(np.unique(pairs[usable, i])) for i in (0, 1))
    return bool(fold.tests.any()) and there and parts(np.unique(kept, axis=0)) == 1
