"""A patch of a slide as the name of an image: "slides/a.svs#1024,2048,448,256", and its pixels.

The square of 448 x 448 pixels of the slide's finest level whose upper left corner is at (1024, 2048), as 256 x 256.
"""

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from medi.cohort.slides.opening import open_slide

NAMED = re.compile(r"^(?P<file>.+)#(?P<x>\d+),(?P<y>\d+),(?P<side>\d+),(?P<size>\d+)$")
CACHE = 1 << 27  # bytes of decoded tiles in a process, as much as four slides have by default


@dataclass(frozen=True)
class Region:
    """A square of `side` pixels of a slide's finest level, its corner at (x, y), read as size x size pixels.

    >>> str(Region("a.svs", 1024, 2048, 448, 256))
    'a.svs#1024,2048,448,256'
    >>> Region.named("a.svs#1024,2048,448,256").side
    448
    """

    file: str
    x: int
    y: int
    side: int
    size: int

    def __str__(self) -> str:
        return f"{self.file}#{self.x},{self.y},{self.side},{self.size}"

    @classmethod
    def named(cls, name: str) -> "Region | None":
        """The region that the name of an image means; None where it is the name of a file."""
        found = NAMED.match(name)
        if found is None:
            return None
        x, y, side, size = (int(found[part]) for part in ("x", "y", "side", "size"))
        return cls(found["file"], x, y, side, size)


def files_of(names: pd.Series) -> pd.Series:
    """The file behind each name of an image: the slide of a region, else the name itself."""
    return names.str.replace(NAMED.pattern.replace("?P<file>", "", 1), r"\1", regex=True)


@functools.lru_cache(maxsize=4)
def _opened(path: str, changed: int) -> tuple[Any, int, int]:
    """A slide that stays open in this process and shares its cache, with its width and height."""
    slide = open_slide(path)
    if hasattr(slide, "set_cache"):
        slide.set_cache(_tiles())
    return slide, *slide.dimensions


@functools.lru_cache(maxsize=64)
def _level(path: str, changed: int, side: int, size: int) -> tuple[int, int]:
    """The coarsest level that is fine enough for patches of this kind, and how many of its pixels they span."""
    slide, _, _ = _opened(path, changed)
    level = slide.get_best_level_for_downsample(max(side / size, 1.0))
    return level, max(round(side / slide.level_downsamples[level]), 1)


@functools.cache
def _tiles() -> Any:
    """One cache for all open slides: neighbours share tiles, and a slide that is read alone has all of it."""
    import openslide

    return openslide.OpenSlideCache(CACHE)


def read_region(root: Path, region: Region) -> UInt8[np.ndarray, "size size 3"]:
    """The pixels of a region, RGB on white where the slide has none, from the coarsest level that is fine enough.

    ValueError where it lies outside the slide or a level cannot be read.
    """
    path = os.path.join(root, region.file)
    changed = os.stat(path).st_mtime_ns
    slide, width, height = _opened(path, changed)
    if region.x + region.side > width or region.y + region.side > height:
        raise ValueError(f"{region} reaches beyond the slide, which has {width} x {height} pixels")
    level, pixels = _level(path, changed, region.side, region.size)
    try:
        found = slide.read_region((region.x, region.y), level, (pixels, pixels))
    except Exception as error:  # a slide whose reading failed once fails ever after: it is opened again
        _opened.cache_clear()
        raise ValueError(f"level {level} of the slide is not readable at {region} ({error})") from error
    if pixels == region.size:
        return on_white(found)
    return np.asarray(_flat(found).resize((region.size, region.size), Image.Resampling.LANCZOS))


def on_white(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture of a slide, RGB or RGBA; what was never scanned is white."""
    if image.mode == "RGB" or not _is_opaque(image):
        return np.asarray(_flat(image))
    return _plane(image, "RGB").reshape(image.height, image.width, 3)  # half the time of an image in between


def _flat(image: Image.Image) -> Image.Image:
    """As RGB, on white."""
    if image.mode == "RGB" or _is_opaque(image):
        return image.convert("RGB")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return white


def _is_opaque(image: Image.Image) -> bool:
    return int(_plane(image, "A").min()) == 255


def _plane(image: Image.Image, bands: str) -> UInt8[np.ndarray, " n"]:
    """The values of some bands of an RGBA image, pixel by pixel."""
    return np.frombuffer(image.tobytes("raw", bands), dtype=np.uint8)
