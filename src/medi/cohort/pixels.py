"""Pixels: uint8 [N, H, W, 3], memory-mapped. The only place where pixels change type, size or range (P2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

from medi.errors import MediError
from medi.files import content_hash, write_atomic

Images = UInt8[np.ndarray, "n h w 3"]


@dataclass(frozen=True)
class Pixels:
    """Rows of a store of square patches; a selection shares the store and copies nothing.

    store: uint8 [N, H, W, 3], in memory or mapped; rows: the store's row of each of our n patches.
    """

    store: UInt8[np.ndarray, "N h w 3"]
    rows: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, images: Images) -> "Pixels":
        if images.ndim != 4 or images.shape[-1] != 3 or images.shape[1] != images.shape[2] or images.dtype != np.uint8:
            raise MediError(f"pixels must be uint8 [N, size, size, 3], not {images.dtype} {list(images.shape)}")
        return cls(images, np.arange(len(images), dtype=np.int64))

    @classmethod
    def open(cls, path: Path) -> "Pixels":
        """Map a store that `save` wrote; a file that is cut short is refused."""
        try:
            return cls.of(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise MediError(f"{path}: not a whole pixel store ({error}); pack the cohort again") from error

    def save(self, path: Path, chunk: int = 4096) -> Path:
        """Write the selected rows in order as one .npy store, chunk by chunk."""
        return write_atomic(path, lambda temporary: self._write(temporary, chunk))

    def _write(self, path: Path, chunk: int) -> None:
        shape = (len(self), self.size, self.size, 3)
        with path.open("wb") as handle:
            np.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for start in range(0, len(self), chunk):
                handle.write(self[np.arange(start, min(start + chunk, len(self)))].tobytes())

    @property
    def size(self) -> int:
        return int(self.store.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Sequence[int] | Int64[np.ndarray, " k"] | slice) -> Images:
        """The patches at these positions, as a fresh array uint8 [k, H, W, 3]."""
        return np.asarray(self.store[self.rows[index]])

    def select(self, index: Int64[np.ndarray, " k"]) -> "Pixels":
        return Pixels(self.store, self.rows[index])

    def digest(self, chunk: int = 4096) -> str:
        """A hash of the selected pixels in order."""
        starts = range(0, len(self), chunk)
        return content_hash(*(content_hash(self[slice(start, start + chunk)].tobytes()) for start in starts))


def to_float(images: Images) -> Float32[np.ndarray, "n 3 h w"]:
    """uint8 [n, h, w, 3] -> float32 [n, 3, h, w] in [-1, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1.0


def to_uint8(images: Float32[np.ndarray, "n 3 h w"]) -> Images:
    """float [n, 3, h, w] in [-1, 1] -> uint8 [n, h, w, 3]: clamp, scale, round."""
    scaled = np.rint((np.clip(images, -1.0, 1.0) + 1.0) * 127.5)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(0, 2, 3, 1))


def resize(images: Images, size: int) -> Images:
    """Antialiased (Lanczos) resampling of each patch to size x size; the same patches back where nothing is to do."""
    if images.shape[1] == size:
        return images
    resized = [Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS) for image in images]
    return np.stack([np.asarray(image) for image in resized])
