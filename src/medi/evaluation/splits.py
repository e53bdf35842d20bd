"""Which rows of a cohort train, test and fill: what its columns `split`, `origin` and `fill` mean for a comparison."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.evaluation.features import placed

TRAIN, RESERVE, TESTS = "train", "reserve", ("test_seen", "test_unseen")
ORACLE = "oracle"
YES_OR_NO = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
Combination = tuple[str, ...]  # one level of each column of `over`


def is_split(cohort: Cohort) -> bool:
    """Whether some patches are for training."""
    return "split" in cohort.table and bool((cohort.table["split"] == TRAIN).any())


def training_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows for training where the table is split, else all."""
    split = table["split"].eq(TRAIN) if "split" in table else pd.Series(False, table.index)
    return table[split] if split.any() else table


def has_class(cohort: Cohort) -> Bool[np.ndarray, " n"]:
    """Which patches have a class: the others neither train nor test a classifier, and are no class of their own."""
    return ~cohort.table["class"].isin(["", *cohort.schema.classes.missing]).to_numpy(dtype=bool)


def spelled_alike(cohort: Cohort) -> Cohort:
    """The cohort with "" wherever a level is not known, whatever its spelling there: what measures take for unknown."""
    columns = [one for one in cohort.schema.conditions if one.kind == "categorical" and one.name in cohort.table]
    odd = {one.name: cohort.table[one.name].isin(set(one.missing) - {""}) for one in columns}
    found = {name: cohort.table[name].mask(rows, "") for name, rows in odd.items() if rows.any()}
    return cohort.with_columns(**found) if found else cohort


def check_apart(train: pd.DataFrame, test: pd.DataFrame, trains: str = "", tests: str = "") -> None:
    """Refuse a patient, slide or patch that trains and tests (P5). trains, tests: where, for the message (" in X").

    >>> rows = pd.DataFrame({"patient": ["p1"], "slide": ["s1"], "sample_id": ["a"]})
    >>> check_apart(rows, rows)
    Traceback (most recent call last):
    medi.core.errors.MediError: patient 'p1' trains and tests; split them apart
    """
    for column in ("patient", "slide", "sample_id"):
        if shared := (set(train[column]) & set(test[column])) - {""}:
            raise MediError(f"{column} {min(shared)!r} trains{trains} and tests{tests}; split them apart")


def combinations_of(table: pd.DataFrame, over: Sequence[str]) -> set[Combination]:
    """The combinations that some row has, known levels alone."""
    table = table[placed(table, over)]
    return set(table[list(over)].itertuples(index=False, name=None))


def unseen(cohort: Cohort, over: Sequence[str]) -> frozenset[Combination]:
    """The combinations of a split cohort without a training patch; none where it is not split."""
    table = cohort.table
    return frozenset(combinations_of(table, over) - combinations_of(training_rows(table), over))


def tested_parts(cohort: Cohort, over: Sequence[str]) -> dict[str, Cohort]:
    """The test patches as seen and unseen, and apart those of sites ("unseen_sites") of which training has nothing.

    Parts without patches are left out. MediError where the cohort has no split or no test patch.
    """
    if not is_split(cohort):
        raise MediError("no patch is for training: hold out combinations first (`medi holdout`, Cohort.hold_out)")
    tests = {name.removeprefix("test_"): cohort.where(split=name) for name in TESTS}
    if places := [column for column in over if column != "class"]:
        known, rest = combinations_of(training_rows(cohort.table), places), tests["unseen"]
        new = [place not in known for place in rest.table[places].itertuples(index=False, name=None)]
        which = np.array(new, dtype=bool) & placed(rest.table, places)
        tests |= {"unseen": rest.select(~which), "unseen_sites": rest.select(which)}
    if found := {name: part for name, part in tests.items() if len(part)}:
        return found
    raise MediError(f"no patch is for testing (splits {' and '.join(TESTS)}): hold out combinations")


def added(name: str, cohort: Cohort) -> Cohort:
    """What a set adds to the training rows: the patches that fill combinations, or all where no column says.

    They only train: where a generator's images were packed like any others, their origin is the set and not "real".
    """
    part = cohort.select(_fills(name, cohort.table["fill"])) if "fill" in cohort.table else cohort
    if name == ORACLE:
        return part
    origin = part.table["origin"] if "origin" in part.table else pd.Series("real", part.table.index)
    return part.with_columns(origin=origin.where(origin != "real", name))


def _fills(name: str, values: pd.Series) -> Bool[np.ndarray, " n"]:
    """Which patches fill, also where a table of text says so; MediError where it says something else."""
    if values.dtype == bool:
        return values.to_numpy()
    said = values.astype(str).str.strip().str.casefold().map(YES_OR_NO)
    if said.isna().any():
        odd = values[said.isna()].iloc[0]
        raise MediError(
            f"{name}: its column 'fill' says which patches are added, True or False, not {odd!r}; rename that column"
        )
    return said.to_numpy(dtype=bool)
