"""Which slides there are, what each is called, and which row of the user's table belongs to which.

A slide is a file, or the files of one DICOM series, of which the first stands for all.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from medi.cohort.readers.rows import place_of, read_rows
from medi.cohort.slides.header import COLUMNS
from medi.cohort.slides.opening import HINT
from medi.core.errors import MediError

SUFFIXES = (".svs", ".tif", ".tiff", ".btf", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi")
DICOM = ".dcm"
FILE = ("file", "filename", "slide_file", "wsi", "slide_id", "slide", "image", "path")  # columns that may name it


@dataclass(frozen=True)
class Slide:
    """A slide's file, relative to the folder of all; what it is called; by which names a table may mean it."""

    file: str
    called: str
    known_as: set[str] = field(default_factory=set)


def find_slides(folder: Path) -> list[Slide]:
    """All slides below a folder, by name. MediError where there is none."""
    if not folder.is_dir():
        raise MediError(f"{folder}: no such folder of slides")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if _may_be_slide(path))
    found = [Slide(file, stem(file), _known_as(file)) for file in files if file.lower().endswith(SUFFIXES)]
    found += _dicom_slides(folder, [file for file in files if file.lower().endswith(DICOM)])
    if not found:
        raise MediError(f"{folder}: no slides here ({', '.join((*SUFFIXES, DICOM))})")
    for longer in (_without_suffix, str):  # the path, and where slides differ in their suffix alone the whole file
        twice = {name for name, count in Counter(slide.called for slide in found).items() if count > 1}
        found = [replace(one, called=longer(one.file)) if one.called in twice else one for one in found]
    return sorted(found, key=lambda slide: slide.file)


def _may_be_slide(path: Path) -> bool:
    """Files that other programs hide (such as ._a.svs of macOS) are none."""
    return not path.name.startswith(".") and path.is_file()


def stem(file: str) -> str:
    """The name of a file without its folder and suffix.

    >>> stem("rome/a.ome.tif"), stem("b.1.svs")
    ('a', 'b.1')
    """
    return os.path.basename(_without_suffix(file))


def _without_suffix(file: str) -> str:
    return os.path.splitext(file)[0].removesuffix(".ome")


def _known_as(file: str) -> set[str]:
    return {file, os.path.basename(file), os.path.splitext(os.path.basename(file))[0], stem(file)}


def _dicom_slides(folder: Path, files: Sequence[str]) -> Iterator[Slide]:
    """A slide per series; where it lies alone in a folder of its own, it is called as the folder is."""
    for place, here in groupby(sorted(files, key=os.path.dirname), os.path.dirname):
        series = _by_series(folder, list(here))
        for number, names in series.items():
            alone = len(series) == 1 and place != ""
            called = os.path.basename(place) if alone else stem(names[0])
            known = set().union(*map(_known_as, names)) | {number} | ({place, called} if alone else set())
            yield Slide(names[0], called, known)


def _by_series(folder: Path, files: Sequence[str]) -> dict[str, list[str]]:
    """Files by the number of their series; one that has none is alone, and told of when it is opened."""
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise MediError(f"{folder / files[0]}: is a slide, and pydicom is not installed: {HINT}") from error
    series: dict[str, list[str]] = {}
    for file in files:
        try:
            head = dcmread(folder / file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            number = str(head.get("SeriesInstanceUID", file))
        except (InvalidDicomError, OSError, ValueError, EOFError):
            number = file
        series.setdefault(number, []).append(file)
    return series


# --- the user's table -------------------------------------------------------------------------------------------------


Manifest = tuple[pd.DataFrame, list[Slide], Float64[np.ndarray, " n"]]


def read_manifest(source: Path, folder: Path, column: str | None) -> Manifest:
    """A row per slide, all text, with `slide_file` relative to the folder; the slides; and micrometres per pixel as
    a column `mpp` states them, NaN where it does not.

    source: a table, or the folder itself. MediError names the row.
    """
    slides = find_slides(folder)
    if source.is_dir():
        return pd.DataFrame({"slide_file": [s.file for s in slides]}), slides, np.full(len(slides), np.nan)
    table = read_rows(source)
    column = column or next((name for name in FILE if name in table), None)
    if column is None or column not in table:
        raise MediError(f"{source}: which column names the slide's file? Its columns are {', '.join(table.columns)}")
    if clash := sorted({"slide_file", "sample_id", "x", "y", *COLUMNS} & (set(table.columns) - {column})):
        raise MediError(f"{source}: column {clash[0]!r} is a name of ours; rename it")
    found = _matched(source, table[column], slides)
    stated = _stated(source, table["mpp"]) if "mpp" in table else np.full(len(table), np.nan)
    return table.assign(slide_file=[slide.file for slide in found]), found, stated


def _matched(source: Path, names: pd.Series, slides: Sequence[Slide]) -> list[Slide]:
    """The slide of each name: its path, the last part of it, or that without suffix; of DICOM also folder or series."""
    known: dict[str, list[Slide]] = {}
    for slide in slides:
        for name in slide.known_as:
            known.setdefault(name, []).append(slide)
    found: list[Slide] = []
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        matches = known.get(name.rstrip("/"), [])
        if len(matches) != 1:
            how = f"{len(matches)} files have that name" if matches else "no such slide in the folder"
            raise MediError(f"{place_of(source, row)}: {name!r}: {how}; name its path in the folder, or leave it out")
        first = rows.setdefault(matches[0].file, row)
        if first != row:
            raise MediError(
                f"{place_of(source, row)}: slide {matches[0].file} stands there and at {place_of(source, first)}; "
                "leave one out"
            )
        found += matches
    return found


def _stated(source: Path, texts: pd.Series) -> Float64[np.ndarray, " n"]:
    """Micrometres per pixel, NaN where the field is empty."""
    numbers = pd.to_numeric(texts.mask(texts.str.strip() == ""), errors="coerce").to_numpy(dtype=np.float64)
    wrong = (texts.str.strip() != "").to_numpy() & ~(numbers > 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise MediError(
            f"{place_of(source, row)}: mpp {texts.iloc[row]!r} is no positive number; "
            "write micrometres per pixel such as 0.25, or leave it empty"
        )
    return numbers
