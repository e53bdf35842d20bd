"""A hold-out that fits a cohort: every class is tested where it was not trained, and keeps enough to train on."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from medi.cohort.holdout import design
from medi.cohort.readers.guess import likely_missing
from medi.cohort.rule import Combination, Rule
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError

SHARE = 0.3  # of the combinations
NAMED = 24  # combinations that a file lists; more are drawn
DRAWS = 200  # choices that are compared
RATES, MINIMA = (0.3, 0.2, 0.1), (2, 1)  # of hold-outs at random, the first that leaves enough is taken
ENOUGH, ENOUGH_ASIDE = 0.4, 0.25  # share of the patches that training keeps

Counts = dict[Combination, int]


def holdout_for(cohort: Cohort, attribute: str, seed: int = 0) -> dict[str, Any]:
    """The section `holdout` of a study file, tried on the cohort.

    Named combinations, whose patients test; where that leaves too little to train on, whose patches are set aside; at
    random where there are too many to name. MediError where there is nothing to hold out.
    """
    over, problem = ("class", attribute), None
    for asked in _candidates(cohort, over, seed):
        held = tuple(map(tuple, asked.get("held", ())))
        try:
            found = design(cohort.table, cohort.schema, Rule(over=over, **(asked | {"held": held})), seed)
        except MediError as error:
            problem = error
            continue
        split, share = found.split, found.reserve_needed()
        tested = cohort.table["class"][(split == "test_unseen").to_numpy()]
        enough = ENOUGH_ASIDE if asked.get("set_aside") else ENOUGH
        if (split == "train").mean() >= enough and tested.nunique() >= min(2, len(held) or 2):
            return asked | ({"reserve": share} if share is not None and share > Rule.reserve else {})
    raise problem or MediError(f"no hold-out of class x {attribute} leaves enough to train on and to test")


def _candidates(cohort: Cohort, over: tuple[str, str], seed: int) -> Iterator[dict[str, Any]]:
    """Hold-outs in the order in which they are tried."""
    shares = {"validation": 0.05, "min_patients": 1}
    counts = _counts(cohort, over)
    if round(SHARE * len(counts)) <= NAMED and (held := choose(counts, seed)):
        named: dict[str, Any] = {"kind": "named", "held": [list(found) for found in held]}
        yield named | {"test_seen": 0.15} | shares
        yield named | {"set_aside": True, "test_seen": 0.3} | shares
    for rate in RATES:
        yield from ({"rate": rate, "min_patients": n, "test_seen": 0.15, "validation": 0.05} for n in MINIMA)


def _counts(cohort: Cohort, over: tuple[str, str]) -> Counts:
    """Patches of each combination of known levels; levels that look like "not known" are left alone."""
    table = cohort.table
    known = np.ones(len(table), dtype=bool)
    for name in over:
        attribute = cohort.schema.attribute(name)
        known &= ~table[name].isin([*attribute.missing, *likely_missing(attribute.levels)]).to_numpy()
    rows = table.loc[known, list(over)].astype(str).to_numpy().tolist()
    return dict(Counter(map(tuple, rows)))


def choose(counts: Counts, seed: int = 0) -> list[Combination]:
    """Three in ten combinations of class and level, of as many classes as there are, none of which loses all.

    Of DRAWS choices the one whose classes come nearest to a third of their patches held out.

    >>> choose({("a", "x"): 9, ("a", "y"): 30, ("b", "x"): 30, ("b", "y"): 9, ("a", "z"): 20, ("b", "z"): 20})
    [('a', 'z'), ('b', 'x')]
    """
    places = sorted(counts)
    wanted, rng = max(2, round(SHARE * len(places))), seeds.generator("proposed", seed)
    draws = [_draw([places[i] for i in rng.permutation(len(places))], wanted) for _ in range(DRAWS)]
    best = max(draws, key=lambda held: (len(held), _worth(held, counts)), default=[])
    return sorted(best)


def _draw(places: list[Combination], wanted: int) -> list[Combination]:
    """Combinations in this order, those of classes and levels that have lost least before."""
    left = [Counter(place[side] for place in places) for side in (0, 1)]
    held: list[Combination] = []
    lost = [Counter[str](), Counter[str]()]
    while len(held) < wanted:
        able = [p for p in places if p not in held and all(left[i][p[i]] > 1 for i in (0, 1))]
        if not able:
            break
        chosen = min(able, key=lambda p: (lost[0][p[0]], lost[1][p[1]]))
        held.append(chosen)
        for i in (0, 1):
            left[i][chosen[i]] -= 1
            lost[i][chosen[i]] += 1
    return held


def _worth(held: list[Combination], counts: Counts) -> tuple[float, float]:
    """How near the classes are to a third of their patches held out: the worst of them, then all together; 0 to 2/3."""
    shares = []
    for name in sorted({name for name, _ in held}):
        whole = sum(n for place, n in counts.items() if place[0] == name)
        out = sum(counts[place] for place in held if place[0] == name)
        shares.append(min(2 * out, whole - out) / whole)
    return min(shares, default=0.0), sum(shares, 0.0)
