"""One image file or tar member into patches (P2): Fit says which parts, `pack_unit` does it for some dozens at a time.

What the processes of packing.py run; each image's failure is its own, named with its reason.
"""

import functools
import io
import os
import tarfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from medi.cohort.archives import members_of
from medi.cohort.depth import FULL, UNSTATED, check_alone, check_colours, is_dark, is_deep, stated_range
from medi.cohort.pixels import Box, cut, to_rgb
from medi.cohort.slides.region import Region, read_region
from medi.core.errors import MediError
from medi.core.files import Hasher
from medi.core.settings import validated
from medi.core.types import Images

MAX_PIXELS = 89_478_485  # of one image, Pillow's own limit: beyond it a small file may fill the memory
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")  # not those that run other programs (EPS)
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is refused here, in one line

Mode = Literal["resize", "crop", "tile"]
Patch = UInt8[np.ndarray, "size size 3"]


@validated
@dataclass(frozen=True)
class Fit:
    """How an image becomes patches of size x size pixels.

    resize: the whole (square) image. crop: its centre. tile: every whole tile, from the upper left. With mpp, crop and
    tile first resample to that many micrometres per pixel, which needs the image's own.
    """

    size: int
    mode: Mode = "resize"
    mpp: float | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise MediError(f"size {self.size}: a patch has at least one pixel")
        if self.mpp is not None and (self.mode == "resize" or not self.mpp > 0):
            raise MediError(f"mpp {self.mpp} with mode {self.mode}: mpp is positive and goes with crop or tile")

    def side(self, mpp: float) -> float:
        """The side of a patch in pixels of an image of `mpp` (crop, tile)."""
        return float(self.size) if self.mpp is None else self.size * self.mpp / mpp

    def boxes(self, width: int, height: int, mpp: float) -> list[Box]:
        """The parts of an image that become patches; ValueError where it is too small or not square."""
        if self.mode == "resize":
            if width != height:
                raise ValueError(f"{width} x {height} pixels are not square; use mode crop or tile")
            return [(0.0, 0.0, float(width), float(height))]
        side = self.side(mpp)
        if side > min(width, height) + 1e-6:
            raise ValueError(f"{width} x {height} pixels are too few: a patch needs {side:g}")
        if self.mode == "crop":
            return [_square((width - side) / 2, (height - side) / 2, side, self.mpp is None)]
        columns, rows = int((width + 1e-6) // side), int((height + 1e-6) // side)
        return [_square(x * side, y * side, side, self.mpp is None) for y in range(rows) for x in range(columns)]

    def packed_mpp(self, width: int, mpp: float) -> float:
        """Micrometres per pixel of the patches (NaN where the image's is unknown)."""
        return mpp * width / self.size if self.mode == "resize" else (mpp if self.mpp is None else self.mpp)


def _square(left: float, upper: float, side: float, whole: bool) -> Box:
    """Whole pixels where nothing is resampled, so that they stay as they are."""
    if whole:
        left, upper = float(int(left)), float(int(upper))
    return (left, upper, left + side, upper + side)


@dataclass(frozen=True)
class Job:
    """One image: where it is, its micrometres per pixel, the first row of its patches and how many."""

    image: str
    mpp: float
    row: int
    count: int


@dataclass(frozen=True)
class Shared:
    """What all units share: the folder of the images, the store to fill, and how."""

    root: Path
    store: Path
    fit: Fit


@dataclass(frozen=True)
class Done:
    """A unit's result: the checksum of its rows, (image, reason) of those that failed, each image's packed mpp.

    deep: how many images of 16 bits do not state their range; dark: those of them without a value above 12 bits.
    """

    unit: int
    checksum: str
    failed: list[list[str]]
    mpp: list[float]
    deep: int = 0
    dark: list[str] = field(default_factory=list)


def count_unit(
    start: int, images: list[str], scale: list[float], root: Path, fit: Fit
) -> tuple[int, list[int], list[list[str]]]:
    counts, failed = [], []
    for name, mpp in zip(images, scale):
        try:
            with _open(root, name) as image:
                counts.append(len(fit.boxes(*_upright(image), mpp)))
        except Exception as error:  # whatever a decoder throws at a broken file, it is that file's
            counts.append(0)
            failed.append([name, _reason(error)])
    return start, counts, failed


def _upright(image: Image.Image) -> tuple[int, int]:
    """Width and height once the EXIF orientation is applied (5 to 8 turn by a quarter)."""
    turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) >= 5  # Pillow turns TIFF's size itself
    return (image.height, image.width) if turned else image.size


def read_sizes(root: Path, names: Sequence[str]) -> list[tuple[int, int]]:
    """Width and height of images, from their headers; those that cannot be read are left out."""
    found = []
    for name in names:
        with suppress(Exception), _open(root, name) as image:
            found.append(_upright(image))
    return found


def pack_unit(number: int, jobs: list[Job], shared: Shared) -> Done:
    """Write the rows of a unit, image by image while its bytes are in the cache; those of failed images are 0.

    Plain writing is faster than filling a map page by page.
    """
    store, first, hasher = np.load(shared.store, mmap_mode="r"), jobs[0].row, Hasher()
    black = np.zeros(store.shape[1:], dtype=np.uint8)
    failed, mpp, deep = list[list[str]](), list[float](), dict[str, bool]()
    hasher.begin((jobs[-1].row + jobs[-1].count - first) * black.nbytes)
    with shared.store.open("rb+") as file:
        file.seek(store.offset + first * black.nbytes)
        for job in jobs:
            patches, scale = [black] * job.count, float("nan")
            try:
                if job.count:  # else it was listed already when tiles were counted
                    patches, scale = _pack_region(job, shared) or _pack_image(job, shared, deep)
            except Exception as error:  # as above
                failed.append([job.image, _reason(error)])
            mpp.append(scale)
            for patch in patches:
                file.write(patch.data)
                hasher.add(patch.data)
    return Done(number, hasher.digits(), failed, mpp, len(deep), [name for name in deep if deep[name]])


def _pack_region(job: Job, shared: Shared) -> tuple[list[Patch], float] | None:
    """A region of a slide that is a patch as it is read; None of any other image."""
    fit, region = shared.fit, Region.named(job.image)
    if region is None or fit.boxes(region.size, region.size, job.mpp) != [(0, 0, fit.size, fit.size)]:
        return None
    with suppress(FileNotFoundError):  # then it is a file whose name looks like a region's
        return [read_region(shared.root, region)], fit.packed_mpp(region.size, job.mpp)
    return None


def _pack_image(job: Job, shared: Shared, deep: dict[str, bool]) -> tuple[list[Patch], float]:
    """Decode and fit one image: its patches and their micrometres per pixel. `deep`: is such an image dark?"""
    fit = shared.fit
    with _open(shared.root, job.image) as raw:
        image, dark = _decoded(raw)
        if dark is not None:
            deep[job.image] = dark
        boxes = fit.boxes(image.width, image.height, job.mpp)
        if len(boxes) != job.count:
            raise ValueError("it was changed while it was packed")
        return [cut(image, box, fit.size) for box in boxes], fit.packed_mpp(image.width, job.mpp)


def _decoded(raw: Image.Image) -> tuple[Image.Image, bool | None]:
    """An opened image as RGB; and of 16 bits without a stated range, whether it is dark, None of others."""
    unstated = is_deep(raw) and stated_range(raw) == FULL
    image = to_rgb(raw)
    return image, is_dark(image) if unstated else None


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such image"
    if isinstance(error, Image.DecompressionBombError):
        return f"over {MAX_PIXELS} pixels, possibly a decompression bomb"
    if isinstance(error, UnidentifiedImageError):
        return "no image format that is known here"
    return str(error) if isinstance(error, (ValueError, MediError)) else f"not readable ({error})"


def read_patches(paths: Sequence[Path], called: Sequence[str]) -> Images:
    """Image files that are patches of one size: uint8 [n, size, size, 3].

    called: how messages name each file. MediError where one cannot be read, is not square, or has another size.
    """
    size, found = 0, []
    for path, name in zip(paths, called, strict=True):
        found.append(_read(path, name, size, called[0]))
        size = len(found[0][0])
    dark = [name for name, (_, dark) in zip(called, found) if dark]
    if dark and not any(is_dark is False for _, is_dark in found):
        raise MediError(f"{dark[0]}: {UNSTATED}")
    return np.stack([image for image, _ in found])


def read_patch(path: Path, called: str) -> UInt8[np.ndarray, "size size 3"]:
    """One image file that is a patch already: its pixels as they are.

    called: how messages name the file. MediError where it cannot be read, or is not square.
    """
    return read_patches([path], [called])[0]


def _read(path: Path, called: str, size: int, first: str) -> tuple[UInt8[np.ndarray, "s s 3"], bool | None]:
    """The pixels of a patch, and `_decoded`'s word on them. Its header is looked at before it is decoded.

    size: in pixels, that of the patch `first`; 0: any.
    """
    try:
        with _checked(path) as raw:
            width, height = raw.size  # turned or not: Pillow decodes PNG before it tells
            if width != height:
                raise MediError(f"{called}: has {width} x {height} px, patches must be square; pack it")
            if size and width != size:
                raise MediError(f"{called}: has another size than {first} ({size} px); bring them to one size")
            image, dark = _decoded(raw)
            return np.asarray(image), dark
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise MediError(f"{called}: not readable as an image ({_reason(error)}); choose PNG, JPEG or TIFF") from error


def read_image(root: Path, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image of a cohort as they are: a file, a member of a tar, or a region of a slide.

    MediError names one that cannot be read.
    """
    try:
        with _open(root, name) as raw:
            return np.asarray(_decoded(raw)[0])
    except Exception as error:  # as above
        raise MediError(f"{root / name}: {_reason(error)}; mend it, or leave it out (--on-error skip)") from error


def _open(root: Path, name: str) -> Image.Image:
    """The image, header read; a file below `root`, a member of a tar, or a region of a slide."""
    if (region := Region.named(name)) is not None:
        with suppress(FileNotFoundError):  # as above
            return Image.fromarray(read_region(root, region))
    return _checked(_bytes(root, name) if ".tar!" in name else os.path.join(root, name))


def _checked(file: str | Path | io.BytesIO) -> Image.Image:
    """An image of a known format, header read, that is not too large and alone in its file."""
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    check_alone(image)
    check_colours(image)
    return image


def _bytes(root: Path, name: str) -> io.BytesIO:
    shard, _, member = name.partition("!")
    handle, index = _tar(str(root / shard), (root / shard).stat().st_mtime_ns)
    if member not in index:
        raise FileNotFoundError(name)
    offset, length = index[member]
    handle.seek(offset)
    return io.BytesIO(handle.read(length))


@functools.lru_cache(maxsize=8)
def _tar(path: str, changed: int) -> tuple[IO[bytes], dict[str, tuple[int, int]]]:
    """An open tar and where its regular members' bytes lie; read once per process, nothing is extracted."""
    with tarfile.open(path, "r:") as archive:
        index = {m.name: (m.offset_data, m.size) for m in members_of(Path(path), archive) if m.isfile()}
    return open(path, "rb"), index
