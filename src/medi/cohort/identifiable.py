"""Which empty combinations the seen ones determine, where class and attribute add up, and which to collect first.

Let a combination's mean be a_class + b_level. The seen ones determine that of (c, s) exactly if its one-hot vector lies
in the affine hull of theirs: if c and s are in one connected part of the graph whose edges are the seen combinations
(the connectedness of a two-way layout; Searle, Linear Models, 1971, section 7.4). Two parts differ by a constant that
nothing seen tells.
"""

from collections.abc import Mapping
from itertools import combinations as pairs_of
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from medi.cohort.combinations import Ids

PARTS = ("attribute", "part", "classes", "levels", "level_count", "class_count", "seen", "empty")
NAMED = 8  # classes or levels of a part that are named


def parts_of(
    label: Ids, level: Ids, labels: int, levels: int
) -> tuple[Int64[np.ndarray, " labels"], Int64[np.ndarray, " levels"]]:
    """The part of each class and of each level, from the seen combinations; -1 where nothing of it is seen.

    >>> parts_of(np.array([0, 1, 1]), np.array([0, 1, 2]), 2, 4)
    (array([0, 1]), array([ 0,  1,  1, -1]))
    """
    of_label, of_level = np.arange(labels), np.full(levels, labels)
    while True:
        np.minimum.at(of_level, level, of_label[label])
        before = of_label.copy()
        np.minimum.at(of_label, label, of_level[level])
        if (before == of_label).all():
            break
    of_label[np.setdiff1d(np.arange(labels), label)] = -1
    of_level[of_level == labels] = -1
    kept = np.unique(of_label[of_label >= 0])
    number = np.full(labels + 1, -1)
    number[kept] = np.arange(len(kept))
    return number[of_label], number[of_level]


def determined(
    of_label: Int64[np.ndarray, " labels"], of_level: Int64[np.ndarray, " levels"]
) -> Bool[np.ndarray, "labels levels"]:
    """Which combinations the seen ones determine."""
    return (of_label[:, None] == of_level) & (of_label[:, None] >= 0)


def parts_table(
    attribute: str, names: tuple[np.ndarray, np.ndarray], label: Ids, level: Ids
) -> tuple[int, pd.DataFrame]:
    """How many combinations the seen ones determine, and the parts that they fall into, the largest first.

    names: of the classes and of the levels.
    """
    of_label, of_level = parts_of(label, level, *map(len, names))
    rows = []
    for part in range(int(of_label.max(initial=-1)) + 1):
        own = [of == part for of in (of_label, of_level)]
        seen, counts = int((of_label[label] == part).sum()), [int(of.sum()) for of in own]
        texts = [[str(name) for name in of[mine]] for of, mine in zip(names, own)]
        row = {"attribute": attribute, "classes": _named(texts[0]), "levels": _named(texts[1])}
        counted = {"level_count": counts[1], "class_count": counts[0], "seen": seen}
        rows.append(row | counted | {"empty": counts[0] * counts[1] - seen})
    rows.sort(key=lambda row: -int(row["seen"]))
    table = pd.DataFrame([row | {"part": number + 1} for number, row in enumerate(rows)], columns=list(PARTS))
    return int(determined(of_label, of_level).sum()), table


def _named(texts: list[str]) -> str:
    more = len(texts) - NAMED
    return ", ".join(texts[:NAMED]) + (f" and {more} more" if more > 0 else "")


def in_words(attribute: str, size: Mapping[str, int], parts: pd.DataFrame) -> str:
    """What can be told of the empty combinations, and which to collect first; "" where there is nothing to tell.

    size: combinations, empty and identifiable, as of an `Audit`; parts: as of `parts_table`.
    """
    rows = parts[parts["attribute"] == attribute]
    empty, told = size["empty"], size.get("identifiable")
    if told is None or not empty or not len(rows):
        return ""
    lost = size["combinations"] - told
    if not lost:
        which = "the empty combination is" if empty == 1 else f"all {empty:,} empty combinations are"
        return f"class x {attribute}: {which} determined by the seen ones, as far as class and {attribute} add up"
    what = f"class x {attribute}: {lost:,} of {empty:,} empty combinations are not determined by the seen ones"
    if len(rows) < 2:
        return f"{what}: of their class or {attribute} there is no patch"
    return f"{what}, which fall into {len(rows):,} parts that share neither class nor {attribute}. {_first(rows)}"


def _first(rows: pd.DataFrame) -> str:
    """The join of two parts that determines the most."""
    records: list[dict[Any, Any]] = rows.to_dict("records")

    def gain(pair: tuple[dict[Any, Any], dict[Any, Any]]) -> int:
        one, other = pair
        return one["class_count"] * other["level_count"] + other["class_count"] * one["level_count"] - 1

    best = max(pairs_of(records[:50], 2), key=gain)
    more = "makes it one part" if len(rows) == 2 else f"joins parts {best[0]['part']} and {best[1]['part']}"
    return (
        f"Collect first: one combination of a class of the one part ({best[0]['classes']}) with a level of the other "
        f"({best[1]['levels']}) {more} and determines {gain(best):,} more"
    )
