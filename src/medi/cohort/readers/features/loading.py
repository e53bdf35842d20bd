"""The numbers of a cohort whose table says where its features stand."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from medi.cohort.readers.features.formats import read_part
from medi.cohort.readers.features.matching import MARK
from medi.cohort.table import Cohort
from medi.core.errors import MediError


def load_features(cohort: Cohort) -> Float32[np.ndarray, "n d"]:
    """Features of every patch, in the order of the table.

    MediError for a cohort without them, and for a file that has changed since the table was matched to it.
    """
    if not cohort.has_features:
        raise MediError("this cohort has no features; name them when its table is read (--features)")
    said = cohort.info["features"]
    places = cohort.table["features"].str.rpartition(MARK)
    out = np.empty((len(cohort), said["width"]), dtype=np.float32)
    rows = places[2].astype(np.int64).to_numpy()
    for name, which in places.groupby(0).indices.items():
        _fill(out, np.asarray(which), rows[which], Path(said["root"]) / str(name))
    return out


def _fill(out: np.ndarray, which: np.ndarray, rows: np.ndarray, path: Path) -> None:
    part = read_part(path)
    if part.features.shape[1] != out.shape[1] or rows.max() >= len(part):
        raise MediError(
            f"{path}: has {list(part.features.shape)} numbers; when the table was read it had {out.shape[1]} a row and "
            f"at least {rows.max() + 1} rows; read the table again"
        )
    out[which] = part.features[rows]
    if not np.isfinite(out[which]).all():
        row = int(rows[~np.isfinite(out[which]).all(axis=1)][0])
        raise MediError(f"{path} row {row + 1}: features that are not finite; read the table again")


def same_features(cohorts: Mapping[str, Cohort]) -> tuple[int, str]:
    """The width of the features of several sets and their encoder, "" where none says it.

    MediError where they are not the same in all, naming both.

    Encoder and transform are compared where both sets name them, the width always.
    """
    first, known = next(iter(cohorts)), {name: cohort.info["features"] for name, cohort in cohorts.items()}
    for name, said in known.items():
        for what in ("width", "encoder", "transform"):
            one, other = known[first][what], said[what]
            if one and other and one != other:
                unit = "{} numbers a patch" if what == "width" else f"the {what} {{}}"
                raise MediError(
                    f"{first} ({known[first]['root']}) has {unit.format(one)}, {name} ({said['root']}) "
                    f"{unit.format(other)}: embed every set with one encoder in one way"
                )
    named = [said["encoder"] for said in known.values() if said["encoder"]]
    return known[first]["width"], named[0] if named else ""
