"""Pixels: uint8 [N, H, W, 3], memory-mapped. The only place where pixels change type, size or range (P2)."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8
from PIL import Image, ImageOps

from medi.cohort.depth import stated_range
from medi.cohort.lost import damaged
from medi.core.errors import MediError
from medi.core.files import content_hash, linked, read_json, write_atomic, write_json
from medi.core.types import Images

Subsampling = Literal["4:2:0", "4:4:4"]
Box = tuple[float, float, float, float]  # left, upper, right, lower, in pixels
CHUNK_BYTES = 1 << 22  # of pixels under one checksum
Store = Shaped[np.ndarray, "N *patch"]  # pixels, or what else there is one of for each patch


@dataclass(frozen=True, eq=False)
class Sums:
    """The checksums of a store, a chunk of `per` rows each, and which chunks were checked already."""

    path: Path
    per: int
    known: Sequence[str]
    checked: Bool[np.ndarray, " chunks"]

    @classmethod
    def of(cls, path: Path, store: Store) -> "Sums | None":
        """Those that lie beside a store; None of an older store. MediError where they are of another shape."""
        if not _sums_path(path).exists():
            return None
        known = read_json(_sums_path(path))
        if known["shape"] != list(store.shape):
            raise MediError(
                f"{path}: holds {list(store.shape)}, its checksums are of {known['shape']}; {damaged(path.parent)}"
            )
        return cls(path, known["rows_per_chunk"], known["sums"], np.zeros(len(known["sums"]), dtype=bool))

    def check(self, store: Store, rows: Int64[np.ndarray, " k"]) -> None:
        """Check the chunks of these rows, each once; MediError names the rows of one that is damaged."""
        chunks = rows // self.per
        if self.checked[chunks].all():
            return
        for number in sorted(set(chunks[~self.checked[chunks]].tolist())):
            first = number * self.per
            chunk = store[first : first + self.per]
            if content_hash(chunk.tobytes()) != self.known[number]:
                last = first + len(chunk) - 1
                raise MediError(f"{self.path}: rows {first} to {last} are damaged; {damaged(self.path.parent)}")
            self.checked[number] = True


@dataclass(frozen=True)
class Pixels:
    """Rows of a store of square patches; a selection shares the store and copies nothing.

    store: uint8 [N, H, W, 3], in memory or mapped; rows: the store's row of each of our n patches. sums: of a store on
    the disk; each chunk is checked when it is first used.
    """

    store: UInt8[np.ndarray, "N h w 3"]
    rows: Int64[np.ndarray, " n"]
    sums: Sums | None = None

    @classmethod
    def of(cls, images: Images) -> "Pixels":
        """All rows of an array of square patches; MediError where it is none."""
        if images.ndim != 4 or images.shape[-1] != 3 or images.shape[1] != images.shape[2] or images.dtype != np.uint8:
            raise MediError(f"pixels must be uint8 [N, size, size, 3], not {images.dtype} {list(images.shape)}")
        return cls(images, np.arange(len(images), dtype=np.int64))

    @classmethod
    def open(cls, path: Path) -> "Pixels":
        """Map a store that `save` wrote; a file that is cut short is refused."""
        return replace(mapped := cls.of(_mapped(path)), sums=Sums.of(path, mapped.store))

    def save(self, path: Path, chunk: int = 4096) -> Path:
        """Write the selected rows in order as one .npy store, chunk by chunk, and its checksums beside it.

        All rows of a store of the same file system take no further space: its file gets a second name.
        """
        mapped = self._whole_file()
        is_there = mapped is not None and path.exists() and path.samefile(mapped)
        if not is_there:
            _sums_path(path).unlink(missing_ok=True)  # those of another store, should a kill come in between
            if mapped is None or not linked(mapped, path):
                starts = range(0, len(self), chunk)
                write_store(path, (self[slice(start, start + chunk)] for start in starts), len(self), self.size)
        if not _sums_path(path).exists():
            known = (self.sums.per, self.sums.known) if mapped is not None and self.sums is not None else (None, None)
            write_checksums(path, *known)
        return path

    def _whole_file(self) -> Path | None:
        """The file of the store where these are all its rows, in order."""
        mapped = getattr(self.store, "filename", None)
        whole = len(self.rows) == len(self.store) and np.array_equal(self.rows, np.arange(len(self.rows)))
        return Path(mapped) if whole and mapped is not None else None

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return int(self.store.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Sequence[int] | Int64[np.ndarray, " k"] | slice) -> Images:
        """The patches at these positions, as a fresh array uint8 [k, H, W, 3]."""
        rows = self.rows[index]
        if self.sums is not None:
            self.sums.check(self.store, rows)
        return np.asarray(self.store[rows])

    def select(self, index: Int64[np.ndarray, " k"]) -> "Pixels":
        """The patches at these positions; the store is shared."""
        return replace(self, rows=self.rows[index])

    def digest(self, chunk: int = 4096) -> str:
        """A hash of the selected pixels in order."""
        starts = range(0, len(self), chunk)
        return content_hash(*(content_hash(self[slice(start, start + chunk)].tobytes()) for start in starts))


def _mapped(path: Path) -> Store:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MediError(f"{path}: not a whole pixel store ({error}); {damaged(path.parent)}") from error


def write_store(path: Path, chunks: Iterable[Images], count: int, size: int) -> Path:
    """Write `count` patches of `size` pixels, chunk by chunk, as one .npy store."""
    return write_atomic(path, partial(_write_rows, chunks=chunks, shape=(count, size, size, 3)))


def _write_rows(path: Path, chunks: Iterable[Images], shape: tuple[int, int, int, int]) -> None:
    with path.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for chunk in chunks:
            handle.write(chunk.tobytes())


def reserve(store: Path, shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> None:
    """A store of zeros whose space is taken now: a disk that fills up later would kill the workers."""
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(store, mode="w+", dtype=dtype, shape=shape).flush()
        if hasattr(os, "posix_fallocate"):
            with store.open("rb+") as handle:
                os.posix_fallocate(handle.fileno(), 0, store.stat().st_size)
    except OSError as error:
        if store.parent.is_dir():
            store.unlink(missing_ok=True)
        raise MediError(
            f"{store}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from error


def write_checksums(path: Path, rows: int | None = None, sums: Sequence[str] | None = None) -> Path:
    """Write <store>.sums.json: the shape of the store and a checksum per chunk of `rows` rows (about 4 MiB).

    sums: the checksums where the writer of the chunks has them already.
    """
    store = _mapped(path)
    rows = rows or _rows_per_chunk(store)
    found = [content_hash(chunk.tobytes()) for chunk in _chunks(store, rows)] if sums is None else list(sums)
    return write_json(_sums_path(path), {"shape": list(store.shape), "rows_per_chunk": rows, "sums": found})


def same_pixels(one: Path, other: Path) -> bool:
    """Whether the packed cohorts of two folders hold the same pixels, as far as their checksums tell."""
    stores = [folder / "pixels.npy" for folder in (one, other)]
    if all(store.exists() for store in stores) and stores[0].samefile(stores[1]):
        return True
    sums = [_sums_path(store) for store in stores]
    return all(path.exists() for path in sums) and read_json(sums[0]) == read_json(sums[1])


def verify(path: Path, whole: bool = True) -> None:
    """Check a store against its checksums: every chunk, or (whole=False) only the shape and the last chunk.

    MediError names the rows of the first chunk that differs. A store without checksums is older and passes.
    """
    pixels = Pixels.open(path)
    if pixels.sums is not None and len(pixels):
        rows = pixels.rows if whole else pixels.rows[-1:]
        pixels.sums.check(pixels.store, rows)


def _sums_path(path: Path) -> Path:
    return path.with_suffix(".sums.json")


def _rows_per_chunk(store: Store) -> int:
    return max(1, CHUNK_BYTES // max(1, store[:1].nbytes))


def _chunks(store: Store, rows: int) -> Iterator[Store]:
    return (store[start : start + rows] for start in range(0, len(store), rows))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any still image as upright 8-bit RGB: grey, palette, CMYK, 16-bit; transparency over white, as glass is.

    Raises ValueError for modes without a stated range (32-bit integers, floats).
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no stated range; save it with 8 or 16 bits")
    greatest = stated_range(image)
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        values = np.minimum(np.asarray(image, dtype=np.uint32), greatest)
        image = Image.fromarray((values * 255 // greatest).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


_ORIENTATION = 0x0112  # EXIF


def cut(image: Image.Image, box: Box, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """A square part of an RGB image, antialiased (Lanczos) to size x size; at scale 1 the pixels themselves."""
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box))


def to_float(images: Images) -> Float32[np.ndarray, "n 3 h w"]:
    """uint8 [n, h, w, 3] -> float32 [n, 3, h, w] in [-1, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1.0


def to_uint8(images: Float32[np.ndarray, "n 3 h w"]) -> Images:
    """float [n, 3, h, w] in [-1, 1] -> uint8 [n, h, w, 3]: clamp, scale, round."""
    scaled = np.rint((np.clip(images, -1.0, 1.0) + 1.0) * 127.5)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(0, 2, 3, 1))


def resize(
    images: Images, size: int, resampling: Image.Resampling = Image.Resampling.LANCZOS
) -> UInt8[np.ndarray, "n {size} {size} 3"]:
    """Antialiased resampling of each patch to size x size; the same patches back where nothing is to do."""
    if images.shape[1] == size:
        return images
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), resampling)) for image in images])


def middle(images: Images, size: int) -> UInt8[np.ndarray, "n {size} {size} 3"]:
    """The middle size x size pixels of each patch."""
    start = (images.shape[1] - size) // 2
    return images[:, start : start + size, start : start + size]


def jpeg(images: Images, quality: int) -> Images:
    """Each patch as it comes back from a JPEG file of this quality (4:2:0)."""
    return np.stack([through_jpeg(image, quality) for image in images])


def through_jpeg(
    image: UInt8[np.ndarray, "h w 3"], quality: int, subsampling: Subsampling = "4:2:0"
) -> UInt8[np.ndarray, "h w 3"]:
    """One image as it comes back from a JPEG file; subsampling: of the colours."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))
