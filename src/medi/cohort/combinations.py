"""Integer codes of the schema's columns and of their combinations: what audit, hold-out and plan count with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import slides_in_turn
from medi.core.errors import MediError

Ids = Int64[np.ndarray, " n"]


def over(schema: Schema, names: Sequence[str] = ()) -> tuple[Attribute, ...]:
    """The named categorical conditions; without names the class and the first categorical attribute."""
    if not names:
        return (schema.classes, *[a for a in schema.attributes if a.kind == "categorical"][:1])
    chosen = tuple(schema.attribute(name) for name in names)
    if numbers := [a.name for a in chosen if a.kind == "continuous"]:
        raise MediError(f"combinations need levels, but {', '.join(numbers)} is continuous; bin it into a new column")
    return chosen


def at_most(table: pd.DataFrame, names: Sequence[str], n: int) -> Int64[np.ndarray, " k"]:
    """Positions of at most n rows of each combination of these columns, of as many slides as there are, in order."""
    order = slides_in_turn(table, names)
    return np.sort(order[(table.iloc[order].groupby(list(names)).cumcount() < n).to_numpy()])


def level_ids(table: pd.DataFrame, attribute: Attribute) -> Ids:
    """`attribute.encode` for long columns: each distinct value is looked up once. -1 where not known."""
    if attribute.name not in table.columns:
        raise MediError(f"the table has no column {attribute.name!r}; it has {', '.join(map(str, table.columns))}")
    codes, found = pd.factorize(table[attribute.name], use_na_sentinel=False)
    try:
        return attribute.encode(pd.Series(found, dtype=object))[codes]
    except MediError:
        return attribute.encode(table[attribute.name])  # the whole column, so that the error names the row


def joint_ids(codes: Sequence[Ids]) -> tuple[Ids, Int64[np.ndarray, " k"]]:
    """Number the combinations that occur, in level order.

    Returns the combination of each row [n], -1 where any code is -1, and the first row of each combination [k].
    """
    known = np.logical_and.reduce([code >= 0 for code in codes])
    if not known.all():
        rows = np.flatnonzero(known)
        ids = np.full(len(known), -1, dtype=np.int64)
        ids[rows], first = joint_ids([code[rows] for code in codes])
        return ids, rows[first]
    joint, size = np.zeros(len(known), dtype=np.int64), 1
    for code in codes:
        levels = int(code.max(initial=0)) + 1
        if size * levels > 2**62:  # the product of many sizes would overflow
            joint = dense_ids(joint)
            size = int(joint.max()) + 1
        joint, size = joint * levels + code, size * levels
    joint = dense_ids(joint)
    first = np.zeros(joint.max(initial=-1) + 1, dtype=np.int64)
    first[joint[::-1]] = np.arange(len(joint))[::-1]
    return joint, first


def dense_ids(values: Ids) -> Ids:
    """0, 1, 2, ... for the distinct non-negative values in ascending order."""
    top = int(values.max(initial=0))
    if top < 16 * len(values):  # a table of flags is faster than hashing while it is small
        occurs = np.zeros(top + 1, dtype=bool)
        occurs[values] = True
        return (np.cumsum(occurs, dtype=np.int32)[values] - 1).astype(np.int64)
    return pd.factorize(values, sort=True)[0].astype(np.int64, copy=False)


def text_ids(table: pd.DataFrame, column: str) -> tuple[Ids, pd.Index]:
    """Ids and names of the distinct entries of an id column, in sorted order; an empty entry is an error."""
    ids, names = pd.factorize(table[column], sort=True, use_na_sentinel=False)
    if blank := [name for name in names if name == "" or name != name]:
        row = int(np.argmax(ids == names.get_loc(blank[0])))
        raise MediError(f"row {row} has no {column}; patients must be known to keep them apart: fill the column")
    return ids.astype(np.int64, copy=False), pd.Index(names)


@dataclass(frozen=True)
class Combinations:
    """The k non-empty combinations of some columns, in level order, and the combination of each of n rows.

    levels: one row per combination, text; index: -1 where a row's level is not known.
    """

    levels: pd.DataFrame
    index: Ids

    @classmethod
    def of(cls, table: pd.DataFrame, attributes: Sequence[Attribute]) -> "Combinations":
        """The combinations of the attributes that occur in a table."""
        index, first = joint_ids([level_ids(table, attribute) for attribute in attributes])
        levels = table[[a.name for a in attributes]].iloc[first].astype("str").reset_index(drop=True)
        return cls(levels, index)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are combined."""
        return tuple(self.levels.columns)

    def __len__(self) -> int:
        return len(self.levels)

    def tuples(self) -> list[tuple[str, ...]]:
        """The levels of each combination [k], as text."""
        return list(self.levels.itertuples(index=False, name=None))


def counts(table: pd.DataFrame, schema: Schema) -> dict[str, list]:
    """How many rows each combination of the categorical conditions has, missing ones as written: columns and rows
    [level, ..., n], as plain lists for JSON; and under "always" the continuous ones that every row has, if any."""
    columns = [a.name for a in schema.conditions if a.kind == "categorical"]
    found = table.groupby(columns, sort=True, dropna=False, observed=True).size()
    keys = found.index.to_frame(index=False).astype("str").to_numpy().tolist()
    numbers = [a for a in schema.conditions if a.kind == "continuous"]
    always = [a.name for a in numbers if not table[a.name].isin(a.missing).any()]
    counted: dict[str, list] = {"columns": columns, "rows": [[*key, int(n)] for key, n in zip(keys, found)]}
    return {**counted, "always": always} if always else counted
