"""Staining and scanning: I = I0 exp(-(h v_h + e v_e)), then blur, colour gain, noise and JPEG."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, UInt8

from medi.cohort.phantom.factors import FIELD, SLIDE, Scanner, Section, Seeds, Stain
from medi.cohort.pixels import through_jpeg
from medi.core.seeds import generator


@dataclass(frozen=True)
class SlideStain:
    """How a slide departs from its site: factors of stain vectors [2, 3] and of blur, an offset of the white."""

    vectors: Float64[np.ndarray, "2 3"]
    background: float
    blur: float


@lru_cache(maxsize=64)
def stain_of(slide: str, seed: int) -> SlideStain:
    """What (rendering seed, slide) draws."""
    rng = generator("phantom", "slide stain", seed, slide)
    strength = np.exp(SLIDE["concentration"] * rng.standard_normal(2))
    hue = 1.0 + SLIDE["hue"] * rng.standard_normal((2, 3))
    background = SLIDE["background"] * rng.standard_normal()
    return SlideStain(hue * strength[:, None], background, math.exp(SLIDE["blur"] * rng.standard_normal()))


def render(
    section: Section, stain: Stain, scanner: Scanner, slide: str, sample: str, seeds: Seeds
) -> UInt8[np.ndarray, "h w 3"]:
    """Stain and scan one section: the slide's own stain and focus follow (rendering seed, slide), noise (sensor seed,
    sample). Stain and scanner are separate factors; `scanner.clean()` has neither noise nor JPEG."""
    from scipy.ndimage import gaussian_filter1d

    slide_stain = stain_of(slide, seeds.rendering)
    vectors = np.array([stain.haematoxylin, stain.eosin]) * slide_stain.vectors
    white = np.array(stain.background) + slide_stain.background
    blur = scanner.blur * slide_stain.blur * len(section.eosin) / FIELD
    density = np.stack([section.haematoxylin, section.eosin], axis=-1) @ vectors
    light = white * np.exp(-density)
    for axis in (0, 1):
        light = gaussian_filter1d(light, blur, axis=axis, mode="nearest")
    return _sense(light * np.array(scanner.gain), scanner, generator("phantom", "sensor", seeds.sensor, sample))


def _sense(
    light: Float64[np.ndarray, "h w 3"], scanner: Scanner, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    noisy = 255.0 * light + scanner.noise * rng.standard_normal(light.shape)
    image = np.rint(np.clip(noisy, 0.0, 255.0)).astype(np.uint8)
    if scanner.jpeg is None:
        return image
    return through_jpeg(image, scanner.jpeg, "4:4:4")
