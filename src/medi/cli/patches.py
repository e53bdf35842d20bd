"""Real patches for the verbs that work with a trained model: a packed cohort, one image, or a folder of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi.cli.values import split_commas
from medi.core.errors import MediError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

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
    import numpy as np
    import pandas as pd

    from medi.cohort.pixels import Pixels
    from medi.cohort.readers.files import list_images
    from medi.cohort.readers.normalise import DEFAULTS, Notes
    from medi.cohort.schema import Attribute, Schema
    from medi.cohort.table import Cohort

    names = list_images(source, Notes(), DEFAULTS) if source.is_dir() else [source.name]
    folder = source if source.is_dir() else source.parent
    images = [_read(folder / name) for name in names]
    sizes = [image.shape[0] for image in images]
    if odd := [name for name, size in zip(names, sizes) if size != sizes[0]]:
        raise MediError(f"{folder / odd[0]}: has another size than {names[0]} ({sizes[0]} px); pack them to one size")
    table = pd.DataFrame({"sample_id": names, "image": names, "class": "", "patient": "", "slide": "", "split": ""})
    return Cohort(
        table, Schema(Attribute("class")), Pixels.of(np.stack(images)), {"source": IMAGES, "path": str(source)}
    )


def _read(path: Path) -> "UInt8[np.ndarray, 's s 3']":
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from medi.cohort.pixels import to_rgb

    try:
        with Image.open(path) as image:
            pixels = np.asarray(to_rgb(image))
    except (OSError, ValueError, UnidentifiedImageError) as error:
        raise MediError(f"{path}: not readable as an image ({error}); mend or remove it") from error
    if pixels.shape[0] != pixels.shape[1]:
        raise MediError(f"{path}: has {pixels.shape[1]} x {pixels.shape[0]} px, patches must be square; pack it")
    return pixels
