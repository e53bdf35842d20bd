"""A sheet of samples: what a person watches while a model trains."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from medi.cohort.schema import Attribute
from medi.models.denoiser import Denoiser

LARGEST = 8  # classes and levels on a sheet
Draw = Callable[[Denoiser, pd.DataFrame, int], UInt8[np.ndarray, "n h w 3"]]  # the images of rows, from a seed


def sheet(denoiser: Denoiser, seed: int, draw: Draw) -> UInt8[np.ndarray, "rows columns 3"]:
    """A grid of samples: a row per class, a column per level of the first attribute, at most LARGEST of each.

    draw: makes images of rows (`sampling.sampler.draw`); training itself knows no sampler.

    The same noise at every call, so that sheets of one training show one image growing.
    """
    from medi.figures import mosaic  # matplotlib is loaded where a sheet is drawn

    classes, *attributes = denoiser.schema.conditions
    named = next((a for a in attributes if a.kind == "categorical"), None)
    across = named.levels[:LARGEST] if named else tuple(map(str, range(LARGEST)))
    rows = pd.DataFrame([(c, level) for c in classes.levels[:LARGEST] for level in across], columns=["class", "across"])
    rows["noise_id"] = rows["class"] + " " + rows["across"]
    rows = rows.assign(**{a.name: rows["across"] if a is named else _usual(a) for a in attributes})
    images = draw(denoiser.eval(), rows, seed)
    return mosaic(images.reshape(-1, len(across), *images.shape[1:]))


def _usual(attribute: Attribute) -> str:
    """The first level or the mean number: "not known" has a vector that has learned nothing where no row lacks it."""
    return str(attribute.center) if attribute.kind == "continuous" else (*attribute.levels, "")[0]
