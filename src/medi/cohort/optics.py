"""Optical density of pixels, and which of them show tissue: the one place for both.

Light that passes a stain falls off as I = I0 exp(-density) (Beer-Lambert), with natural logarithms throughout.
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt8

GLASS, BLACK = 0.1, 2.5  # mean optical densities between which a pixel shows tissue

# Optical densities of haematoxylin and eosin in R, G and B (Ruifrok and Johnston 2001).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]], dtype=np.float32)
_TABLE = -np.log((np.arange(256) + 1.0) / 256).astype(np.float32)


def optical_density(images: UInt8[np.ndarray, "*shape 3"]) -> Float32[np.ndarray, "*shape 3"]:
    """-ln((value + 1) / 256) of every channel: 0 for white, 5.5 for black.

    >>> import numpy as np
    >>> optical_density(np.array([[255, 0, 0]], dtype=np.uint8)).astype(int).tolist()
    [[0, 5, 5]]
    """
    return _TABLE[images]


def shows_tissue(
    density: Float32[np.ndarray, "*shape 3"], glass: float = GLASS, black: float = BLACK
) -> Bool[np.ndarray, "*shape"]:
    """Whether the mean density of a pixel's channels lies between that of glass and that of black borders."""
    mean = density.mean(axis=-1)
    return (mean > glass) & (mean < black)


def tissue_share(images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, " n"]:
    """The share of each patch's pixels that show tissue."""
    return shows_tissue(optical_density(images)).mean(axis=(1, 2), dtype=np.float32)
