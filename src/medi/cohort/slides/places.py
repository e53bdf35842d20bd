"""Where the patches of a slide lie: coordinates of CLAM or TRIDENT, outlines of GeoJSON, or tissue by a rule.

The rule: the slide is laid out in squares of the wanted field that do not overlap. A square counts where at least a
given share of its pixels shows tissue (`medi.cohort.optics`), seen at a level where it has at least 8 pixels a side.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from medi.cohort.optics import optical_density, shows_tissue
from medi.cohort.slides.region import on_white
from medi.core.errors import MediError

SEEN = 8  # pixels a side at which tissue is looked for
Corners = Int64[np.ndarray, "n 2"]  # x, y at the finest level
SIDES = ("patch_size_level0", "patch_size")  # attributes of TRIDENT's and CLAM's coordinates
LEVEL, LEVEL_DIMENSIONS = "patch_level", "level_dim"  # CLAM's
DIMENSIONS = ("level0_width", "level0_height")  # TRIDENT's
STATED = (*SIDES, LEVEL, LEVEL_DIMENSIONS, *DIMENSIONS)


@dataclass(frozen=True)
class Places:
    """Upper left corners and side of a slide's patches in pixels of its finest level, and a name, or "", for each."""

    corners: Corners
    side: int
    names: list[str]


def grid(width: int, height: int, side: int) -> Corners:
    """All whole squares of a slide, row by row.

    >>> grid(5, 4, 2).tolist()
    [[0, 0], [2, 0], [0, 2], [2, 2]]
    """
    y, x = np.mgrid[0 : height // side, 0 : width // side]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64) * side


def by_tissue(slide: Any, side: int, share: float) -> Places:
    """The squares of which at least this share shows tissue."""
    width, height = slide.dimensions
    corners = grid(width, height, side)
    kept = [tissue >= share for row in _rows(corners) for tissue in _tissue(slide, row, side)]
    return Places(corners[np.array(kept, dtype=bool)], side, [""] * sum(kept))


def _rows(corners: Corners) -> Iterator[Corners]:
    """The squares of each row of the grid: a strip of a slide fits into memory, a slide may not."""
    for y in np.unique(corners[:, 1]):
        yield corners[corners[:, 1] == y]


def _tissue(slide: Any, row: Corners, side: int) -> Float64[np.ndarray, " n"]:
    """The share of each square of a row that shows tissue."""
    level = slide.get_best_level_for_downsample(max(side / SEEN, 1.0))
    pixels = max(round(side / slide.level_downsamples[level]), 1)
    strip = on_white(slide.read_region(tuple(map(int, row[0])), level, (pixels * len(row), pixels)))
    shown = shows_tissue(optical_density(strip))
    return shown.reshape(pixels, len(row), pixels).mean(axis=(0, 2))


def from_h5(path: Path, slide: Any) -> Places:
    """The coordinates of CLAM or TRIDENT, with the side that their attributes state. MediError names the file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "coords" not in file:
                raise MediError(f"{path}: has no dataset `coords`; give coordinates as CLAM or TRIDENT write them")
            corners = np.asarray(file["coords"])
            stated = {name: value for name, value in file["coords"].attrs.items() if name in STATED}
    except OSError as error:
        raise MediError(f"{path}: not readable as HDF5 ({error})") from error
    is_plain = corners.ndim == 2 and corners.shape[1] == 2 and np.issubdtype(corners.dtype, np.number)
    if not is_plain or not np.isfinite(corners).all():
        raise MediError(f"{path}: `coords` is {corners.dtype} {list(corners.shape)}; expected finite numbers [n, 2]")
    try:
        numbers = {name: [int(number) for number in np.ravel(value)] for name, value in stated.items()}
    except ValueError as error:
        raise MediError(f"{path}: {error}; expected numbers in the attributes of `coords`") from error
    return Places(corners.astype(np.int64), _side(path, numbers, slide), [""] * len(corners))


def _side(path: Path, stated: Mapping[str, list[int]], slide: Any) -> int:
    """The side of a patch at the finest level: stated there by TRIDENT, at `patch_level` by CLAM.

    MediError where there is none, and where the coordinates were made on a slide of another size.
    """
    level = stated.get(LEVEL, [0])[0]
    if not 0 <= level < slide.level_count:
        raise MediError(f"{path}: patches of level {level}, the slide has {slide.level_count} levels")
    made_on = stated.get(DIMENSIONS[0], []) + stated.get(DIMENSIONS[1], []) or stated.get(LEVEL_DIMENSIONS, [])
    known = slide.dimensions if DIMENSIONS[0] in stated else slide.level_dimensions[level]
    if made_on and tuple(made_on) != tuple(known[: len(made_on)]):
        raise MediError(
            f"{path}: was made on a level of {' x '.join(map(str, made_on))} pixels, this slide's has "
            f"{' x '.join(map(str, known))}; give the coordinates of this very file"
        )
    if SIDES[0] in stated:
        side = stated[SIDES[0]][0]
    elif SIDES[1] in stated and LEVEL in stated:
        side = round(stated[SIDES[1]][0] * slide.level_downsamples[level])
    else:
        raise MediError(f"{path}: `coords` states neither {SIDES[0]} nor {SIDES[1]} with {LEVEL}; add one")
    if side < 1:
        raise MediError(f"{path}: `coords` states patches of {side} pixels; expected at least one")
    return side


def by_outlines(path: Path, slide: Any, side: int) -> Places:
    """The squares whose middle lies within an outline of a GeoJSON file, in pixels of the finest level, as in QuPath.

    names: the classification of the outline; of several the last. MediError names the file.
    """
    width, height = slide.dimensions
    corners = grid(width, height, side)
    middles, names = corners + side / 2, np.full(len(corners), None, dtype=object)
    outlines = list(_outlines(path))
    points = np.concatenate([np.zeros((0, 2)), *(ring for rings, _ in outlines for ring in rings)])
    if len(points) and ((points.max(axis=0) < 0) | (points.min(axis=0) > (width, height))).any():
        raise MediError(
            f"{path}: its outlines lie outside the slide ({width} x {height} pixels), the first point at "
            f"{tuple(points[0].tolist())}; are these of another slide, or in micrometres?"
        )
    for rings, name in outlines:
        names[_within(middles, rings)] = name
    kept = np.array([name is not None for name in names], dtype=bool)
    return Places(corners[kept], side, names[kept].tolist())


def _outlines(path: Path) -> Iterator[tuple[list[Float64[np.ndarray, "k 2"]], str]]:
    """The rings of every polygon, and what its feature is classified as."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        features = found.get("features", [found]) if isinstance(found, dict) else found
        for feature in features:
            shape, about = feature["geometry"], (feature.get("properties") or {}).get("classification") or {}
            parts = {"Polygon": [shape["coordinates"]], "MultiPolygon": shape["coordinates"]}.get(shape["type"], [])
            for part in parts:
                yield [np.asarray(ring, dtype=np.float64)[:, :2] for ring in part], str(about.get("name", ""))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise MediError(f"{path}: not GeoJSON with polygons ({error!r}); export annotations as GeoJSON") from error


def _within(points: Float64[np.ndarray, "n 2"], rings: list[Float64[np.ndarray, "k 2"]]) -> Bool[np.ndarray, " n"]:
    """Points inside an odd number of rings: a ring within another one is a hole."""
    from matplotlib.path import Path as Outline

    inside = np.zeros(len(points), dtype=bool)
    for ring in rings:
        inside ^= Outline(ring).contains_points(points)
    return inside
