"""TCGA-UT (Komura et al. 2022): <Cancer_type>/<level>/<slide barcode>/<region>_<patch>_<px>.jpg, 256 x 256 pixels.

Level 0 to 5 is 0.5 to 1.0 micrometres per pixel. px is the side of the patch in pixels of the original scan, so the
scan had (256 x micrometres per pixel) / px: 521 px at level 0 is 0.2457 (a 40x scan), 254 px is 0.504 (20x).
"""

from pathlib import Path

import pandas as pd

from medi.cohort.readers.files import list_images
from medi.cohort.readers.normalise import DEFAULTS, Notes, Settings, assemble
from medi.cohort.table import Cohort
from medi.core.errors import MediError

SIDE = 256  # px of every published patch
PATCH = r"(?P<region>\d+)_(?P<patch>\d+)_(?P<px>\d+)"
LAYOUT = rf"^(?P<class>[^/]+)/(?:(?P<level>[0-5])/)?(?P<slide>TCGA-[^/]+)/{PATCH}\.(?:jpg|jpeg|png)$"
FORM = "<Cancer_type>/[<level>/]<slide barcode>/<region>_<patch>_<px>.jpg"


def read(source: Path, level: str = "0", settings: Settings = DEFAULTS) -> Cohort:
    """The cohort of a TCGA-UT folder, with or without level folders.

    level: "0" to "5", or "all"; the levels show the same tissue at different scales. Columns added: `level`, `mpp`,
    `scan_mpp` (of the original scan), and what every TCGA cohort gets from its barcodes.
    """
    if level not in (*"012345", "all"):
        raise MediError(f"level {level!r}: TCGA-UT has the levels 0 to 5, or 'all'")
    notes = Notes()
    names = pd.Series(list_images(source, notes, settings), dtype="str")
    parts = names.str.extract(LAYOUT)
    unmatched = parts["slide"].isna()
    notes.reject([f"{source / n}" for n in names[unmatched]], f"not of the form {FORM}", "move it elsewhere", settings)
    table = parts.fillna("").assign(image=names)[~unmatched]
    table = _at_level(table, level, source, notes)
    return assemble(_with_scale(table), source, source, notes, settings, lambda row: str(source / names[row]))


def _at_level(table: pd.DataFrame, level: str, source: Path, notes: Notes) -> pd.DataFrame:
    """The patches of the level; without level folders all are of level 0."""
    table = table.assign(level=table["level"].where(table["level"] != "", "0"))
    found = sorted(table["level"].unique())
    notes.append(f"levels found: {', '.join(found)}; used: {level}")
    if level != "all":
        table = table[table["level"] == level]
    if table.empty:
        raise MediError(f"{source}: no patches of level {level}; there are {', '.join(found) or 'none'} ({FORM})")
    return table


def _with_scale(table: pd.DataFrame) -> pd.DataFrame:
    mpp = 0.5 + 0.1 * table["level"].astype(int)
    return table.drop(columns=["region", "patch", "px"]).assign(mpp=mpp, scan_mpp=scan_mpp(table["px"], mpp))


def scan_mpp(px: pd.Series, mpp: pd.Series | float = 0.5) -> pd.Series:
    """Micrometres per pixel of the original scan as text with four digits, from the px part of patch names."""
    return (SIDE * mpp / px.astype(float)).map("{:.4f}".format).astype(str)
