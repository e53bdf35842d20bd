"""Sheets of patches, real ones left and a model's right, a PNG per level: the look that no number replaces."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from medi.cohort.table import Cohort, slides_in_turn
from medi.core.files import safe_name, write_atomic
from medi.figures import mosaic

ROWS, COLUMNS = 8, 12
GAP, ZOOM = 12, 2  # pixels between the halves; pixels of the sheet per pixel of a patch
PACKED = 4  # of 9: half the time of 6, which is Pillow's own, and half a per cent more bytes
WHITE = 255


def write_sheets(real: Cohort, synthetic: Cohort, attribute: str, folder: Path) -> list[Path]:
    """folder/<level>.png for every level of which both have a patch: ROWS x COLUMNS of each."""
    levels = sorted(set(real.table[attribute]) & set(synthetic.table[attribute]) - {""})
    return [
        _write(folder / f"{safe_name(level)}.png", [_grid(c, attribute, level) for c in (real, synthetic)])
        for level in levels
    ]


def _grid(cohort: Cohort, attribute: str, level: str) -> UInt8[np.ndarray, "y x 3"]:
    """Patches of a level, classes in turn, from as many slides as there are; white where there are fewer."""
    rows = np.flatnonzero((cohort.table[attribute] == level).to_numpy())
    rows = rows[slides_in_turn(cohort.table.iloc[rows], ["class"])]
    turn = cohort.table.iloc[rows].groupby("class").cumcount().to_numpy()
    chosen = rows[np.argsort(turn, kind="stable")][: ROWS * COLUMNS]
    size = cohort.images.size
    patches = np.full((ROWS * COLUMNS, size, size, 3), WHITE, dtype=np.uint8)
    patches[: len(chosen)] = cohort.images[chosen]
    return mosaic(patches.reshape(ROWS, COLUMNS, size, size, 3))


def _write(path: Path, halves: list[UInt8[np.ndarray, "y x 3"]]) -> Path:
    gap = np.full((halves[0].shape[0], GAP, 3), WHITE, dtype=np.uint8)
    whole = np.concatenate([halves[0], gap, halves[1]], axis=1).repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    return write_atomic(path, lambda temporary: Image.fromarray(whole).save(temporary, "PNG", compress_level=PACKED))
