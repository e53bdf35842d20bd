"""Real patches for the verbs that work with a trained model: a packed cohort, one image, or a folder of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi.cli.values import split_commas
from medi.core.errors import MediError

if TYPE_CHECKING:
    from medi.cohort.schema import Schema
    from medi.cohort.table import Cohort

IMAGES = "images"  # info["source"] of patches that came as image files
Patches = Annotated[Path, typer.Argument(metavar="PATCHES", help="A packed cohort, an image, or a folder of images.")]
Known = Annotated[
    list[str] | None,
    typer.Option("--known", metavar="NAME=LEVEL", help="What holds for all patches: class=LUAD,site=X or repeated."),
]


def read_patches(source: Path, schema: "Schema", known: Sequence[str] | None) -> "Cohort":
    """The patches with all columns of the model's schema: as the cohort has them, as `known` says, or not known."""
    cohort = _load(source)
    given = _pairs(known or [], schema)
    for attribute in schema.conditions:
        if attribute.name in given:
            cohort = cohort.with_columns(**{attribute.name: given[attribute.name]})
        elif attribute.name not in cohort.table:
            cohort = cohort.with_columns(**{attribute.name: (*attribute.missing, "")[0]})
    return cohort


def default_attribute(schema: "Schema") -> str:
    """The first attribute with levels."""
    from medi.cohort.combinations import over

    return over(schema)[-1].name


def levels_of(schema: "Schema", attribute: str, given: list[str]) -> list[str]:
    """The named levels, each once; all of them for `all`."""
    named = list(dict.fromkeys(split_commas(given)))
    known = schema.attribute(attribute).levels
    return list(known) if named == ["all"] and "all" not in known else named


def read_packed(folder: Path) -> "Cohort":
    """A cohort that has pixels."""
    from medi.cohort.table import Cohort

    cohort = Cohort.load(folder)
    if cohort.pixels is None:
        raise MediError(f"{folder}: not packed; `medi pack {folder} --size 64 --out packed` decodes its images")
    return cohort


def _pairs(known: Sequence[str], schema: "Schema") -> dict[str, str]:
    pairs = [text.partition("=") for text in split_commas(known)]
    if wrong := [name for name, mark, _ in pairs if not mark]:
        raise MediError(f"--known {wrong[0]!r}: expected NAME=LEVEL, such as class=LUAD")
    for name, _, level in pairs:
        schema.attribute(name).encode([level])
    return {name: level for name, _, level in pairs}


def _load(source: Path) -> "Cohort":
    from medi.cohort.readers.files import SUFFIXES

    if (source / "cohort.json").exists():
        return read_packed(source)
    if not source.exists():
        raise MediError(f"{source}: no such file or folder")
    if source.is_file() and not source.name.lower().endswith(SUFFIXES):
        raise MediError(
            f"{source}: is no image ({', '.join(SUFFIXES)}); pack a table first: `medi pack {source} --size ...`"
        )
    return _images(source)


def _images(source: Path) -> "Cohort":
    import pandas as pd

    from medi.cohort.image_fit import read_patches
    from medi.cohort.pixels import Pixels
    from medi.cohort.readers.files import list_images
    from medi.cohort.readers.normalise import DEFAULTS, Notes
    from medi.cohort.schema import Attribute, Schema
    from medi.cohort.table import Cohort

    names = list_images(source, Notes(), DEFAULTS) if source.is_dir() else [source.name]
    folder = source if source.is_dir() else source.parent
    paths = [folder / name for name in names]
    images = read_patches(paths, list(map(str, paths)))
    table = pd.DataFrame({"sample_id": names, "image": names, "class": "", "patient": "", "slide": "", "split": ""})
    return Cohort(table, Schema(Attribute("class")), Pixels.of(images), {"source": IMAGES, "path": str(source)})
