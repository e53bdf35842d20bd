"""PathoROB (Koemen et al. 2025): subset, slide_id, patch_id, biological_class, medical_center; images lie elsewhere."""

from functools import partial
from pathlib import Path

import pandas as pd

from medi.cohort.readers.normalise import DEFAULTS, Notes, Settings, assemble, check_images
from medi.cohort.readers.rows import place_of, read_rows
from medi.cohort.readers.table import filled
from medi.cohort.table import Cohort
from medi.core.errors import MediError

COLUMNS = ("subset", "slide_id", "patch_id", "biological_class", "medical_center")
PATIENT = r"(patient_\d+)"  # CAMELYON slides are patient_<p>_node_<n>; TCGA's patient is in the barcode


def read(source: Path, image: str = "", root: Path | None = None, settings: Settings = DEFAULTS) -> Cohort:
    """The cohort of a PathoROB table.

    image: a template for the image's path below `root` (default: the table's folder), "" for none. The patches of its
    TCGA set are TCGA-UT's: image="{biological_class}/0/{slide_id}/{patch_id}.jpg" with root at that folder.
    """
    source = source / "metadata.csv" if source.is_dir() else source
    rows, notes = read_rows(source), Notes()
    if lacking := [name for name in COLUMNS if name not in rows]:
        raise MediError(f"{source}: no column {', '.join(lacking)}; PathoROB has {', '.join(COLUMNS)}")
    where = partial(place_of, source)
    table = _table(rows)
    if settings.mpp is not None:
        table = table.assign(mpp=settings.mpp)
    if not image:
        notes.append("no images: a table only")
        return assemble(table, source, None, notes, settings, where)
    folder = root or source.parent
    table = check_images(table.assign(image=filled(rows, image)), folder, notes, settings, where)
    return assemble(table, source, folder, notes, settings, where)


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    names = {"biological_class": "class", "slide_id": "slide"}
    patient = rows["slide_id"].str.extract(PATIENT)[0].fillna("").astype("str")
    sample = (rows["slide_id"] + "/" + rows["patch_id"]).astype("str")
    return rows.rename(columns=names).drop(columns="patch_id").assign(patient=patient, sample_id=sample)
