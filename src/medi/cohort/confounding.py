"""Rows of one number whose class and site are confounded as far as asked: Cramer's V from 0 to 1, the margins kept.

Every site has a class of its own (where classes are more, every class a site). Shares of combinations are mixed,
p(v) = (1 - v) p(class) p(site) + v p(site) [class is the site's own], whose margins are the same for every v. Its
chi squared is v^2 n (min(classes, sites) - 1), so that Cramer's V is v.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64
from scipy.optimize import linear_sum_assignment

from medi.cohort.association import measures
from medi.core.errors import MediError
from medi.core.seeds import generator
from medi.core.shares import apportion, largest_total

EACH = 10  # rows of each combination at v = 0, at least
Counts = Int64[np.ndarray, "k s"]
Rows = Int64[np.ndarray, " n"]


def own_combinations(supply: Counts) -> Bool[np.ndarray, "k s"]:
    """The combinations that are left at v = 1, those with the most rows: one a site, every class among them.

    Where classes are more than sites, one a class, every site among them.

    >>> own_combinations(np.array([[9, 1, 5], [2, 9, 4]])).astype(int).tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    if supply.shape[0] > supply.shape[1]:
        return own_combinations(supply.T).T
    classes, sites = supply.shape
    copies = -(-sites // classes)
    gain = np.tile(supply.astype(np.float64), (copies, 1))
    gain[:classes] += gain.sum() + 1  # every class once before any is twice
    rows, columns = linear_sum_assignment(gain, maximize=True)
    found = np.zeros(supply.shape, dtype=bool)
    found[rows % classes, columns] = True
    return found


def shares(own: Bool[np.ndarray, "k s"], v: float) -> Float64[np.ndarray, "k s"]:
    """The share of each combination at a Cramer's V of v.

    >>> shares(np.eye(2, dtype=bool), 0.5).tolist()
    [[0.375, 0.125], [0.125, 0.375]]
    """
    full = own / own.sum()
    return (1 - v) * np.outer(full.sum(axis=1), full.sum(axis=0)) + v * full


def confounded(table: pd.DataFrame, over: Sequence[str], strengths: Sequence[float], seed: int) -> list[Rows]:
    """Row numbers for each strength, as many for all, in whole patients as far as that goes.

    table: rows that have a level in each column of `over`; strengths: from 0 to 1. A combination's rows are taken
    patient by patient in an order that the seed draws: more of them hold the fewer. MediError, in a sentence, where the
    rows are not crossed.
    """
    if wrong := [v for v in strengths if not 0 <= v <= 1]:
        raise MediError(f"strength {wrong[0]:g}: Cramer's V lies between 0 and 1")
    label, site, names = _levels(table, over)
    supply = np.zeros((len(names[0]), len(names[1])), dtype=np.int64)
    np.add.at(supply, (label, site), 1)
    _check(supply, names)
    own = own_combinations(supply)
    wanted = _largest([shares(own, v).ravel() for v in strengths], supply.ravel())
    _check_drawn(int(wanted.min(axis=1).max()))
    order = _by_patient(table, seed)
    number = pd.Series((label * len(names[1]) + site)[order])
    place = number.groupby(number).cumcount().to_numpy()
    return [np.sort(order[place < counts[number.to_numpy()]]) for counts in wanted]


def cramers_v(table: pd.DataFrame, over: Sequence[str]) -> float:
    """Cramer's V of the class and the joint level of the other columns; NaN where either has one level."""
    label, site, names = _levels(table, over)
    if min(map(len, names)) < 2:
        return float("nan")
    pairs, count = np.unique(np.stack([site, label]), axis=1, return_counts=True)
    return measures(pairs[0], pairs[1], count)["cramers_v"]


def joint_level(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The levels of some columns as one text."""
    found = table[columns[0]].astype(str)
    for name in columns[1:]:
        found = found + " x " + table[name].astype(str)
    return found


def _levels(table: pd.DataFrame, over: Sequence[str]) -> tuple[Rows, Rows, tuple[list[str], list[str]]]:
    """Class and site of each row as numbers, and their names; several columns make a joint level."""
    places = joint_level(table, [name for name in over if name != "class"])
    (label, classes), (site, sites) = (pd.factorize(values, sort=True) for values in (table["class"], places))
    return label.astype(np.int64), site.astype(np.int64), (list(classes), list(sites))


def _largest(wanted: Sequence[Float64[np.ndarray, " c"]], supply: Rows) -> Int64[np.ndarray, "v c"]:
    """Counts of the combinations for each strength, of the largest total that the supply has for all of them."""
    total = min(largest_total(part, supply, int(supply.sum())) for part in wanted)
    while True:
        counts = np.stack([apportion(part, np.array([total]))[0] for part in wanted])
        if (counts <= supply).all():
            return counts
        total -= 1


def _check(supply: Counts, names: tuple[list[str], list[str]]) -> None:
    if min(supply.shape) < 2:
        raise MediError("confounding cannot be swept: training has one class or one site alone")
    if supply.min() < EACH:
        place = np.unravel_index(int(supply.argmin()), supply.shape)
        rare = f"{names[0][place[0]]} x {names[1][place[1]]}"
        raise MediError(
            f"this cohort is not crossed enough to sweep confounding: {rare} has {supply.min()} training patches, and "
            f"every combination needs {EACH} or more; hold out patients alone (`medi holdout --rate 0`), or keep the "
            "classes and sites that are crossed"
        )


def _check_drawn(each: int) -> None:
    """each: the rows of the smallest combination without confounding, where all strengths have one number of rows."""
    if each < EACH:
        raise MediError(
            "this cohort is not crossed enough to sweep confounding: with one number of patches at every strength, "
            f"{each} of a combination are left at V = 0, and {EACH} are needed; keep the larger classes and sites"
        )


def _by_patient(table: pd.DataFrame, seed: int) -> Rows:
    """The rows patient by patient, patients in a drawn order; slides stand for patients that are not known."""
    owner = table["patient"].where(table["patient"] != "", table["slide"])
    number = pd.factorize(owner.where(owner != "", table["sample_id"]), sort=True)[0]
    drawn = generator("confounding", seed).permutation(number.max() + 1)
    return np.argsort(drawn[number], kind="stable").astype(np.int64)
