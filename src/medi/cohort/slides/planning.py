"""From a manifest of slides to a table with a row for every patch, which audit, hold-out and packing read as any other.

Nothing is decoded but what the rule for tissue looks at: packing reads the patches straight from the slides.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from medi.cohort.slides.header import COLUMNS, header_of, mpp_of, without_serial
from medi.cohort.slides.manifest import Slide, read_manifest
from medi.cohort.slides.opening import open_slide
from medi.cohort.slides.places import Places, by_outlines, by_tissue, from_h5
from medi.core.codes import key_of
from medi.core.errors import MediError
from medi.core.files import write_atomic, write_table
from medi.core.processes import Pool
from medi.core.progress import Advance, unheard
from medi.core.seeds import generator
from medi.core.settings import validated

OUTLINES, COORDINATES = (".geojson", ".json"), (".h5", ".hdf5")
TOLERANCE = 0.02  # of the micrometres per pixel, within which a level is used as it is
PATCHES, SLIDES = "patches.parquet", "slides.csv"


@validated
@dataclass(frozen=True)
class Field:
    """Which patches of a slide: size x size pixels of `mpp` micrometres each.

    mpp: None takes the field that coordinates have, or the finest level's pixels as they are. places: a folder with a
    .h5 file (CLAM, TRIDENT) or a GeoJSON file (QuPath) per slide, of the slide's name; without it patches lie where
    at least `tissue` of a square shows tissue. most: at most so many patches of a slide, at random by the seed; 0: all.
    keep_ids: serial numbers of scanners as they are, not codes of them (`core.codes`).
    """

    size: int
    mpp: float | None = None
    places: Path | None = None
    tissue: float = 0.5
    most: int = 0
    keep_ids: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or (self.mpp is not None and not self.mpp > 0):
            raise MediError(f"size {self.size}, mpp {self.mpp}: both are positive")
        if not 0 < self.tissue <= 1 or self.most < 0:
            raise MediError(f"tissue {self.tissue:g} is a share above 0, up to 1; most {self.most} is 0 or more")


@dataclass(frozen=True)
class Found:
    """A slide's header, its patches and their micrometres per pixel; or why it cannot be used."""

    number: int
    header: dict[str, str]
    places: Places | None = None
    mpp: float = float("nan")
    reason: str = ""


def plan_slides(
    source: Path,
    folder: Path,
    out: Path,
    field: Field,
    column: str | None = None,
    workers: int = 1,
    on_error: Literal["fail", "skip"] = "fail",
    progress: Advance = unheard,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The patches of all slides and the slides themselves, written to out/patches.parquet and out/slides.csv.

    source: a table with a row per slide, whose `column` names the file in `folder` with or without its suffix, or a
    folder of slides. patches: the table's columns, sample_id, slide, image, x, y, mpp, and those of the header.
    Returns also what was left out, with on_error="skip". MediError names the slide.
    """
    table, known, stated = read_manifest(source, folder, column)
    tasks = [
        (i, folder / slide.file, slide.called, None if np.isnan(mpp) else float(mpp), field)
        for i, (slide, mpp) in enumerate(zip(known, stated))
    ]
    found: dict[int, Found] = {}
    with Pool(max(1, min(workers, len(tasks)))) as pool:
        for one in pool.map(plan_slide, tasks):
            if one.reason and on_error == "fail":
                raise MediError(f"{one.reason}; on_error skip leaves such slides out")
            found[one.number] = one
            progress(len(found), len(tasks))
    slides = [found[i] for i in range(len(tasks))]
    if not any(one.places is not None and len(one.places.corners) for one in slides):
        raise MediError(f"{source}: no slide gives a patch; {slides[0].reason or 'lower the share of tissue'}")
    if not field.keep_ids:
        key = key_of(out)
        slides = [replace(one, header=without_serial(one.header, key)) for one in slides]
    used = [one for one in slides if one.places is not None and len(one.places.corners)]
    patches = _patches(table, used, known, os.path.relpath(folder.resolve(), out.resolve()), field)
    about = _about(table, slides)
    write_table(out / PATCHES, patches)
    write_atomic(out / SLIDES, partial(about.to_csv, index=False))
    return patches, about, [one.reason for one in slides if one.reason]


def plan_slide(number: int, path: Path, called: str, stated: float | None, field: Field) -> Found:
    """One slide, as a worker reads it; its failure is its own. called: its name, as that of its file of places."""
    header: dict[str, str] = {}
    try:
        with open_slide(path) as slide:
            header = header_of(slide)
            finest = mpp_of(slide, path, stated)
            places = _placed(slide, path, called, finest, field)
            _check_inside(places, slide, path)
    except MediError as error:
        return Found(number, header, reason=str(error))
    except Exception as error:  # whatever a library throws at a broken slide, it is that slide's
        return Found(number, header, reason=f"{path}: not readable as a slide ({error})")
    return Found(number, header, _drawn(places, path, field), finest * places.side / field.size)


def _placed(slide: object, path: Path, called: str, finest: float, field: Field) -> Places:
    """Where the patches lie, at the wanted field."""
    side = field.size if field.mpp is None else _side(field.size, field.mpp, finest)
    if field.places is None:
        return by_tissue(slide, side, field.tissue)
    file = _file_of(field.places, path, os.path.basename(called))
    if file.suffix in OUTLINES:
        return by_outlines(file, slide, side)
    places = from_h5(file, slide)
    if field.mpp is None or places.side == side:
        return places
    corners = places.corners + round((places.side - side) / 2)  # the same middle
    return Places(corners, side, places.names)


def _side(size: int, mpp: float, finest: float) -> int:
    """Pixels of the finest level that a patch spans; `size` of them where the level is as fine as wanted."""
    return size if abs(mpp / finest - 1) <= TOLERANCE else round(size * mpp / finest)


def _file_of(places: Path, slide: Path, called: str) -> Path:
    """The file with the places of a slide: of its name, or of the name that TRIDENT gives it."""
    stems = (called, f"{called}_patches", slide.stem, f"{slide.stem}_patches", slide.name)
    known = [places / f"{stem}{suffix}" for stem in stems for suffix in (*COORDINATES, *OUTLINES)]
    found = next((path for path in known if path.exists()), None)
    if found is None:
        raise MediError(f"{slide}: {places} has no file of its name ({known[0].name}, {called}{OUTLINES[0]} ...)")
    return found


def _check_inside(places: Places, slide: object, path: Path) -> None:
    width, height = slide.dimensions  # type: ignore[attr-defined]
    ends = places.corners + places.side
    outside = (places.corners < 0).any(axis=1) | (ends[:, 0] > width) | (ends[:, 1] > height)
    if outside.any():
        x, y = places.corners[int(np.argmax(outside))].tolist()
        raise MediError(
            f"{path}: {int(outside.sum()):,} of {len(outside):,} patches of {places.side} pixels lie outside the slide "
            f"({width} x {height} pixels), the first at ({x}, {y}); are these of another slide or level?"
        )


def _drawn(places: Places, path: Path, field: Field) -> Places:
    """At most the wanted number of patches, in the slide's order."""
    n = len(places.corners)
    if not 0 < field.most < n:
        return places
    kept = np.sort(generator("slides", field.seed, path.name).permutation(n)[: field.most])
    return Places(places.corners[kept], places.side, [places.names[i] for i in kept])


# --- tables -----------------------------------------------------------------------------------------------------------


def _patches(
    table: pd.DataFrame, used: Sequence[Found], slides: Sequence[Slide], folder: str, field: Field
) -> pd.DataFrame:
    """A row per patch; images are named by paths relative to the folder of the table. folder: that of the slides."""
    counts = [len(one.places.corners) for one in used if one.places]
    rows = np.repeat([one.number for one in used], counts)
    corners = np.concatenate([one.places.corners for one in used if one.places])
    sides = np.repeat([one.places.side for one in used if one.places], counts)
    x, y = (pd.Series(axis).astype(str) for axis in corners.T)
    near = [os.path.join(folder, slide.file).replace(os.sep, "/") for slide in slides]
    head = pd.Series(near, dtype=str).iloc[rows].reset_index(drop=True)
    name = pd.Series([slide.called for slide in slides], dtype=str).iloc[rows].reset_index(drop=True)
    found = table.drop(columns=["mpp", "slide_file"], errors="ignore").iloc[rows].reset_index(drop=True)
    header = pd.DataFrame([one.header for one in used], columns=list(COLUMNS))
    header = header.iloc[np.repeat(np.arange(len(used)), counts)].reset_index(drop=True)
    side = pd.Series(sides).astype(str)
    own = {
        "sample_id": name + "_" + x + "_" + y,
        "slide": name,
        "image": head + "#" + x + "," + y + "," + side + f",{field.size}",
        "x": x,
        "y": y,
        "mpp": np.repeat([one.mpp for one in used], counts),
    }
    labels = [label for one in used if one.places for label in one.places.names]
    own |= {"annotation": labels} if any(labels) else {}
    found = found.drop(columns=[column for column in own if column in found])
    return pd.concat([pd.DataFrame(own), found, header], axis=1)


def _about(table: pd.DataFrame, slides: Sequence[Found]) -> pd.DataFrame:
    """A row per slide: the manifest, the header, how many patches, and why there are none."""
    header = pd.DataFrame([one.header for one in slides], columns=list(COLUMNS), index=table.index).fillna("")
    patches = [len(one.places.corners) if one.places else 0 for one in slides]
    return pd.concat([table, header], axis=1).assign(patches=patches, reason=[one.reason for one in slides])
