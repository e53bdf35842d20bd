"""The embedded encoder, "colour-texture": no weights, 67 numbers a patch.

Colour moments and quantiles carry the stain; energies, correlations and anisotropy of the optical density at several
scales carry the tissue.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as memoised

import numpy as np
from jaxtyping import Float32

from medi.core.files import content_hash
from medi.core.types import Images
from medi.evaluation.encoders.contract import Encoder, Features

Channel = Float32[np.ndarray, "n h w"]

VERSION = 1  # raise it when the code gives other numbers from the same constants
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LAGS = (2, 3, 4, 6, 8)  # pixels
LEVELS = 4  # of the pyramid, each half the size of the one before
FLOOR = 4e-4  # added to energies (squared optical density) before the logarithm, so that sensor noise hardly counts
# Haematoxylin and eosin from R, G, B optical density, about: rows of the scaled inverse of generic stain vectors.
UNMIX = ((0.95, -0.10, -0.45), (-0.55, 0.60, 0.30))


@dataclass(frozen=True)
class _View:
    """What the features are made from: values as [n, pixels] rows, planes as [n, h, w]."""

    rgb: list[Float32[np.ndarray, "n p"]]
    density: list[Float32[np.ndarray, "n p"]]
    stains: list[Channel]
    grey: Channel


def describe(images: Images) -> Features:
    """The features of "colour-texture"; every sum runs within one image, so that the batch changes no bit."""
    view = _view(images)
    return np.concatenate([np.float32(scale) * group(view) for group, scale in _GROUPS], axis=1)


def _view(images: Images) -> _View:
    table = -np.log((np.arange(256) + 1.0) / 256.0)
    planes = [np.ascontiguousarray(images[..., i]) for i in range(3)]
    density = [table.astype(np.float32)[plane] for plane in planes]
    red, green, blue = density
    stains = [np.float32(r) * red + np.float32(g) * green + np.float32(b) * blue for r, g, b in UNMIX]
    grey = (red + green + blue) / np.float32(3)
    return _View([_flat(p.astype(np.float32)) / 255 for p in planes], [_flat(d) for d in density], stains, grey)


def _flat(plane: Channel) -> Float32[np.ndarray, "n p"]:
    return np.ascontiguousarray(plane).reshape(len(plane), -1)


def _mean(plane: Channel) -> Float32[np.ndarray, " n"]:
    return _flat(plane).mean(axis=1)


def _columns(columns: list[Float32[np.ndarray, " n"]]) -> Features:
    return np.stack(columns, axis=1).astype(np.float32)


def _moments(view: _View) -> Features:
    """Mean and standard deviation of R, G, B and of both stains."""
    planes = view.rgb + [_flat(stain) for stain in view.stains]
    return _columns([p.mean(axis=1) for p in planes] + [p.std(axis=1) for p in planes])


def _quantiles(view: _View) -> Features:
    """Quantiles of R, G, B."""
    places = np.rint(np.array(QUANTILES) * (view.rgb[0].shape[1] - 1)).astype(int)
    return np.concatenate([np.sort(plane, axis=1)[:, places] for plane in view.rgb], axis=1)


def _correlations(view: _View) -> Features:
    """Correlation of each pair of optical densities: the directions of the stains."""
    centred = [d - d.mean(axis=1, keepdims=True) for d in view.density]
    norms = [np.sqrt((c**2).mean(axis=1)) + 1e-3 for c in centred]
    pairs = ((0, 1), (0, 2), (1, 2))
    return _columns([(centred[i] * centred[j]).mean(axis=1) / (norms[i] * norms[j]) for i, j in pairs])


def _shapes(view: _View) -> Features:
    """Skewness and (damped) kurtosis of the grey density and of both stains."""
    out = []
    for plane in (view.grey, *view.stains):
        flat = _flat(plane)
        z = (flat - flat.mean(axis=1, keepdims=True)) / (flat.std(axis=1, keepdims=True) + 1e-3)
        out += [(z**3).mean(axis=1), np.log((z**4).mean(axis=1) + 1.0)]
    return _columns(out)


def _half(plane: Channel) -> Float32[np.ndarray, "n h//2 w//2"]:
    """Mean over 2 x 2 pixels; an odd last row and column is left out."""
    even = plane[:, : plane.shape[1] // 2 * 2, : plane.shape[2] // 2 * 2]
    rows = even[:, ::2] + even[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / np.float32(4)


def _pyramid(plane: Channel) -> list[Float32[np.ndarray, "n _ _"]]:
    levels = [plane]
    while len(levels) < LEVELS:
        levels.append(_half(levels[-1]))
    return levels


def _energies(view: _View) -> Features:
    """Logarithms of gradient and of curvature energy of grey density and both stains, at every scale."""
    out = []
    for plane in (view.grey, *view.stains):
        for level in _pyramid(plane):
            dy, dx = np.diff(level, axis=1), np.diff(level, axis=2)
            out.append(np.log(_mean(dy**2) + _mean(dx**2) + FLOOR))
            out.append(np.log(_mean(np.diff(dy, axis=1) ** 2) + _mean(np.diff(dx, axis=2) ** 2) + FLOOR))
    return _columns(out)


def _anisotropy(view: _View) -> Features:
    """Coherence of the structure tensor at every scale: 0 without a direction, 1 for stripes; free of orientation."""
    out = []
    for level in _pyramid(view.grey):
        down, right = np.diff(level, axis=1), np.diff(level, axis=2)
        dy, dx = down[:, :, 1:] + down[:, :, :-1], right[:, 1:] + right[:, :-1]  # both in the middle of 2 x 2 pixels
        yy, xx, xy = _mean(dy * dy), _mean(dx * dx), _mean(dy * dx)
        out.append(np.sqrt((yy - xx) ** 2 + 4.0 * xy**2) / (yy + xx + 4e-4))
    return _columns(out)


def _autocorrelation(view: _View) -> Features:
    """Correlation of the grey density with itself at a few lags, mean of both axes."""
    centred = view.grey - _mean(view.grey)[:, None, None]
    power = _mean(centred**2) + 1e-3
    pairs = [(centred[:, lag:] * centred[:, :-lag], centred[:, :, lag:] * centred[:, :, :-lag]) for lag in LAGS]
    return _columns([(_mean(down) + _mean(across)) / (2.0 * power) for down, across in pairs])


# Each group with a factor that brings its numbers to a spread of about one over mixed sites and classes.
_GROUPS: tuple[tuple[Callable[[_View], Features], float], ...] = (
    (_moments, 12.0),
    (_quantiles, 12.0),
    (_correlations, 12.0),
    (_shapes, 2.0),
    (_energies, 1.0),
    (_anisotropy, 5.0),
    (_autocorrelation, 5.0),
)


@memoised
def _constants_hash() -> str:
    groups = [[group.__name__, scale] for group, scale in _GROUPS]
    return content_hash("colour-texture", VERSION, QUANTILES, LAGS, LEVELS, FLOOR, UNMIX, groups)


COLOUR_TEXTURE = Encoder("colour-texture", 67, 32, "Apache-2.0 (part of medi)", _constants_hash(), describe)
