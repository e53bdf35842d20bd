"""Colours of training patches that are varied: in optical density, as stains and scanners vary them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from medi.cohort.optics import optical_density
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort, slide_units
from medi.core import seeds
from medi.core.threads import one_thread

DARKEST = 6.0  # optical density of the darkest pixel that is made
LEAST = 1e-3  # mean optical density, added before the logarithm: empty glass has none
CHUNK = 1024  # patches at once
Maps = Float32[np.ndarray, "n 3 4"]
Groups = Int64[np.ndarray, " n"]  # the number of each row's group


def recoloured(images: Float[Tensor, "n 3 h w"], maps: Maps) -> Float[Tensor, "n 3 h w"]:
    """Images in [-1, 1] with their optical densities (natural logarithm, red, green, blue) mapped."""
    given = torch.from_numpy(maps).to(images.device)
    densities = -((images + 1) / 2).clamp(min=1 / 255).log()
    mapped = torch.einsum("nij,njhw->nihw", given[..., :3], densities) + given[..., 3, None, None]
    return 2 * (-mapped.clamp(0, DARKEST)).exp() - 1


@dataclass(frozen=True)
class SlideColours:
    """Slides differ in colour, and a combination of few slides shows too little of it.

    Let the colour of a slide be the logarithm of its mean optical densities, and S the covariance of the colours of a
    combination's slides, which all combinations share. k slides scatter by (1 - 1/k) S around their own mean, which is
    wrong by S/k. A training patch gets a draw of that error, so that every combination shows S.

    roots: of S/k, for each training patch; slides of unequal size count as 1 / (sum of squared shares) equal ones.
    """

    roots: Float64[np.ndarray, "n 3 3"]

    @classmethod
    def of(cls, cohort: Cohort, combination: Groups) -> "SlideColours":
        """Estimate S from the slides of each combination; a patch without a slide is one of its own."""
        colours = mean_colours(cohort.images)
        names = slide_units(cohort.table).to_numpy(dtype=object).astype(str)
        _, slide = np.unique(names, return_inverse=True)
        _, unit = np.unique(np.stack([combination, slide]), axis=1, return_inverse=True)
        unit = unit.reshape(-1)
        size = np.bincount(unit)
        home = np.zeros(len(size), dtype=np.int64)
        home[unit] = combination
        share = size / np.bincount(combination)[home]
        slides = 1 / np.bincount(home, share**2)[combination]
        values, vectors = np.linalg.eigh(between(colours, unit, home))
        root = vectors * np.sqrt(values.clip(0))
        return cls(root / np.sqrt(slides)[:, None, None])

    def __call__(
        self, images: Float[Tensor, "n 3 h w"], rows: Groups, counters: Groups, seed: int
    ) -> Float[Tensor, "n 3 h w"]:
        """The images of these training patches, each with a draw that depends on (seed, counter) alone (P4)."""
        draws = [seeds.generator("slide colours", seed, int(counter)).standard_normal(3) for counter in counters]
        maps = np.zeros((len(rows), 3, 4), dtype=np.float32)
        maps[:, range(3), range(3)] = np.exp(np.einsum("nij,nj->ni", self.roots[rows], np.stack(draws)))
        return recoloured(images, maps)


def mean_colours(pixels: Pixels) -> Float64[np.ndarray, "n 3"]:
    """The logarithm of each patch's mean optical density in red, green and blue."""
    starts = range(0, len(pixels), CHUNK)
    means = [optical_density(pixels[slice(i, i + CHUNK)]).mean(axis=(1, 2), dtype=np.float64) for i in starts]
    return np.log(np.concatenate(means) + LEAST)


@one_thread
def between(
    values: Float64[np.ndarray, "n d"], unit: Groups, home: Int64[np.ndarray, " u"]
) -> Float64[np.ndarray, "d d"]:
    """Covariance of the units' own means within their homes, less what a mean of few rows scatters by itself.

    unit: of each row; home: of each unit. The method of moments of a one-way layout, pooled over homes of two units or
    more (Searle, Casella and McCulloch, Variance Components, chapter 3); zeros where there is none. The same bits with
    any number of threads (P3).
    """
    size, number = np.bincount(unit), np.bincount(home)
    mean = _means(values, unit)
    left = values - mean[unit]
    within = left.T @ left / max(len(values) - len(size), 1)
    several = number[home] > 1
    if not several.any():
        return np.zeros_like(within)
    apart = (mean - _means(mean, home)[home])[several]
    freedom = several.sum() - (number > 1).sum()
    noise = ((1 - 1 / number[home]) / size)[several].sum() / freedom
    return apart.T @ apart / freedom - within * noise


def _means(values: Float64[np.ndarray, "n d"], group: Groups) -> Float64[np.ndarray, "g d"]:
    sums = np.stack([np.bincount(group, column) for column in values.T], axis=1)
    return sums / np.bincount(group).clip(1)[:, None]
