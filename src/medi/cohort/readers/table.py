"""Any table with a row per patch, or per slide where there are no images (P6: all text): see `forms.TABLES`."""

import string
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from medi.cohort.readers.datasets import read_folder
from medi.cohort.readers.features.formats import coordinates_in
from medi.cohort.readers.forms import PLAIN, Form
from medi.cohort.readers.names import columns_named, in_our_words, renamed
from medi.cohort.readers.normalise import (
    DEFAULTS,
    KNOWN_ATTRIBUTES,
    Notes,
    Settings,
    assemble,
    check_images,
)
from medi.cohort.readers.roles import OURS, column_named, columns_of, renamed_roles, with_official
from medi.cohort.readers.rows import place_of, read_rows
from medi.cohort.table import Cohort
from medi.core.errors import MediError


def read(
    source: Path,
    image: str | None = None,
    label: str | None = None,
    patient: str | None = None,
    slide: str | None = None,
    id: str | None = None,
    root: Path | None = None,
    sheet: str | None = None,
    query: str | None = None,
    encoding: str | None = None,
    settings: Settings = DEFAULTS,
) -> Cohort:
    """A cohort from anyone's table, from the metadata.csv of a folder, or from a folder of Hugging Face `datasets`.

    image: the column with the image's path relative to `root` (default: the table's folder), or a template over
    columns ("{slide}/{patch}.png"); "" for none. label, patient, slide, id: columns; "" for none; None: guessed.
    sheet: of a spreadsheet (by default the first), or the table of a database; query: SQL that a database answers;
    encoding: of a text table that is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    source = source / "metadata.csv" if (source / "metadata.csv").exists() else source
    named, form = {"label": label, "patient": patient, "slide": slide, "id": id}, Form(sheet, query, encoding)
    rows, told = rows_of(source, _asked_for(settings, [image, *named.values()]), form)
    notes = Notes(told)
    rows, settings = renamed(rows, settings)
    roles = columns_of(rows, named, notes)
    where = partial(place_of, source, form=form)
    settings = in_our_words(settings, {column: OURS[role] for role, column in roles.items() if column})
    rows = with_official(rows, settings)
    table = renamed_roles(rows, roles).assign(
        **_image_column(rows, image, notes, settings), **_mpp_column(rows, settings, where)
    )
    if "image" not in table:
        return assemble(_named_after_slide(table, source, settings), source, None, notes, settings, where)
    folder = root or source.parent
    table = check_images(table, folder, notes, settings, where)
    return assemble(table, source, folder, notes, settings, where)


def rows_of(source: Path, named: Collection[str] = (), form: Form = PLAIN) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a table or of a folder of a dataset, all text, and notes on what is left out."""
    if not source.is_dir():
        return read_rows(source, named, form), []
    form.check(source.name, "a folder")
    return read_folder(source)


def _asked_for(settings: Settings, named: Sequence[str | None]) -> set[str]:
    """The columns that options name, those of a template of paths too."""
    fields = [name for text in named if text for _, name, _, _ in string.Formatter().parse(text) if name]
    attributes = columns_named(settings.attributes or KNOWN_ATTRIBUTES)
    missing = settings.missing if isinstance(settings.missing, Mapping) else ()
    return {*filter(None, named), *fields, *attributes, *missing, *settings.group_rare}


def _mpp_column(rows: pd.DataFrame, settings: Settings, where: Callable[[int], str]) -> dict[str, pd.Series | float]:
    """Micrometres per pixel: as the user says, else the table's numbers (NaN where empty)."""
    if settings.mpp is not None or "mpp" not in rows:
        return {} if settings.mpp is None else {"mpp": settings.mpp}
    numbers = pd.to_numeric(rows["mpp"].where(rows["mpp"] != ""), errors="coerce").astype(float)
    broken = (rows["mpp"] != "") & ~(numbers > 0)
    if broken.any():
        row = int(rows.index[broken][0])
        raise MediError(f"{where(row)}: mpp {rows['mpp'][row]!r} is no positive number; mend it or leave it empty")
    return {"mpp": numbers}


def _image_column(rows: pd.DataFrame, image: str | None, notes: Notes, settings: Settings) -> dict[str, pd.Series]:
    if image is not None and "{" in image:
        return {"image": filled(rows, image)}
    column = column_named(rows, "image", image, notes)
    if settings.features is not None and image is None and column and not rows[column].is_unique:
        return {}  # it names no sample, and images are not needed
    return {"image": rows[column]} if column else {}


def filled(rows: pd.DataFrame, template: str) -> pd.Series:
    """The template with each row's fields, by whole columns."""
    text = pd.Series("", index=rows.index, dtype=object)
    for literal, name, _, _ in string.Formatter().parse(template):
        if name is not None and name not in rows:
            raise MediError(f"no column {name!r} for {template!r}; the columns are {', '.join(map(str, rows.columns))}")
        text = text + literal + (rows[name].astype(object) if name else "")
    return text.astype(str)


def _named_after_slide(table: pd.DataFrame, source: Path, settings: Settings) -> pd.DataFrame:
    """Without images a row is a slide (or has an id of its own); with features it may be a patch of one."""
    if "sample_id" in table:
        return table
    if "slide" not in table:
        raise MediError(f"{source}: no column for the image, the slide or an id; name one")
    if settings.features is None or table["slide"].is_unique:
        return table.assign(sample_id=table["slide"])
    names = coordinates_in(table)
    ends = table[names[0]] + "_" + table[names[1]] if names else table.groupby("slide").cumcount().astype(str)
    return table.assign(sample_id=table["slide"] + "/" + ends)
