"""The eight views of a patch: quarter turns and mirror images, as tissue has no upright. The one place for them.

Measures mirror first and then turn; training turns first and then mirrors. The second is the first with the quarter
turns the other way round; both are kept, as seeds and files of today name views by these numbers.
"""

import numpy as np
from jaxtyping import Float32, Int64, UInt8

Planes = Float32[np.ndarray, "n c s s"] | UInt8[np.ndarray, "n c s s"]
VIEWS = 8
QUARTERS = (  # turns of [c, s, s]; numpy's rot90 is as slow as the noise of training
    lambda image: image,
    lambda image: image[:, :, ::-1].swapaxes(1, 2),
    lambda image: image[:, ::-1, ::-1],
    lambda image: image.swapaxes(1, 2)[:, :, ::-1],
)


def turned(
    images: UInt8[np.ndarray, "*n h w c"] | Float32[np.ndarray, "*n h w c"], turn: int
) -> UInt8[np.ndarray, "*n v u c"] | Float32[np.ndarray, "*n v u c"]:
    """One image or several, mirrored where turn >= 4, then turned by turn % 4 quarters against the clock.

    >>> patch = np.array([[[1], [2]], [[3], [4]]], dtype=np.uint8)
    >>> turned(patch, 1)[..., 0].tolist(), turned(patch, 4)[..., 0].tolist()
    ([[2, 4], [1, 3]], [[2, 1], [4, 3]])
    """
    return np.rot90(images[..., ::-1, :] if turn >= 4 else images, turn % 4, axes=(-3, -2))


def dihedral(images: Planes, turns: Int64[np.ndarray, " n"]) -> Planes:
    """Turn image i by turns[i] % 4 quarters against the clock, then mirror it where turns[i] >= 4.

    >>> patch = np.array([[[[1, 2], [3, 4]]]], dtype=np.float32)
    >>> dihedral(patch, np.array([5]))[0, 0].tolist()
    [[4.0, 2.0], [3.0, 1.0]]
    """
    views = np.empty_like(images)
    for view, image, k in zip(views, images, turns):
        quarter = QUARTERS[k % 4](image)
        view[:] = quarter[:, :, ::-1] if k >= 4 else quarter
    return views
