"""A split that came with the data set, taken as the hold-out: WILDS, folds of TCGA, PathoROB.

It is kept as it is. The certificate says whose it is and what leaks in it: patients and slides on two sides, by name.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.cohort.certificate import ASIDE, FORMAT_VERSION, OFFICIAL, Certificate, Leak, evidence
from medi.cohort.combinations import Combinations, over
from medi.cohort.holdout import Holdout
from medi.cohort.schema import Schema
from medi.core.errors import MediError, did_you_mean

SIDES = ("train", "validation", "test", ASIDE)
NAMES = {  # spellings that need no explanation
    "train": ("train", "training", "tr"),
    "validation": ("validation", "valid", "val", "dev", "id_val", "ood_val"),
    "test": ("test", "testing", "ood_test", "id_test"),
}
LISTED = 20  # values that a message names


def official(
    table: pd.DataFrame, schema: Schema, column: str, values: Mapping[str, Sequence[str]], names: Sequence[str] = ()
) -> Holdout:
    """The hold-out that a column says.

    values: which entries are train, validation, test and set_aside; entries called so need not be named, and an empty
    one is set aside. names: columns of the combinations, by default the class and the first attribute; a tested
    combination without a training patch is unseen. MediError for a column or an entry that is not known.
    """
    if column not in table:
        near = did_you_mean(column, table.columns)
        raise MediError(f"no column {column!r} for the split; there are {', '.join(map(str, table.columns))}{near}")
    sides = _sides(table[column], values)
    combinations = Combinations.of(table, over(schema, names))
    trained, tested = (_occurs(combinations, (sides == side).to_numpy()) for side in ("train", "test"))
    unseen = tested & ~trained
    inside = (combinations.index >= 0) & unseen[combinations.index]
    split = sides.where(sides != "test", np.where(inside, "test_unseen", "test_seen"))
    assigned = table.assign(split=split.astype("str"))
    levels = combinations.tuples()
    certificate: Certificate = {
        "format_version": FORMAT_VERSION,
        "rule": {"kind": OFFICIAL, "column": column, "values": {side: list(own) for side, own in values.items()}},
        "seed": 0,
        "columns": list(combinations.columns),
        "missing": {name: list(schema.attribute(name).missing) for name in combinations.columns},
        "combinations": len(combinations),
        "held_out": [list(levels[i]) for i in np.flatnonzero(unseen)],
        "emptied": [],
        "untrained_classes": sorted(set(table["class"]) - set(table["class"][sides == "train"])),
        "leaks": [*leaks(assigned, "patient"), *leaks(assigned, "slide")],
        **evidence(assigned, ["sample_id", "patient", "slide", *(a.name for a in schema.conditions)]),
    }
    return Holdout(assigned[["sample_id", "split"]].astype("str").reset_index(drop=True), certificate)


def _occurs(combinations: Combinations, rows: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " k"]:
    """Which combinations have one of these rows."""
    index = combinations.index[rows & (combinations.index >= 0)]
    return np.bincount(index, minlength=len(combinations)) > 0


def _sides(entries: pd.Series, values: Mapping[str, Sequence[str]]) -> pd.Series:
    """The side of each row."""
    if unknown := [side for side in values if side not in SIDES]:
        raise MediError(f"split values: {unknown[0]!r} is no side; there are {', '.join(SIDES)}")
    known = {"": ASIDE, **{name: side for side, names in NAMES.items() for name in names}}
    found = [str(entry) for entry in entries.unique()]
    said = {str(entry): side for side, own in values.items() for entry in own}
    if strange := [entry for entry in said if entry not in found]:
        raise MediError(f"split values: no row has {strange[0]!r}; there are {', '.join(sorted(found)[:LISTED])}")
    side_of = {entry: said.get(entry, known.get(entry.strip().casefold(), "")) for entry in found}
    if lacking := sorted(entry for entry, side in side_of.items() if not side):
        raise MediError(
            f"column {entries.name!r} has {', '.join(lacking[:LISTED])}: say what each is, such as --split-values "
            f"train={lacking[0]} --split-values test={lacking[-1]}"
        )
    sides = entries.astype(str).map(side_of)
    if lost := [side for side in ("train", "test") if not (sides == side).any()]:
        raise MediError(f"column {entries.name!r} has no row for {lost[0]}; say which entries are (--split-values)")
    return sides


def leaks(table: pd.DataFrame, column: str) -> Iterator[Leak]:
    """Which patients or slides have patches on two sides, by the sides: those of what is set aside do not count."""
    side = table["split"].replace(dict.fromkeys(("test_seen", "test_unseen"), "test"))
    pairs = pd.DataFrame({"name": table[column].astype(str), "side": side})[side != ASIDE].drop_duplicates()
    sides = pairs.sort_values("side").groupby("name", sort=True)["side"].agg(tuple)
    for on in sorted({found for found in sides if len(found) > 1}):
        yield {"unit": column, "sides": list(on), "names": list(sides.index[sides.map(lambda f, on=on: f == on)])}


def sentences(certificate: Certificate) -> Iterator[str]:
    """What a reader of the certificate must know: whose split it is, and each leak with its names."""
    rule = certificate["rule"]
    if rule["kind"] != OFFICIAL:
        return
    yield f"the split is the data set's own (column {rule['column']}), not made here"
    for leak in certificate.get("leaks", []):
        names, count = ", ".join(leak["names"][:LISTED]), len(leak["names"])
        more = ", ..." if count > LISTED else ""
        verb = "is" if count == 1 else "are"
        yield f"{count:,} {leak['unit']}{'s' * (count != 1)} {verb} in {' and '.join(leak['sides'])}: {names}{more}"
