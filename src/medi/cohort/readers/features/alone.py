"""Files of features that say themselves what their rows are: an AnnData with `obs`, a Parquet or .npz with labels."""

from functools import partial
from pathlib import Path

import pandas as pd

from medi.cohort.readers.features.files import Together, feature_files
from medi.cohort.readers.features.formats import Part, coordinates_in, read_part
from medi.cohort.readers.features.matching import Seen, about, look, said_of
from medi.cohort.readers.guess import column_of
from medi.cohort.readers.normalise import DEFAULTS, Notes, Settings, assemble
from medi.cohort.readers.roles import columns_of, renamed_roles
from medi.cohort.table import SPLITS, Cohort
from medi.core.errors import MediError


def read(
    source: Path,
    label: str | None = None,
    patient: str | None = None,
    slide: str | None = None,
    id: str | None = None,
    settings: Settings = DEFAULTS,
) -> Cohort:
    """A cohort from features whose files have the columns of the table: class, attributes, patient, slide.

    label, patient, slide, id: as in a table; a file without a column of the slide is called like it. A column `split`
    with our names of splits stays.
    """
    notes, together, frames, seen = Notes(), Together(), [], []
    root = source if feature_files(source) != [source] else source.parent
    for file in feature_files(source):
        part = read_part(file)
        together.add(part)
        seen.append(look(part, root, notes, settings))
        frames.append(_rows(part, seen[-1]))
    rows = pd.concat(frames, ignore_index=True)
    named = {"label": label, "patient": patient, "slide": slide, "id": id}
    roles = columns_of(rows.drop(columns=["features", *(coordinates_in(rows) or ())]), named, notes)
    if not roles["label"]:
        raise MediError(
            f"{source}: holds features but no column of the class; name the table that has it: "
            f"`medi audit TABLE --features {source}`"
        )
    table = renamed_roles(rows, roles).assign(features=rows["features"], **_split(rows))
    notes += said_of(together, seen, "by what the files say themselves")
    cohort = assemble(table, source, None, notes, settings, partial(_place, rows))
    return Cohort(cohort.table, cohort.schema, None, {**cohort.info, "features": about(root, together)})


def _rows(part: Part, seen: Seen) -> pd.DataFrame:
    """The usable rows of a file with names, slide and place."""
    rows, stem = part.columns.copy(), part.path.stem
    if not column_of("slide", list(map(str, rows.columns))):
        rows["slide"] = "" if len(rows.columns) else stem
    if "sample_id" not in rows:
        coords = part.coords
        ends = range(len(part)) if coords is None else (f"{x}_{y}" for x, y in coords)
        rows["sample_id"] = [f"{stem}/{end}" for end in ends]
    rows["features"] = [seen.place(row) for row in range(len(part))]
    return rows[seen.usable]


def _split(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """A column of our splits."""
    is_ours = "split" in rows and rows["split"].isin(["", *SPLITS]).all()
    return {"split": rows["split"]} if is_ours else {}


def _place(rows: pd.DataFrame, row: int) -> str:
    return str(rows["features"][row])
