"""Pictures of translated patches: one sheet to look at, and a file per patch."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from medi.cohort.table import Cohort
from medi.core.files import safe_name, write_atomic
from medi.figures import mosaic

SHOWN = 16  # patches on the sheet
PICTURED = 96  # pixels that a smaller patch is enlarged to, by a whole number


def write_sheet(patches: Cohort, translated: Cohort, attribute: str, levels: Sequence[str], path: Path) -> Path:
    """A PNG with a row per patch: the patch itself, then how it looks at each level.

    A patch that was not shown at a level, as it is its own, stands there as it is.
    """
    ids = patches.table["sample_id"].head(SHOWN)
    places = {key: i for i, key in enumerate(zip(translated.table["source"], translated.table[attribute]))}
    rows = [
        [patch, *(translated.images[[places[i, at]]][0] if (i, at) in places else patch for at in levels)]
        for i, patch in zip(ids, patches.images[slice(0, len(ids))])
    ]
    times = max(1, PICTURED // patches.images.size)
    picture = Image.fromarray(mosaic(np.array(rows).repeat(times, axis=2).repeat(times, axis=3)))
    return write_atomic(path, partial(picture.save, format="PNG"))


def write_images(translated: Cohort, folder: Path) -> None:
    """A PNG per patch, named after its sample_id."""
    for name, image in zip(translated.table["sample_id"], translated.images[:]):
        write_atomic(folder / f"{safe_name(name)}.png", partial(Image.fromarray(image).save, format="PNG"))
