"""The picture of the README: real, MeDi and CLS patches of every combination, as the report shows them.

python benchmarks/picture.py RUN docs/phantom.png
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from medi.cohort.table import Cohort
from medi.core.tables import FIDELITY

SOURCES, PATCHES = ("real", "medi", "cls"), 2
LABELS = {"real": "real", "medi": "MeDi", "cls": "CLS"}


def draw(run: Path, out: Path) -> None:
    """Rows are sites, blocks classes; combinations without a training patch are framed."""
    sheet = Cohort.load(run / "sheet")
    distances = FIDELITY.read(run / "tables")
    rows = distances[(distances["scope"] == "combination") & (distances["split"] == "unseen")]
    unseen = set(zip(rows["class"], rows["site"]))
    classes, sites = sheet.schema.classes.levels, sheet.schema.attribute("site").levels
    figure, axes = plt.subplots(len(sites), len(classes), figsize=(12, 5.2), squeeze=False)
    for row, site in enumerate(sites):
        for column, name in enumerate(classes):
            axis = axes[row][column]
            axis.imshow(_block(sheet, name, site), interpolation="nearest")
            axis.axis("off")
            if (name, site) in unseen:
                frame = Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, linewidth=2.5, clip_on=False)
                axis.add_patch(frame)
        axes[row][0].text(-0.03, 0.5, site, transform=axes[row][0].transAxes, ha="right", va="center", fontsize=11)
    for column, name in enumerate(classes):
        axes[0][column].set_title(name, fontsize=12, loc="left", pad=20)
        for place, source in enumerate(SOURCES):
            x = (place + 0.5) / len(SOURCES)
            axes[0][column].text(x, 1.08, LABELS[source], transform=axes[0][column].transAxes, ha="center", fontsize=9)
    figure.subplots_adjust(left=0.06, right=0.995, top=0.89, bottom=0.01, wspace=0.05, hspace=0.12)
    figure.savefig(out, dpi=110)


def _block(sheet: Cohort, name: str, site: str) -> np.ndarray:
    parts = [
        sheet.where(**{"class": name, "site": site, "source": source}).images[slice(PATCHES)] for source in SOURCES
    ]
    gap = np.full((sheet.images.size, 3, 3), 255, dtype=np.uint8)
    strips = [np.concatenate(list(images), axis=1) for images in map(list, parts)]
    return np.concatenate([strips[0], gap, strips[1], gap, strips[2]], axis=1)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
