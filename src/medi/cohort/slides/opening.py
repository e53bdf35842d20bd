"""Opening a slide: by OpenSlide, and an OME-TIFF by TiffSlide, as OpenSlide sees its finest level alone.

Both have one interface. Nothing here or elsewhere asks for their `associated_images`: these are labels and overviews.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medi.cohort.slides.ome import is_ome
from medi.core.errors import MediError

HINT = "pip install 'medi-histo[wsi]'"
OME = (".ome.tif", ".ome.tiff", ".ome.btf")
RGB, YCBCR = 2, 6  # photometric interpretations of colours


def open_slide(path: str | Path) -> Any:
    """An OpenSlide, or a TiffSlide; MediError names a file that is none, or the package that lacks."""
    try:
        import openslide
    except ImportError as error:
        raise MediError(f"{path}: is a slide, and openslide is not installed: {HINT}") from error
    if not os.path.exists(path):
        raise MediError(f"{path}: no such slide")
    try:
        slide = openslide.OpenSlide(str(path))
    except openslide.OpenSlideError as error:
        if isinstance(error, openslide.OpenSlideUnsupportedFormatError) and str(path).lower().endswith(OME):
            return _by_tiffslide(path)
        raise _unreadable(path, error) from error
    if not is_ome(slide.properties):
        return slide
    slide.close()
    return _by_tiffslide(path)


def _by_tiffslide(path: str | Path) -> Any:
    """MediError where the file is broken, or its pixels are not 8-bit RGB."""
    try:
        import tiffslide
    except ImportError as error:
        raise MediError(f"{path}: is a slide, and tiffslide is not installed: {HINT}") from error
    try:
        slide = tiffslide.TiffSlide(str(path))
        series = slide.ts_tifffile.series[slide.properties["tiffslide.series-index"]]
        kind = (series.axes, str(series.dtype), int(series.keyframe.photometric))
        ends = [sum(part) for page in _pages(series) for part in zip(page.dataoffsets, page.databytecounts)]
    except Exception as error:  # tifffile raises whatever a broken file makes it meet
        raise _unreadable(path, error) from error
    if kind[0] not in ("YXS", "CYX") or kind[1] != "uint8" or kind[2] not in (RGB, YCBCR):
        slide.close()
        raise MediError(f"{path}: holds {kind[1]} pixels in the order {kind[0]}; expected colours (RGB) of 8 bits")
    if max(ends, default=0) > os.path.getsize(path):  # decoders fill what is missing with grey
        slide.close()
        raise MediError(f"{path}: not readable as a slide (it is cut short); copy it again")
    return slide


def _pages(series: Any) -> Iterator[Any]:
    """Those of every level."""
    return (page for level in series.levels for page in level.pages)


def _unreadable(path: str | Path, error: Exception) -> MediError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return MediError(f"{path}: not readable as a slide ({reason})")
