"""The pictures of patches in a report, so small that the page goes by mail: the paper's Figure 4, and suspects."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from medi import figures
from medi.cohort.pixels import resize
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.report.run import Run, read

GRID_PIXELS, PAIR_PIXELS = 1_200_000, 600_000  # of all patches together: 2 to 3 MB of page


def figure_of(folder: Path) -> figures.Drawing:
    """The picture of real, MeDi and CLS patches of a run folder, as its report shows it.

    Raises MediError where no images have been sampled yet.
    """
    run = read(folder)
    if run.sheet is None or not len(run.sheet):
        raise MediError(f"{folder}: no sheet of patches yet (sheet/cohort.json is missing); finish `medi run` first")
    return sample_figure(run, run.sheet)


def sample_figure(run: Run, sheet: Cohort) -> figures.Drawing:
    """Real, MeDi and CLS patches per class and attribute; combinations without a training patch are framed."""
    chosen = figures.shown_patches(sheet.table, run.attribute)
    images, table = fitted(sheet.images[chosen], GRID_PIXELS), sheet.table.iloc[chosen]
    return figures.patch_grid(images, table, run.attribute, framed=run.unseen)


def pair_figure(pairs: Cohort, notes: dict[tuple[str, str], str]) -> figures.Drawing:
    """The synthetic patches that most resemble a training patch, each beside it."""
    return figures.pair_sheet(fitted(pairs.images[:], PAIR_PIXELS), pairs.table, notes)


def view_figure(worst: Cohort, views: dict[str, str]) -> figures.Drawing:
    """Patches (columns) in several views (rows); views: what the column `view` says -> how a row is called."""
    named = pd.Categorical(worst.table["view"].map(views), categories=list(dict.fromkeys(views.values())))
    table = pd.DataFrame({"view": named, "source": "views"})
    return figures.patch_grid(worst.images[:], table, rows="view", blocks="")


def fitted(images: UInt8[np.ndarray, "n h w 3"], pixels: int) -> UInt8[np.ndarray, "n size size 3"]:
    """The same patches, made smaller where all of them together have more than so many pixels."""
    size = int((pixels / max(len(images), 1)) ** 0.5)
    return resize(images, size) if size < images.shape[1] else images
