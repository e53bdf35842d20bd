"""Real patches and levels for the verbs that work with a trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi.core.errors import MediError
from medi.core.lists import split_commas

if TYPE_CHECKING:
    from medi.cohort.schema import Schema
    from medi.cohort.table import Cohort

Patches = Annotated[Path, typer.Argument(metavar="PATCHES", help="A packed cohort, an image, or a folder of images.")]
Known = Annotated[
    list[str] | None,
    typer.Option("--known", metavar="NAME=LEVEL", help="What holds for all patches: class=LUAD,site=X or repeated."),
]


def read_patches(source: Path, schema: "Schema", known: Sequence[str] | None) -> "Cohort":
    """The patches with all columns of the model's schema: as the cohort has them, as `known` says, or not known."""
    from medi.cohort.loose_images import read_any, with_known

    cohort = read_any(source)
    pairs = [text.partition("=") for text in split_commas(known or [])]
    if wrong := [name for name, mark, _ in pairs if not mark]:
        raise MediError(f"--known {wrong[0]!r}: expected NAME=LEVEL, such as class=LUAD")
    return with_known(cohort, schema, {name: level for name, _, level in pairs})


def default_attribute(schema: "Schema") -> str:
    """The first attribute with levels."""
    from medi.cohort.combinations import over

    return over(schema)[-1].name


def levels_of(schema: "Schema", attribute: str, given: list[str]) -> list[str]:
    """The named levels, each once; all of them for `all`."""
    named = list(dict.fromkeys(split_commas(given)))
    known = schema.attribute(attribute).levels
    return list(known) if named == ["all"] and "all" not in known else named
