"""Which empty combination to collect first: what patients there would tell of it and of all other empty ones.

Let each patient's mean be a_class + b_level plus noise of one variance, the same everywhere. With n patients in each
seen combination, X their one-hot rows and A = X'X, the seen ones predict combination f with variance v = x_f' A^- x_f
in units of one patient's: as well as 1 / v patients of its own. With m patients more there the variance of any
combination e falls by (x_e' A^- x_f)^2 m / (1 + m v) (sequential design: Fedorov, Theory of Optimal Experiments, 1972).
An interaction of class and attribute is not in it: only patches of the combination itself tell that.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from medi.cohort.combinations import Ids
from medi.cohort.identifiable import determined, in_words, parts_of

MORE = (1, 2, 5, 10)  # patients that might be collected
COLLECT = ("attribute", "class", "level", "worth", *(f"gain_{m}" for m in MORE))
SHOWN = 10  # combinations of an attribute
LARGEST = 5_000  # combinations of class and attribute; above there is no table


def collect_table(
    attribute: str, names: tuple[np.ndarray, np.ndarray], label: Ids, level: Ids, patients: Ids
) -> pd.DataFrame:
    """The empty combinations that the seen ones determine, the most valuable first.

    worth: how many patients of its own would tell as much of it as the seen ones do; gain_m: the share by which m
    patients there lower the mean variance over all these combinations. label, level, patients: of each seen one.
    """
    shape = len(names[0]), len(names[1])
    seen = np.zeros(shape, dtype=bool)
    seen[label, level] = True
    empty = determined(*parts_of(label, level, *shape)) & ~seen
    if not empty.any() or seen.size > LARGEST:
        return pd.DataFrame(columns=list(COLLECT))
    at = np.argwhere(empty)
    inverse = np.linalg.pinv(moments(label, level, patients, shape), hermitian=True)
    rows = np.zeros((len(at), sum(shape)))
    rows[np.arange(len(at)), at[:, 0]] = rows[np.arange(len(at)), shape[0] + at[:, 1]] = 1
    between = rows @ inverse @ rows.T  # x_e' A^- x_f
    variance = np.diag(between)
    total, fall = variance.sum(), (between**2).sum(axis=0)
    gains = {f"gain_{m}": fall * m / (1 + m * variance) / total for m in MORE}
    table = pd.DataFrame({"worth": 1 / variance, **gains})
    texts = {"class": names[0][at[:, 0]], "level": names[1][at[:, 1]]}
    table = table.assign(attribute=attribute, **texts)[list(COLLECT)]
    return table.sort_values("gain_1", ascending=False, kind="stable").head(SHOWN).reset_index(drop=True)


def moments(label: Ids, level: Ids, patients: Ids, shape: tuple[int, int]) -> Float64[np.ndarray, "p p"]:
    """A = X'X of the one-hot rows of class and level, a row per patient of a combination."""
    counts = np.zeros(shape)
    counts[label, level] = patients
    return np.block([[np.diag(counts.sum(axis=1)), counts], [counts.T, np.diag(counts.sum(axis=0))]])


def most_valuable(attribute: str, collect: pd.DataFrame) -> str:
    """The combination whose patients would tell most of all empty ones, in words; "" where none is listed."""
    rows = collect[collect["attribute"] == attribute]
    if rows.empty:
        return ""
    first = rows.iloc[0]
    name, worth, gain = f"{first['class']} at {first['level']}", first["worth"], first["gain_5"]
    return (
        f"class x {attribute}: of the empty combinations that are determined, {name} is the most valuable to collect; "
        f"the seen ones are worth {worth:.1f} patients of it, and 5 patients there lower the mean variance of all such "
        f"predictions by {gain:.0%}, as far as class and {attribute} add up"
    )


def composing(size: Mapping[str, Any], parts: pd.DataFrame, collect: pd.DataFrame) -> list[str]:
    """What an audit says of empty combinations, attribute by attribute; nothing of an audit of version 0.1."""
    found = [
        text
        for name, gaps in size.get("combinations", {}).items()
        for text in (in_words(name, gaps, parts), most_valuable(name, collect))
    ]
    return [text for text in found if text]
