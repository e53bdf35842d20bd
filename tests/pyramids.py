"""Small slides of two levels, as scanners write them: tissue on the left, glass on the right."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

WIDTH, HEIGHT = 192, 128
APERIO = (
    "Aperio Image Library v11.2.1 \r\n192x128 (64x64) JPEG/RGB Q=70"
    "|AppMag = 20|MPP = 0.4990|ScanScope ID = SS1302|Date = 12/29/09"
)


def picture(seed: int = 0) -> np.ndarray:
    """[128, 192, 3]: 96 columns of tissue, 96 of glass."""
    found = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    found[:, : WIDTH // 2] = np.random.default_rng(seed).integers(90, 170, (HEIGHT, WIDTH // 2, 3))
    return found


def write(path: Path, pixels: np.ndarray | None = None, **tags: Any) -> np.ndarray:
    """A tiled TIFF of two levels; its finest one."""
    pixels = picture() if pixels is None else pixels
    with tifffile.TiffWriter(path) as file:
        for level, reduced in enumerate((pixels, pixels[::2, ::2])):
            file.write(reduced, tile=(64, 64), photometric="rgb", metadata=None, subfiletype=int(level > 0), **tags)
    return pixels


def aperio(path: Path, serial: str = "SS1302") -> np.ndarray:
    return write(path, description=APERIO.replace("SS1302", serial))


def generic(path: Path, **tags: Any) -> np.ndarray:
    """Half a micrometre per pixel."""
    known = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "datetime": "2015:02:03 00:00:00"}
    return write(path, **(known | {"software": "Scan 1.2"} | tags))
