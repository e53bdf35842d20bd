"""The contract of an encoder: named and hashed, from uint8 patches to features by one path for all images (P2)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, UInt8

from medi.cohort import pixels
from medi.core.errors import MediError
from medi.core.files import content_hash
from medi.core.types import Images

Shown = UInt8[np.ndarray, "n s s 3"]  # patches at the size that an encoder's network is shown
Features = Float32[np.ndarray, "n d"]


def as_it_is(images: Images) -> Images:
    """The transform of an encoder that takes patches of any size."""
    return images


@dataclass(frozen=True)
class Encoder:
    """A feature extractor: `dimension` numbers from each square patch of at least `smallest` pixels a side.

    `prepare` brings patches to the encoder's own size, `extract` makes features of them, `batch` patches at once.
    `hash` changes with everything that changes a feature (weights, constants, transform); features of different hashes
    are not comparable. `verified`: the numbers are the publisher's own, by its own code and checked weights.
    """

    name: str
    dimension: int
    smallest: int
    licence: str
    hash: str
    extract: Callable[[Shown], Features]
    prepare: Callable[[Images], Shown] = as_it_is
    batch: int = 512
    verified: bool = True

    @property
    def label(self) -> str:
        """What stands beside every number made from these features: name, hash, and whether they are unverified."""
        return f"{self.name} {self.hash}" + ("" if self.verified else " unverified")

    def encode(self, images: Images) -> Features:
        """Features float32 [n, dimension] of uint8 patches, the same whatever patches are beside them.

        Raises MediError for patches that are too small or not square.
        """
        return self.features(self.prepared(images))

    def prepared(self, images: Images) -> Shown:
        """Patches as `extract` takes them; this needs no network, so that it can run ahead of one."""
        height, width = images.shape[1:3]
        if height != width or height < self.smallest:
            raise MediError(
                f"encoder {self.name} takes square patches of at least {self.smallest} px, not {height} x {width}"
            )
        return self.prepare(images)

    def features(self, prepared: Shown) -> Features:
        """Features of prepared patches; numbers that are not finite are refused (P7)."""
        found = self.extract(prepared)
        if not np.isfinite(found).all():
            raise MediError(f"encoder {self.name} gave numbers that are not finite; check its weights, or use fp32")
        return found


def with_jpeg(encoder: Encoder, quality: int) -> Encoder:
    """The same encoder behind a JPEG round trip of every image, real or synthetic (P2): another name, another hash."""
    if not 1 <= quality <= 100:
        raise MediError(f"JPEG quality {quality}: expected 1 to 100")
    return replace(
        encoder,
        name=f"{encoder.name}-jpeg{quality}",
        hash=content_hash(encoder.hash, "jpeg", quality),
        prepare=lambda images: encoder.prepare(pixels.jpeg(images, quality)),
    )
