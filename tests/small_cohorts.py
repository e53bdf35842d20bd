"""Cohorts of two classes at two sites as folders: real ones with a split, good and bad synthetic ones."""

from pathlib import Path

import numpy as np

from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort

CLASSES, SITES = phantom.CLASSES[:2], phantom.SITES[:2]
COMBINATIONS = [(c, s) for c in CLASSES for s in SITES]
HELD = COMBINATIONS[0]


def write_cohorts(folder: Path) -> Path:
    """real: one combination held out; good: the same combinations, half of which fill; flat: grey images."""
    real = phantom.fresh(COMBINATIONS, 60, seed=0, stream="real", patches_per_slide=6)
    held = (real.table["class"] == HELD[0]) & (real.table["site"] == HELD[1])
    odd = real.table["patient"].isin(sorted(set(real.table["patient"]))[::2])
    split = np.where(held, "test_unseen", np.where(odd, "test_seen", "train"))
    real.with_columns(split=split).save(folder / "real")
    good = phantom.fresh(COMBINATIONS, 40, seed=1, stream="good")
    good.with_columns(fill=np.arange(len(good)) % 2 == 0).save(folder / "good")
    flat = phantom.fresh(COMBINATIONS, 40, seed=2, stream="flat")
    noise = np.random.default_rng(0).integers(120, 129, flat.images[:].shape, dtype=np.uint8)
    Cohort(flat.table, flat.schema, Pixels.of(noise)).save(folder / "flat")
    return folder
