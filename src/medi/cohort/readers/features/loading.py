"""The numbers of a cohort whose table says where its features stand."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

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


def load_coordinates(cohort: Cohort) -> Float64[np.ndarray, "n 2"]:
    """Where every patch lies in its slide, in the pixels of its file of features; NaN where that does not say it."""
    out = np.full((len(cohort), 2), np.nan)
    places = cohort.table["features"].str.rpartition(MARK)
    rows = places[2].astype(np.int64).to_numpy()
    for name, which in places.groupby(0).indices.items():
        part = read_part(Path(cohort.info["features"]["root"]) / str(name))
        if part.coords is not None:
            out[np.asarray(which)] = part.coords[rows[which]]
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


def not_compared(cohorts: Mapping[str, Cohort]) -> tuple[str, ...]:
    """One line about what several sets of features do not record, so that it could not be compared; none otherwise."""
    if len(cohorts) < 2:
        return ()
    known = {name: cohort.info["features"] for name, cohort in cohorts.items()}
    lacking = {what: [name for name in known if not known[name][what]] for what in ("encoder", "transform")}
    parts = [f"the {what} of {', '.join(names)}" for what, names in lacking.items() if names]
    if not parts:
        return ()
    unknown = " and ".join(parts)
    return (f"Files of features do not record {unknown}: whether all sets were made in one way is not known.",)


def same_features(cohorts: Mapping[str, Cohort]) -> tuple[int, str]:
    """The width of the features of several sets and their encoder, "" where none says it.

    MediError where they are not the same in all, naming both.

    Encoder and transform are compared where both sets name them, the width always.
    """
    known = {name: cohort.info["features"] for name, cohort in cohorts.items()}
    first: dict[str, str] = {}
    for name, what in product(known, ("width", "encoder", "transform")):
        if not (found := known[name][what]):
            continue
        other = first.setdefault(what, name)
        if found != (before := known[other][what]):
            unit = "{} numbers a patch" if what == "width" else f"the {what} {{}}"
            raise MediError(
                f"{other} ({known[other]['root']}) has {unit.format(before)}, {name} ({known[name]['root']}) "
                f"{unit.format(found)}: embed every set with one encoder in one way"
            )
    return known[first["width"]]["width"], known[first["encoder"]]["encoder"] if "encoder" in first else ""
