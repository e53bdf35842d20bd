"""Camelyon17-WILDS (Koh et al. 2021): metadata.csv and patches/patient_<p>_node_<n>/patch_..._x_<x>_y_<y>.png."""

from functools import partial
from pathlib import Path

import pandas as pd

from medi.cohort.readers.normalise import DEFAULTS, Notes, Settings, assemble, check_images
from medi.cohort.readers.rows import place_of, read_rows
from medi.cohort.table import Cohort
from medi.core.errors import MediError

COLUMNS = ("patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split")
CLASSES = {"0": "normal", "1": "tumor"}


def read(source: Path, settings: Settings = DEFAULTS) -> Cohort:
    """The cohort of a Camelyon17-WILDS folder (or its metadata.csv): 96 x 96 patches, class normal or tumor.

    Columns: `center` (hospital 0 to 4), `node`; the published `split` is kept as `wilds_split`, as its 0 and 1 (train,
    in-distribution validation) share patients and therefore are no split of ours.
    """
    path = source / "metadata.csv" if source.is_dir() else source
    rows, notes = read_rows(path), Notes()
    if lacking := [name for name in COLUMNS if name not in rows]:
        raise MediError(f"{path}: no column {', '.join(lacking)}; Camelyon17-WILDS has {', '.join(COLUMNS)}")
    where = partial(place_of, path)
    unknown = ~rows["tumor"].isin(CLASSES)
    if unknown.any():
        row = int(rows.index[unknown][0])
        raise MediError(f"{where(row)}: tumor {rows['tumor'][row]!r}, expected 0 or 1")
    table = check_images(_table(rows), path.parent, notes, settings, where)
    if settings.mpp is not None:
        table = table.assign(mpp=settings.mpp)
    return assemble(table, source, path.parent, notes, settings, where)


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    folder = "patient_" + rows["patient"] + "_node_" + rows["node"]
    image = "patches/" + folder + "/patch_" + folder + "_x_" + rows["x_coord"] + "_y_" + rows["y_coord"] + ".png"
    columns = {"class": rows["tumor"].map(CLASSES), "wilds_split": rows["split"], "image": image.astype("str")}
    return rows[["patient", "node", "slide", "center"]].assign(**columns)
