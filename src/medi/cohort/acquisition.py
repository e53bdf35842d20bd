"""What an acquisition does to a patch whatever tissue it shows: the hue of its stains, and its sharpness; six numbers.

Hue: the mean optical density of tissue in haematoxylin, eosin and the residual (Ruifrok and Johnston 2001), divided by
its length, so that thick and dense tissue counts like thin. Sharpness: the logarithm of the mean squared Laplacian of
the optical density at three scales, each half the one before. The spread of the stains was tried and left out: it
depends on the tissue, and groups of scanners were found less well with it.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64

from medi.cohort.image_fit import read_image
from medi.cohort.optics import STAINS, optical_density, shows_tissue
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.progress import Advance, Tally
from medi.core.types import Images

EACH = 32  # patches of a slide that are looked at
LEAST_TISSUE = 0.05  # share of a patch's pixels; with less its stain is not seen
SMALLEST = 16  # pixels a side, so that the third scale has some
SCALES = 3
DARKEST = 1e-5  # squared optical density, added before the logarithm
AT_ONCE = 256  # patches in memory
Numbers = Float64[np.ndarray, "n 6"]
Plane = Float32[np.ndarray, "n _h _w"]
OnError = Literal["skip", "fail"]


def statistics(images: Images) -> Numbers:
    """Hue (3) and sharpness (3) of each patch; NaN where it hardly shows tissue. MediError for tiny patches."""
    if min(images.shape[1:3]) < SMALLEST:
        raise MediError(f"patches of {images.shape[2]} x {images.shape[1]} px are too small: {SMALLEST} px are needed")
    density = optical_density(images)
    tissue = shows_tissue(density)
    basis = np.vstack([STAINS, np.cross(*STAINS)])
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    mean = (density * tissue[..., None]).sum(axis=(1, 2), dtype=np.float64) @ np.linalg.inv(basis)
    hue = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    plane, sharpness = density.mean(axis=-1), []
    for _ in range(SCALES):
        sharpness.append(np.log((_laplacian(plane) ** 2).mean(axis=(1, 2), dtype=np.float64) + DARKEST))
        plane = _half(plane)
    found = np.column_stack([hue, *sharpness])
    found[tissue.mean(axis=(1, 2)) < LEAST_TISSUE] = np.nan
    return found


def _laplacian(plane: Plane) -> Plane:
    sides = plane[:, :-2, 1:-1] + plane[:, 2:, 1:-1] + plane[:, 1:-1, :-2] + plane[:, 1:-1, 2:]
    return 4 * plane[:, 1:-1, 1:-1] - sides


def _half(plane: Plane) -> Plane:
    """Means over 2 x 2 pixels; an odd last row and column is left out."""
    even = plane[:, : plane.shape[1] // 2 * 2, : plane.shape[2] // 2 * 2]
    return (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4


def by_slide(
    cohort: Cohort, unit: pd.Series, counted: Bool[np.ndarray, " n"], on_error: OnError, progress: Advance
) -> tuple[pd.DataFrame, list[str]]:
    """The median statistics of every unit [units, 6] over at most EACH of its counted patches, and what was left out.

    unit: the name of the slide (or patient) of every row [n], "" for none. Images are read from the pixels of a packed
    cohort, else from their files. MediError where there are none, and names one that cannot be read.
    """
    rows = np.flatnonzero(counted & (unit != "").to_numpy())
    place = pd.Series(rows).groupby(unit.iloc[rows].to_numpy()).agg(lambda own: own.iloc[_spread(len(own))].tolist())
    chosen = np.array([row for own in place for row in own], dtype=np.int64)
    tally, parts, failed = Tally(progress, len(chosen)), [], list[str]()
    for start in range(0, len(chosen), AT_ONCE):
        part = chosen[start : start + AT_ONCE]
        parts.append(_look(cohort, part, on_error, failed))
        tally.add(len(part))
    found = pd.DataFrame(np.concatenate(parts) if parts else np.empty((0, 2 * SCALES)), index=unit.iloc[chosen])
    return found.groupby(level=0).median(), failed


def _spread(number: int) -> list[int]:
    """At most EACH places at even distances."""
    return sorted({int(place) for place in np.linspace(0, number - 1, min(number, EACH))})


def _look(cohort: Cohort, rows: np.ndarray, on_error: OnError, failed: list[str]) -> Numbers:
    if cohort.pixels is not None:
        return statistics(cohort.pixels[rows])
    root, names = cohort.info.get("root"), cohort.table.get("image")
    if not root or names is None:
        raise MediError(cohort.no_images("looking for acquisition groups"))
    found = np.full((len(rows), 2 * SCALES), np.nan)
    for i, name in enumerate(names.iloc[rows]):
        try:
            found[i] = _of_file(Path(root), name)
        except MediError as error:
            if on_error == "fail":
                raise
            failed.append(str(error))
    return found


def _of_file(root: Path, name: str) -> Float64[np.ndarray, " 6"]:
    image = read_image(root, name)
    try:
        return statistics(image[None])[0]
    except MediError as error:
        raise MediError(f"{root / name}: {error}") from error
