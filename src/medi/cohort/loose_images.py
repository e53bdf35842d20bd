"""Patches that a model is asked about: a packed cohort, one image, or a folder of images without a table."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from medi.cohort.image_fit import read_patches
from medi.cohort.pixels import Pixels
from medi.cohort.readers.files import SUFFIXES, list_images
from medi.cohort.readers.normalise import DEFAULTS, Notes
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError

IMAGES = "images"  # info["source"] of patches that came as image files


def read_any(source: Path) -> Cohort:
    """The patches of a packed cohort, of an image, or of a folder of square images of one size.

    MediError names a cohort that is not packed, and an image that cannot be read or does not fit.
    """
    if (source / "cohort.json").exists():
        return read_packed(source)
    if not source.exists():
        raise MediError(f"{source}: no such file or folder")
    if source.is_file() and not source.name.lower().endswith(SUFFIXES):
        raise MediError(
            f"{source}: is no image ({', '.join(SUFFIXES)}); pack a table first: `medi pack {source} --size ...`"
        )
    return _images(source)


def read_packed(folder: Path, size: int = 64) -> Cohort:
    """A cohort that has pixels; where it has none, the error says how to pack it to `size`."""
    cohort = Cohort.load(folder)
    if cohort.has_features and cohort.pixels is None:
        raise MediError(f"{folder}: {cohort.no_images('this')}")
    if cohort.pixels is None:
        raise MediError(f"{folder}: not packed; `medi pack {folder} --size {size} --out packed` decodes its images")
    return cohort


def with_known(cohort: Cohort, schema: Schema, known: Mapping[str, str]) -> Cohort:
    """The patches with all columns of a schema: as `known` says, else as the cohort has them, else as not known."""
    for name, level in known.items():
        schema.attribute(name).encode([level])
    lacking = {a.name: (*a.missing, "")[0] for a in schema.conditions if a.name not in cohort.table}
    return cohort.with_columns(**(lacking | dict(known)))


def _images(source: Path) -> Cohort:
    names = list_images(source, Notes(), DEFAULTS) if source.is_dir() else [source.name]
    folder = source if source.is_dir() else source.parent
    paths = [folder / name for name in names]
    images = read_patches(paths, list(map(str, paths)))
    table = pd.DataFrame({"sample_id": names, "image": names, "class": "", "patient": "", "slide": "", "split": ""})
    return Cohort(table, Schema(Attribute("class")), Pixels.of(images), {"source": IMAGES, "path": str(source)})
