"""Readers: whatever the field has becomes a Cohort (table and schema; pixels come with packing).

read(folder), read("metadata.csv", label="diagnosis", attributes=["site"]). What was not said is guessed, and
`cohort.notes` tells the guesses line by line. `medi.register("reader", name)` adds a reader.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from medi.cohort.readers import folder, pathorob, table, tcga_ut, webdataset, wilds
from medi.cohort.readers.datasets import data_files
from medi.cohort.readers.features import alone
from medi.cohort.readers.features.files import all_features, is_zarr
from medi.cohort.readers.features.formats import SUFFIXES
from medi.cohort.readers.features.matching import attach
from medi.cohort.readers.forms import TABLES, TEXT
from medi.cohort.readers.normalise import Settings
from medi.cohort.readers.text_tables import header_of
from medi.cohort.table import Cohort
from medi.core.errors import MediError, did_you_mean
from medi.core.registry import Registry, registry

READERS: Registry[Callable[..., Cohort]] = registry("reader")
_OURS: dict[str, Callable[..., Cohort]] = {
    "tcga_ut": tcga_ut.read,
    "webdataset": webdataset.read,
    "wilds": wilds.read,
    "pathorob": pathorob.read,
    "table": table.read,
    "folder": folder.read,
    "features": alone.read,
}
for _name, _reader in _OURS.items():
    READERS.add(_name, _reader)
ARCHIVES = (".zip", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
PATHS = ("root", "clinical", "sites", "features")  # options that name files or folders


def read(source: str | Path, kind: str = "auto", **options: Any) -> Cohort:
    """The cohort of a table, a folder, an archive or a packed cohort: its table and schema; pixels come with packing.

    kind: a reader's name, or "auto". options: those of the reader (for a table: image, label, patient, slide, id, root,
    sheet, query, encoding)
    and those of `Settings` (attributes, continuous, missing, group_rare, classes, mpp, ...), side by side. What was not
    said is guessed; `cohort.notes` tells the guesses line by line. MediError names the file, the row or the option.

    >>> import medi, pathlib, tempfile
    >>> table = pathlib.Path(tempfile.mkdtemp()) / "slides.csv"
    >>> _ = table.write_text("slide,case,diagnosis,site\\ns1,p1,A,Rome\\ns2,p2,B,Oslo\\n")
    >>> cohort = medi.read(table, label="diagnosis", attributes=["site"], patient="case")
    >>> len(cohort), [attribute.name for attribute in cohort.schema.conditions]
    (2, ['class', 'site'])
    """
    source = Path(source)
    if kind == "auto" and (source / "cohort.json").exists():
        return with_features(Cohort.load(source), options.get("features"))
    kind = guess_kind(source) if kind == "auto" else kind
    if kind not in READERS:
        raise MediError(f"no reader {kind!r}; there are {', '.join(READERS)} and auto{did_you_mean(kind, READERS)}")
    own = set(inspect.signature(READERS[kind]).parameters) - {"source", "settings"}
    general = {field.name for field in fields(Settings)}
    if unknown := set(options) - own - general:
        name, known = sorted(unknown)[0], sorted(own | general)
        raise MediError(f"reader {kind} has no option {name!r}; it has {', '.join(known)}{did_you_mean(name, known)}")
    options |= {name: Path(options[name]) for name in PATHS if isinstance(options.get(name), str)}
    settings = Settings(**{name: value for name, value in options.items() if name in general})
    cohort = READERS[kind](source, **{n: v for n, v in options.items() if n in own}, settings=settings)
    cohort = Cohort(cohort.table, cohort.schema, cohort.pixels, {"reader": kind, **cohort.info})
    return with_features(cohort, settings.features, settings.on_error)


def with_features(cohort: Cohort, path: str | Path | None, on_error: Literal["fail", "skip"] = "fail") -> Cohort:
    """The cohort, with the features of a file or folder where one is named."""
    return cohort if path is None else attach(cohort, Path(path), Settings(on_error=on_error))


def opened(path: Path, **options: Any) -> Cohort:
    """A cohort's folder, or features that say themselves what they are of. options: as of `read`, for the latter."""
    is_cohort = (path / "cohort.json").exists() or not path.exists()
    if is_cohort or guess_kind(path) not in ("features", "table"):
        return Cohort.load(path)
    return read(path, "features", **options)


def guess_kind(source: Path) -> str:
    """The reader that fits: by suffix and columns for a file, by what lies in it for a folder."""
    if not source.exists():
        raise MediError(f"{source}: no such file or folder")
    if source.is_dir():
        return "features" if is_zarr(source) else _guess_folder(source)
    if source.suffix == ".tar":
        return "webdataset"
    if source.name.lower().endswith(ARCHIVES):
        raise MediError(f"{source}: is an archive; unpack it and give its folder (a plain .tar is read as webdataset)")
    if source.suffix.lower() in SUFFIXES and source.suffix.lower() not in TABLES:
        return "features"
    if source.suffix.lower() not in TABLES:
        raise MediError(f"{source}: expected a folder, a .tar or a table ({', '.join(TABLES)})")
    if source.suffix.lower() not in TEXT:
        return "table"
    header = header_of(source)
    if all(name in header for name in pathorob.COLUMNS):
        return "pathorob"
    return "wilds" if all(name in header for name in wilds.COLUMNS) else "table"


def _guess_folder(source: Path) -> str:
    if any(source.glob("*.tar")):
        return "webdataset"
    if (source / "metadata.csv").exists():
        return guess_kind(source / "metadata.csv")
    if data_files(source):
        return "table"
    if all_features(source):
        return "features"
    slides = (name for form in ("*/TCGA-*", "*/[0-5]/TCGA-*") for name in source.glob(form))
    return "tcga_ut" if any(path.is_dir() for path in slides) else "folder"
