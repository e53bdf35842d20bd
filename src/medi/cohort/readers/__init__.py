"""Readers: whatever the field has becomes a Cohort (table and schema; pixels come with packing).

read("tcga_ut", folder), read("table", "metadata.csv", label="diagnosis", attributes=["site"]); what was not said is
guessed, and `cohort.info["notes"]` tells the guesses line by line.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from medi.cohort.readers import folder, pathorob, table, tcga_ut, webdataset, wilds
from medi.cohort.readers.normalise import Settings
from medi.cohort.table import Cohort
from medi.core.errors import MediError, did_you_mean

READERS: dict[str, Callable[..., Cohort]] = {
    "tcga_ut": tcga_ut.read,
    "webdataset": webdataset.read,
    "wilds": wilds.read,
    "pathorob": pathorob.read,
    "table": table.read,
    "folder": folder.read,
}
_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")


def read(kind: str, source: Path, **options: Any) -> Cohort:
    """The cohort of a source. kind: a key of READERS, or "auto".

    options: those of the reader and those of `Settings` (attributes, continuous, missing, ...), side by side.
    """
    kind = guess_kind(source) if kind == "auto" else kind
    if kind not in READERS:
        raise MediError(f"no reader {kind!r}; there are {', '.join(READERS)} and auto{did_you_mean(kind, READERS)}")
    own = set(inspect.signature(READERS[kind]).parameters) - {"source", "settings"}
    general = {field.name for field in fields(Settings)}
    if unknown := set(options) - own - general:
        raise MediError(
            f"reader {kind} has no option {sorted(unknown)[0]!r}; it has {', '.join(sorted(own | general))}"
        )
    settings = Settings(**{name: value for name, value in options.items() if name in general})
    cohort = READERS[kind](source, **{n: v for n, v in options.items() if n in own}, settings=settings)
    return Cohort(cohort.table, cohort.schema, cohort.pixels, {"reader": kind, **cohort.info})


def guess_kind(source: Path) -> str:
    """The reader that fits: by suffix and columns for a file, by what lies in it for a folder."""
    if not source.exists():
        raise MediError(f"{source}: no such file or folder")
    if source.is_dir():
        return _guess_folder(source)
    if source.suffix == ".tar":
        return "webdataset"
    if source.suffix.lower() not in _TABLES:
        raise MediError(f"{source}: expected a folder, a .tar or a table ({', '.join(_TABLES)})")
    if source.suffix.lower() in (".parquet", ".pq"):
        return "table"
    header = source.open(encoding="utf-8", errors="replace").readline()
    if all(name in header for name in pathorob.COLUMNS):
        return "pathorob"
    return "wilds" if all(name in header for name in wilds.COLUMNS) else "table"


def _guess_folder(source: Path) -> str:
    if any(source.glob("*.tar")):
        return "webdataset"
    if (source / "metadata.csv").exists():
        return guess_kind(source / "metadata.csv")
    slides = (name for form in ("*/TCGA-*", "*/[0-5]/TCGA-*") for name in source.glob(form))
    return "tcga_ut" if any(path.is_dir() for path in slides) else "folder"
