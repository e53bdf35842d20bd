"""Stain normalisation and augmentation of uint8 patches: what a laboratory can do to colour without a model.

Macenko et al. 2009 and Reinhard et al. 2001 bring a patch to a reference made from training patches; HED jitter (Tellez
et al. 2018) and RandStainNA (Shen et al. 2022) vary it. Patches with hardly any tissue come back as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from medi.cohort.optics import STAINS, optical_density, shows_tissue
from medi.core.errors import MediError
from medi.core.seeds import generator
from medi.core.types import Images

Pixels = Float32[np.ndarray, "n p 3"]
Mask = Bool[np.ndarray, "n p"]
Vectors = Float32[np.ndarray, "n 2 3"]
Transform = Callable[[Images, Sequence[str]], Images]  # of patches and their sample ids

GLASS = 0.15  # optical density (natural logarithm) below which a pixel shows glass
LEAST_TISSUE = 0.05  # share of pixels; with less the stain cannot be seen
LEAST_COLOUR = 0.05  # difference of the channels' optical densities below which a pixel is grey or black
EDGE = 1.0  # percentile of angles at which Macenko takes the stains
REFERENCE_PATCHES = 512
FACTOR, SHIFT = 0.2, 0.05  # of HED jitter: concentrations times 1 +- FACTOR, plus +- SHIFT
NO_STAIN = "no stained tissue in the training patches: there is no stain to normalise to or to vary"
# Linear RGB to cone responses, and their logarithms to lightness, yellow-blue, red-green (Reinhard et al. 2001).
CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], dtype=np.float32)
OPPONENT = (np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ [[1, 1, 1], [1, 1, -2], [1, -1, 0]]).astype(np.float32)


@dataclass(frozen=True)
class Macenko:
    """A reference's stain vectors [2, 3] and the 99th percentile of its concentrations [2]."""

    stains: Float32[np.ndarray, "2 3"]
    strength: Float32[np.ndarray, " 2"]

    @classmethod
    def fit(cls, images: Images, seed: int) -> "Macenko":
        """From all pixels of some of these training patches together."""
        density = _density(_sample(images, seed)).reshape(1, -1, 3)
        tissue = _tissue(density)
        if not _enough(density, tissue)[0]:
            raise MediError(NO_STAIN)
        stains = _stains(density, tissue)
        return cls(stains[0], _strength(_concentrations(density, stains), tissue)[0])

    def apply(self, images: Images, ids: Sequence[str] = ()) -> Images:
        """Each patch with its own two stains replaced by the reference's, at the reference's strength."""
        density = _density(images)
        tissue = _tissue(density)
        stains = _stains(density, tissue)
        amounts = _concentrations(density, stains)
        own = np.maximum(_strength(amounts, tissue), 1e-3)
        new = (amounts * (self.strength / own)[:, None]) @ self.stains
        return _where(_enough(density, tissue), _picture(256 * np.exp(-new) - 1, images), images)


@dataclass(frozen=True)
class Reinhard:
    """Mean and spread [3] of a reference's tissue in opponent colours."""

    mean: Float32[np.ndarray, " 3"]
    spread: Float32[np.ndarray, " 3"]

    @classmethod
    def fit(cls, images: Images, seed: int) -> "Reinhard":
        sample = _sample(images, seed)
        density = _density(sample).reshape(1, -1, 3)
        tissue = _tissue(density)
        if not _enough(density, tissue)[0]:
            raise MediError(NO_STAIN)
        mean, spread = _moments(_opponent(sample).reshape(1, -1, 3), tissue)
        return cls(mean[0], spread[0])

    def apply(self, images: Images, ids: Sequence[str] = ()) -> Images:
        """Each patch with mean and spread of its tissue's colours brought to the reference's."""
        return _recoloured(images, np.tile(self.mean, (len(images), 1)), np.tile(self.spread, (len(images), 1)))


@dataclass(frozen=True)
class HedJitter:
    """Concentrations of the usual H&E, scaled and shifted at random for each patch."""

    seed: int

    @classmethod
    def fit(cls, images: Images, seed: int) -> "HedJitter":
        """It needs nothing of the training patches."""
        return cls(seed)

    def apply(self, images: Images, ids: Sequence[str]) -> Images:
        random = (generator("hed jitter", self.seed, name) for name in ids)
        draws = np.stack([2 * rng.random((2, 3), dtype=np.float32) - 1 for rng in random])
        stains = np.vstack([STAINS, np.cross(*STAINS)])
        stains /= np.linalg.norm(stains, axis=1, keepdims=True)
        density = _density(images)
        amounts = density @ np.linalg.inv(stains)
        new = (amounts * (1 + FACTOR * draws[:, :1]) + SHIFT * draws[:, 1:]) @ stains
        return _where(_enough(density, _tissue(density)), _picture(256 * np.exp(-new) - 1, images), images)


@dataclass(frozen=True)
class RandomStain:
    """Each patch recoloured to a mean and spread drawn around those of training patches: RandStainNA.

    centre, width [2, 3]: of the means and of the spreads of single training patches, in opponent colours.
    """

    seed: int
    centre: Float32[np.ndarray, "2 3"]
    width: Float32[np.ndarray, "2 3"]

    @classmethod
    def fit(cls, images: Images, seed: int) -> "RandomStain":
        sample = _sample(images, seed)
        density = _density(sample)
        tissue = _tissue(density)
        enough = _enough(density, tissue)
        if not enough.any():
            raise MediError(NO_STAIN)
        found = np.stack(_moments(_opponent(sample), tissue), axis=1)[enough]
        return cls(seed, found.mean(axis=0), found.std(axis=0))

    def apply(self, images: Images, ids: Sequence[str]) -> Images:
        random = (generator("random stain", self.seed, name) for name in ids)
        draws = np.stack([rng.standard_normal((2, 3), dtype=np.float32) for rng in random])
        target = self.centre + self.width * draws
        return _recoloured(images, target[:, 0], np.maximum(target[:, 1], 0.25 * self.centre[1]))


def _sample(images: Images, seed: int) -> UInt8[np.ndarray, "drawn h w 3"]:
    rows = generator("stain reference", seed).permutation(len(images))[:REFERENCE_PATCHES]
    return images[np.sort(rows)]


def _density(images: Images) -> Pixels:
    return optical_density(images).reshape(len(images), -1, 3)


def _tissue(density: Pixels) -> Mask:
    return shows_tissue(density, GLASS, black=np.inf)  # dark nuclei are tissue here


def _enough(density: Pixels, tissue: Mask) -> Bool[np.ndarray, " n"]:
    """Which patches show stained tissue enough: grey and black, as of borders or plain images, is no stain."""
    stained = tissue & (np.ptp(density, axis=-1) > LEAST_COLOUR)
    return stained.mean(axis=1) >= LEAST_TISSUE


def _picture(values: Float32[np.ndarray, "n p 3"], like: Images) -> Images:
    """Clamp and round."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8).reshape(like.shape)


def _where(sound: Bool[np.ndarray, " n"], new: Images, old: Images) -> Images:
    return np.where(sound[:, None, None, None], new, old)


def _stains(density: Pixels, tissue: Mask) -> Vectors:
    """Haematoxylin and eosin of each patch: the edges of its optical densities in the plane that holds most of them."""
    count = np.maximum(tissue.sum(axis=1, dtype=np.float32), 1)[:, None]
    kept = density * tissue[..., None]
    mean = kept.sum(axis=1) / count
    spread = kept.transpose(0, 2, 1) @ kept / count[..., None] - mean[:, :, None] * mean[:, None]
    plane = np.linalg.eigh(spread)[1][:, :, :0:-1]  # the two largest, [n, 3, 2]
    plane = plane * np.where(plane.sum(axis=1, keepdims=True) < 0, np.float32(-1), np.float32(1))
    flat = density @ plane
    angle = np.arctan2(flat[..., 1], flat[..., 0])
    ends = np.stack([_percentile(angle, tissue, q) for q in (EDGE, 100 - EDGE)])
    edges = np.stack([np.cos(ends), np.sin(ends)], axis=-1).transpose(1, 0, 2) @ plane.transpose(0, 2, 1)
    edges = np.maximum(edges, 1e-3)
    edges /= np.linalg.norm(edges, axis=2, keepdims=True)
    swapped = edges[:, 0, 0] < edges[:, 1, 0]  # haematoxylin takes more red
    return np.where(swapped[:, None, None], edges[:, ::-1], edges)


def _concentrations(density: Pixels, stains: Vectors) -> Float32[np.ndarray, "n p 2"]:
    return np.maximum(density @ np.linalg.pinv(stains), 0)


def _strength(amounts: Float32[np.ndarray, "n p 2"], tissue: Mask) -> Float32[np.ndarray, "n 2"]:
    return np.stack([_percentile(amounts[..., i], tissue, 99.0) for i in range(2)], axis=1)


def _percentile(values: Float32[np.ndarray, "n p"], mask: Mask, q: float) -> Float32[np.ndarray, " n"]:
    """The percentile of each row's masked values (the nearest one)."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    place = np.rint(q / 100 * np.maximum(mask.sum(axis=1) - 1, 0)).astype(np.int64)
    found = ordered[np.arange(len(values)), place]
    return np.where(np.isfinite(found), found, np.float32(0))


def _opponent(images: Images) -> Pixels:
    table = ((np.arange(256) + 1.0) / 256).astype(np.float32)
    cones = table[images].reshape(len(images), -1, 3) @ CONES.T
    return np.log(cones) @ OPPONENT.T


def _moments(colours: Pixels, tissue: Mask) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"]]:
    """Mean and spread of each patch's tissue."""
    count = np.maximum(tissue.sum(axis=1, dtype=np.float32), 1)[:, None]
    mean = (colours * tissue[..., None]).sum(axis=1) / count
    squares = ((colours - mean[:, None]) ** 2 * tissue[..., None]).sum(axis=1) / count
    return mean, np.sqrt(squares)


def _recoloured(images: Images, mean: Float32[np.ndarray, "n 3"], spread: Float32[np.ndarray, "n 3"]) -> Images:
    density, colours = _density(images), _opponent(images)
    tissue = _tissue(density)
    own, width = _moments(colours, tissue)
    new = (colours - own[:, None]) * (spread / np.maximum(width, 1e-3))[:, None] + mean[:, None]
    rgb = np.exp(np.minimum(new @ np.linalg.inv(OPPONENT).T, 5)) @ np.linalg.inv(CONES).T
    return _where(_enough(density, tissue), _picture(256 * rgb - 1, images), images)
