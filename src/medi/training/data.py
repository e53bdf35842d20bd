"""The endless sequence of training images: image c depends on (seed, c) alone (P4)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped
from scipy.special import ndtri
from torch import Tensor

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Codes
from medi.cohort.table import Cohort
from medi.cohort.turns import VIEWS
from medi.core import seeds
from medi.models.conditioning import as_tensors, dropout_rates
from medi.models.noise import DDPM_STEPS, ddpm_sigmas
from medi.models.space import PixelSpace, Space
from medi.training.colours import SlideColours
from medi.training.recipe import Over, Recipe

BATCH_TENSORS = ("images", "sigma", "noise", "dropped")
Views = Callable[[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]], Float32[np.ndarray, "n c h w"]]  # of rows, turns
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it fill [0, 1) evenly


@dataclass(frozen=True)
class Batch:
    """Clean images as the network sees them, their codes, noise levels, unit noise and dropped conditions, k in the
    codes' order."""

    images: Float[Tensor, "n c h w"]
    codes: dict[str, Shaped[Tensor, " n"]]
    sigma: Float[Tensor, " n"]
    noise: Float[Tensor, "n c h w"]
    dropped: Bool[Tensor, "n k"]

    @classmethod
    def join(cls, parts: "Sequence[Batch]") -> "Batch":
        """The images of all parts in order."""
        codes = {name: torch.cat([part.codes[name] for part in parts]) for name in parts[0].codes}
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in BATCH_TENSORS}
        return cls(codes=codes, **joined)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a GPU, copied from pinned memory, so that neither waits for the other."""
        codes = {name: _sent(column, device) for name, column in self.codes.items()}
        return Batch(codes=codes, **{name: _sent(getattr(self, name), device) for name in BATCH_TENSORS})

    def copy_(self, other: "Batch") -> None:
        """Take the numbers of another batch of this size, whose tensors may lie on the CPU."""
        for name, column in self.codes.items():
            column.copy_(other.codes[name].pin_memory(), non_blocking=True)
        for name in BATCH_TENSORS:
            getattr(self, name).copy_(getattr(other, name).pin_memory(), non_blocking=True)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


class Batches:
    """Any images of the endless training sequence: image c depends on (seed, c) alone."""

    def __init__(
        self,
        cohort: Cohort,
        codes: dict[str, Codes],
        recipe: Recipe,
        seed: int,
        views: Views | None = None,
        colours: SlideColours | None = None,
    ) -> None:
        """views: what the network sees of patches, by default their pixels; colours: how these are varied."""
        self.pixels, self.codes, self.recipe, self.seed = cohort.images, codes, recipe, seed
        self.views = views or views_in(PixelSpace(), self.pixels)
        self.cumulative = np.cumsum(draw_probabilities(codes, recipe.balance, recipe.balance_over))
        self.dropout = dropout_rates(recipe.dropout, codes)
        self.colours = colours
        self.offset = seeds.generator("sigma", seed).random()

    def __call__(self, counters: Int64[np.ndarray, " n"], device: torch.device) -> Batch:
        rows, turns = np.empty(len(counters), dtype=np.int64), np.empty(len(counters), dtype=np.int64)
        dropped = np.empty((len(counters), len(self.codes)), dtype=bool)
        streams = [seeds.generator("train", self.seed, int(counter)) for counter in counters]
        for i, rng in enumerate(streams):
            rows[i] = np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right")
            turns[i] = rng.integers(VIEWS) * self.recipe.dihedral
            dropped[i] = rng.random(len(self.codes)) < self.dropout
        images = torch.from_numpy(self.views(rows, turns))
        if self.colours is not None:
            images = self.colours(images, rows, counters, self.seed)
        noise = np.empty(images.shape, dtype=np.float32)
        for out, rng in zip(noise, streams):
            rng.standard_normal(out=out, dtype=np.float32)
        return Batch(
            images.to(device),
            as_tensors({name: column[rows] for name, column in self.codes.items()}, device),
            torch.from_numpy(self.sigmas(counters)).to(device),
            torch.from_numpy(noise).to(device),
            torch.from_numpy(dropped).to(device),
        )

    def some(self, n: int) -> Float32[np.ndarray, "k c h w"]:
        """n of the training images as they are, or all where there are fewer; which ones depends on the seed alone."""
        rows = seeds.generator("some", self.seed).permutation(len(self.pixels))[:n]
        return self.views(np.sort(rows), np.zeros(len(rows), dtype=np.int64))

    def sigmas(self, counters: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """Noise levels, stratified: a golden-ratio sequence through the quantiles."""
        quantiles = (self.offset + counters * GOLDEN) % 1.0
        if self.recipe.noise == "ddpm":
            return ddpm_sigmas().astype(np.float32)[(quantiles * DDPM_STEPS).astype(np.int64)]
        normal = ndtri(np.clip(quantiles, 1e-6, 1 - 1e-6))
        return np.exp(self.recipe.noise_mean + self.recipe.noise_std * normal).astype(np.float32)


def views_in(space: Space, pixels: Pixels) -> Views:
    """Views that are made of pixels when they are drawn."""
    return lambda rows, turns: space.views(pixels[rows], turns)


def draw_probabilities(
    codes: dict[str, Codes], balance: float, over: Over = "combination"
) -> Float64[np.ndarray, " n"]:
    """Each image's share of the draws: a group of n images has n^(1 - balance); see Recipe for the groups."""
    by_class, by_combination = _groups(next(iter(codes.values()))), combinations_of(codes)
    if over == "nested":
        share = np.bincount(by_class) ** (1.0 - balance)
        weight = np.bincount(by_combination)[by_combination] ** -balance
        weight *= (share / np.bincount(by_class, weight))[by_class]
    else:
        group = by_class if over == "class" else by_combination
        weight = np.bincount(group)[group] ** -balance
    return weight / weight.sum()


def combinations_of(codes: dict[str, Codes]) -> Int64[np.ndarray, " n"]:
    """The number of each row's combination of class and first attribute."""
    return _groups(*list(codes.values())[:2])


def _groups(*columns: Codes) -> Int64[np.ndarray, " n"]:
    """The number of each row's group: rows alike in all columns."""
    return np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
