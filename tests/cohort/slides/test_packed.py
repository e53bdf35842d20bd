"""Slides that are packed hold what OpenSlide and Pillow give, to the last bit (P2)."""

from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from medi.cohort import readers
from medi.cohort.packing import pack
from medi.cohort.slides.planning import Field, plan_slides
from pyramids import coordinates, generic

CORNERS = [[3, 5], [60, 70], [90, 33], [140, 75]]  # within the slide, the second in its hole


def by_hand(path: Path, side: int, size: int) -> list[np.ndarray]:
    """What a loop over OpenSlide and Pillow gives, on white."""
    found = []
    with openslide.OpenSlide(path) as slide:
        for corner in CORNERS:
            level = slide.get_best_level_for_downsample(side / size)
            pixels = round(side / slide.level_downsamples[level])
            image = slide.read_region(tuple(corner), level, (pixels, pixels))
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
            found.append(np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)))
    return found


@pytest.mark.parametrize(("side", "size"), [(32, 32), (48, 32), (48, 16)])
def test_packed_patches_are_those_of_a_loop_by_hand_p2(tmp_path: Path, side: int, size: int) -> None:
    """As they are, reduced, and from a coarser level; one tile was never scanned."""
    (tmp_path / "slides").mkdir()
    path = tmp_path / "slides" / "a.tif"
    generic(path, hole=True)
    places = coordinates(tmp_path / "slides", CORNERS, patch_size_level0=side)
    plan_slides(tmp_path / "slides", tmp_path / "slides", tmp_path / "out", Field(size, places=places))
    cohort = readers.read(tmp_path / "out" / "patches.parquet", "table", label="vendor", attributes=[])
    packed = pack(cohort, tmp_path / "out", tmp_path / "packed", size, workers=1)
    np.testing.assert_array_equal(packed.images[:], by_hand(path, side, size))
