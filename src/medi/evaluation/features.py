"""Embeddings of patches together with the table of the same patches: what every measure here works on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int64

from medi.core.claims import NOWHERE
from medi.core.errors import MediError
from medi.core.files import write_table

Features = Float[np.ndarray, "_n _d"]  # any number of rows
CONSTANT = 1e-7  # a feature spreads by more than this share of its largest value, or it is taken for constant
REAL, FLOOR = "real", "floor"  # the set that all are compared with, and other real patches
ROUND_TRIP = "round_trip"  # the floor's patches as the autoencoder of a model gives them back
FLOORS = (FLOOR, ROUND_TRIP)  # what no model can be better than


@dataclass(frozen=True, eq=False)
class Embedded:
    """features: float [n, d], a row of numbers per patch; table: the same n patches (sample_id, class, slide ...).

    Rows go by position; the table's own index is dropped. Raises MediError where the two differ in length.

    >>> import numpy as np, pandas as pd
    >>> rows = Embedded(np.eye(3), pd.DataFrame({"sample_id": ["a", "b", "c"]}))
    >>> len(rows.join(rows.take(np.array([True, False, True]))))
    5
    """

    features: Features
    table: pd.DataFrame

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.table):
            shape = list(self.features.shape)
            raise MediError(f"{len(self.features)} embeddings {shape} for {len(self.table)} table rows; embed again")
        if not isinstance(self.table.index, pd.RangeIndex) or self.table.index[:1].tolist() not in ([], [0]):
            object.__setattr__(self, "table", self.table.reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.table)

    def take(self, which: Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]) -> "Embedded":
        """Some of the rows: a mask [n], or positions [m] in their order."""
        return Embedded(self.features[which], self.table[which] if which.dtype == bool else self.table.iloc[which])

    def join(self, *others: "Embedded") -> "Embedded":
        """The rows of all sets, one after another."""
        parts = (self, *others)
        features = np.concatenate([part.features for part in parts])
        return Embedded(features, pd.concat([part.table for part in parts], ignore_index=True))

    def assign(self, **columns: Any) -> "Embedded":
        """The same embeddings beside a table with these columns set."""
        return Embedded(self.features, self.table.assign(**columns))

    def save(self, path: str | Path) -> Path:
        """Write a Parquet table: sample_id, then f0, f1, ... as float32."""
        table = pd.DataFrame(self.features.astype(np.float32)).add_prefix("f")
        table.insert(0, "sample_id", self.table["sample_id"].to_numpy())
        return write_table(Path(path), table)

    @property
    def whole(self) -> Bool[np.ndarray, " n"]:
        """Which rows have finite numbers alone."""
        return np.isfinite(self.features).all(axis=1)


def placed(table: pd.DataFrame, over: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Which rows have a level in each of these columns: the others belong to no combination.

    >>> placed(pd.DataFrame({"class": ["A", "B"], "site": ["x", ""]}), ["class", "site"]).tolist()
    [True, False]
    """
    return (table[list(over)] != "").all(axis=1).to_numpy(dtype=bool)


def unplaced(table: pd.DataFrame, over: Sequence[str]) -> str:
    """How many rows belong to no combination of these columns, in words; "" where all belong to one.

    >>> unplaced(pd.DataFrame({"class": ["A", "B"], "site": ["x", ""]}), ["class", "site"])
    '1 patch of unknown site belongs to no combination'
    """
    number = int((~placed(table, over)).sum())
    if not number:
        return ""
    names = " or ".join(name for name in over if (table[name] == "").any())
    what = "patch" if number == 1 else "patches"
    return f"{number:,} {what} of unknown {names} belong{'s' if number == 1 else ''} {NOWHERE}"


def is_constant(x: Features) -> bool:
    """Whether all rows hold the same numbers, from which nothing can be told."""
    return len(x) > 1 and bool((x[:2] == x[0]).all() and (x == x[0]).all())


def spreads(x: Features) -> Float64[np.ndarray, " d"]:
    """The standard deviation of each feature over the rows, in float64; exactly 0 for one that is constant.

    A constant 0.1 has a standard deviation of 1e-17 by rounding: divided by it, it would outweigh all that varies.
    """
    spread = x.std(axis=0, dtype=np.float64)
    return np.where(spread > CONSTANT * np.abs(x).max(axis=0, initial=0), spread, 0.0)


def scales(x: Features) -> Float64[np.ndarray, " d"]:
    """`spreads` to divide by: 1 for features that are constant."""
    found = spreads(x)
    return np.where(found > 0, found, 1.0)


def lacks(name: str, lacking: Sequence[str], over: Sequence[str], table: pd.DataFrame) -> MediError:
    """The error about a set without some columns: over which columns it can be compared, or how it gets the others."""
    columns = ", ".join(lacking)
    common = ",".join(column for column in over if column in table.columns)
    narrower = f"compare over what it has (--over {common}), or " if common and set(lacking) & set(over) else ""
    remedy = f"{narrower}make it again from a source or a plan with {columns}"
    return MediError(f"the {name} table lacks the columns {columns}; {remedy}")


def check_sets(sets: Mapping[str, Embedded], over: Sequence[str]) -> None:
    """Refuse sets that cannot be compared: lacking columns, other numbers a patch, another encoder.

    A column `encoder`, where tables have one, names what made the features: it must be the same in all.
    """
    first = next(iter(sets.values()))
    for name, rows in sets.items():
        if lacking := [column for column in (*over, "sample_id", "slide") if column not in rows.table.columns]:
            raise lacks(name, lacking, over, rows.table)
        if rows.features.shape[1] != first.features.shape[1]:
            raise MediError(
                f"{name}: embeddings {list(rows.features.shape)} do not fit {first.features.shape[1]} numbers a patch; "
                "embed every set again with one encoder"
            )
    made = {name: set(rows.table["encoder"]) for name, rows in sets.items() if "encoder" in rows.table.columns}
    if len(set().union(*made.values())) > 1:
        named = "; ".join(f"{name}: {', '.join(sorted(map(str, found)))}" for name, found in made.items())
        raise MediError(f"features of different encoders cannot be compared ({named}); embed every set with one")
