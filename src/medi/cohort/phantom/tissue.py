"""Tissue before staining: arrangements of nuclei, glands, clefts and fibres, as maps of haematoxylin and eosin."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from medi.cohort.phantom.factors import (
    CLOUD,
    CRACKS,
    FIELD,
    LYMPHOCYTES,
    MARGIN,
    SLIDE,
    TISSUES,
    Angles,
    Map,
    Points,
    Section,
    Tissue,
)
from medi.core.seeds import generator


def cut(class_: str, group: str, slide: str, sample: str, seed: int, size: int) -> Section:
    """The tissue of one patch before staining, from the keys of its slide and of itself; [size, size] maps."""
    tissue = slide_tissue(TISSUES[class_], slide, seed)
    rng = generator("phantom", "tissue", seed, sample)
    centres, angles, gap, direction = ARRANGEMENTS[tissue.arrangement](rng, tissue, field_frame(size))
    density, cover = nuclei_maps(rng, tissue, centres, angles, LYMPHOCYTES[group], size)
    cloud, fibre, grain = noises(rng, size, (4.0, 0.0, 1.0), (1.5, direction, 5.0), (1.5, 0.0, 1.0))
    chromatin = 1.0 + tissue.chromatin * grain
    cracks = 2.0 * (-cloud - CRACKS)  # any tissue tears and shrinks
    white = tissue.lumen * np.clip(np.maximum(gap, cracks), 0.0, 1.0) * (1.0 - cover)
    cytoplasm = np.maximum(1.0 + CLOUD * cloud + tissue.fibre * fibre, 0.1) * (1.0 - white)
    haematoxylin = density * chromatin + tissue.basophilia * cytoplasm * (1.0 - cover)
    eosin = tissue.eosin * cytoplasm * (1.0 - 0.5 * cover)
    return Section(np.maximum(haematoxylin, 0.0), eosin, cover > 0.5)


@lru_cache(maxsize=64)
def slide_tissue(tissue: Tissue, slide: str, seed: int) -> Tissue:
    """The class's tissue as it is in this slide."""
    rng = generator("phantom", "slide tissue", seed, slide)
    names = ("spacing", "radius", "eosin", "basophilia", "disorder", "fibre", "lumen")
    factors = {name: getattr(tissue, name) * math.exp(SLIDE[name] * rng.standard_normal()) for name in names}
    return replace(tissue, **(factors | {"lumen": min(factors["lumen"], 1.0)}))


Frame = tuple[Map, Map]
Layout = tuple[Points, Angles, Map, float]  # centres (y, x) and angles of nuclei, gaps [h, w], direction of fibres


@lru_cache(maxsize=4)
def field_frame(size: int) -> Frame:
    """y and x of each pixel's centre in micrometres, the field's centre at 0."""
    axis = (np.arange(size) + 0.5) * (FIELD / size) - FIELD / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _turn(s: Angles, t: Angles, angle: float | Angles) -> Points:
    """Points (y, x) from coordinates along (s) and across (t) the direction `angle`."""
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.stack([s * sine + t * cosine, s * cosine - t * sine], axis=-1)


def _lattice(along: float, across: float, offset: tuple[float, float]) -> tuple[Angles, Angles]:
    """s and t of a staggered lattice that covers field and margin however it is turned; spacings in micrometres."""
    reach = (FIELD / 2 + MARGIN) * math.sqrt(2.0)
    rows, columns = math.ceil(reach / across), math.ceil(reach / along)
    i, j = np.mgrid[-rows : rows + 1, -columns : columns + 1].reshape(2, -1)
    return (j + 0.5 * (i % 2) + offset[0]) * along, (i + offset[1]) * across


def jittered(rng: np.random.Generator, along: float, across: float, jitter: float, angle: float) -> Points:
    """Points of a turned lattice at a random offset, each moved by `jitter` (share of the spacing)."""
    s, t = _lattice(along, across, (rng.random(), rng.random()))
    s, t = (axis + jitter * step * rng.standard_normal(axis.shape) for axis, step in ((s, along), (t, across)))
    return _turn(s, t, angle)


def _scattered(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """A sheet of nuclei without order."""
    angle = rng.uniform(0.0, math.pi)
    centres = jittered(rng, tissue.spacing, 0.87 * tissue.spacing, tissue.disorder, angle)
    return centres, rng.uniform(0.0, math.pi, len(centres)), np.zeros_like(frame[0]), angle


def _fascicle(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Spindle-shaped nuclei and fibres that stream in one direction, slits between them."""
    angle = rng.uniform(0.0, math.pi)
    centres = jittered(rng, 1.2 * tissue.spacing, 0.8 * tissue.spacing, tissue.disorder, angle)
    gap = 1.5 * (noise(rng, len(frame[0]), 1.8, angle, 4.0) - 1.7)
    return centres, angle + 2.0 * tissue.disorder * rng.standard_normal(len(centres)), gap, angle


def _palisaded(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Wavy rows of upright nuclei, a cleft between every second pair of rows and stroma between the others."""
    angle, phase, offset = rng.uniform(0.0, math.pi), rng.uniform(0.0, 2.0 * math.pi), rng.random()
    pitch, width = 1.8 * tissue.spacing, rng.uniform(-3.0, 3.5)
    s, t = _lattice(tissue.spacing, pitch, (rng.random(), offset))
    s, t = (axis + tissue.disorder * tissue.spacing * rng.standard_normal(axis.shape) for axis in (s, t))
    centres = _turn(s, t + 3.0 * np.sin(s / 11.0 + phase), angle)
    y, x = frame
    along, across = y * math.sin(angle) + x * math.cos(angle), y * math.cos(angle) - x * math.sin(angle)
    row = (across - 3.0 * np.sin(along / 11.0 + phase)) / pitch - offset
    distance = pitch * np.abs((row - 0.5) % 2.0 - 1.0)  # from the middle of the nearest cleft
    gap = 0.5 + (width + 2.0 * noise(rng, len(y), 4.0) - distance) / 2.5
    return centres, angle + math.pi / 2 + 2.0 * tissue.disorder * rng.standard_normal(len(centres)), gap, angle


def _ring(rng: np.random.Generator, tissue: Tissue, frame: Frame) -> Layout:
    """Glands, nuclei on ellipses around white lumina of any width, and stroma with nuclei of its own between them."""
    radius, angle, stretch = 1.6 * tissue.spacing, rng.uniform(0.0, math.pi), rng.uniform(1.0, 1.3)
    glands = _inside(jittered(rng, 2.7 * radius * stretch, 2.4 * radius / stretch, 0.06, angle), 2.0 * radius)
    radii = radius * np.exp(0.10 * rng.standard_normal(len(glands)))
    counts = np.maximum(np.rint(2.0 * math.pi * radii / tissue.spacing).astype(int), 3)
    which = np.repeat(np.arange(len(glands)), counts)
    polar = 2.0 * math.pi * np.arange(len(which)) / counts[which] + tissue.disorder * rng.standard_normal(len(which))
    reach = radii[which] + tissue.disorder * tissue.spacing * rng.standard_normal(len(which))
    wall = glands[which] + _turn(reach * np.cos(polar) * stretch, reach * np.sin(polar) / stretch, angle)
    stroma = _inside(jittered(rng, 1.2 * tissue.spacing, 1.2 * tissue.spacing, 0.25, angle), MARGIN)
    stroma = stroma[_depth(stroma, glands, radii, angle, stretch) > 5.0]
    angles = np.concatenate([angle + polar, rng.uniform(0.0, math.pi, len(stroma))])
    lumina = radii - rng.uniform(5.75, 11.5, len(radii))
    depth = _depth(np.stack(frame, axis=-1).reshape(-1, 2), glands, lumina, angle, stretch).reshape(frame[0].shape)
    gap = 0.5 + (1.8 * noise(rng, len(depth), 4.0) - depth) / 2.5
    return np.concatenate([wall, stroma]), angles, gap, angle


def _inside(points: Points, margin: float) -> Float64[np.ndarray, "inside 2"]:
    """The points in the field or at most `margin` micrometres outside."""
    return points[np.abs(points).max(axis=1, initial=0.0) < FIELD / 2 + margin]


def _depth(
    points: Float64[np.ndarray, "p 2"], glands: Points, radii: Angles, angle: float, stretch: float
) -> Float64[np.ndarray, " p"]:
    """Signed distance (micrometres, about) of each point from the nearest gland's ellipse, negative inside."""
    y, x = (points[:, None, :] - glands).transpose(2, 0, 1)
    along, across = y * math.sin(angle) + x * math.cos(angle), y * math.cos(angle) - x * math.sin(angle)
    return (np.sqrt((along / stretch) ** 2 + (across * stretch) ** 2) - radii).min(axis=1, initial=FIELD)


ARRANGEMENTS = {"scattered": _scattered, "palisaded": _palisaded, "ring": _ring, "fascicle": _fascicle}


def nuclei_maps(
    rng: np.random.Generator, tissue: Tissue, centres: Points, angles: Angles, lymphocytes: float, size: int
) -> tuple[Map, Map]:
    """Haematoxylin and coverage (0 to 1) of the class's nuclei and of infiltrating lymphocytes, each [h, w]."""
    inside = np.abs(centres).max(axis=1) < FIELD / 2 + 0.75 * MARGIN
    extra = rng.poisson(lymphocytes * (1.0 + 2.0 * MARGIN / FIELD) ** 2)
    own = int(inside.sum())
    positions = np.concatenate([centres[inside], rng.uniform(-1.0, 1.0, (extra, 2)) * (FIELD / 2 + MARGIN)])
    turns = np.concatenate([angles[inside], np.zeros(extra)])
    is_own = np.arange(own + extra) < own
    radius = np.where(is_own, tissue.radius, 2.7) * np.exp(0.13 * rng.standard_normal(own + extra))
    stretch = np.sqrt(np.where(is_own, tissue.elongation * np.exp(0.12 * rng.standard_normal(own + extra)), 1.0))
    dark = np.where(is_own, tissue.nuclear, 1.35) * np.exp(0.14 * rng.standard_normal(own + extra))
    clearing = np.where(is_own, tissue.clearing, 0.0)
    ellipses = np.stack([*positions.T, radius * stretch, radius / stretch, turns, dark, clearing])
    return _stamp(ellipses, size)


def _stamp(ellipses: Float64[np.ndarray, "7 k"], size: int) -> tuple[Map, Map]:
    """Soft-edged ellipses, the darker on top: (y, x, long and short semi-axis, angle, density, clearing) each."""
    y, x, long, short, angle, dark, clearing = ellipses[:, :, None, None]
    pixel = FIELD / size
    half = math.ceil((long.max(initial=1.0) + pixel) / pixel) + 1
    corner = np.floor((ellipses[:2].T + FIELD / 2) / pixel).astype(int)  # the pixel that holds the centre
    step = np.arange(-half, half + 1)
    dy = ((corner[:, 0, None] + step + 0.5) * pixel - FIELD / 2)[:, :, None] - y
    dx = ((corner[:, 1, None] + step + 0.5) * pixel - FIELD / 2)[:, None, :] - x
    u, v = dy * np.sin(angle) + dx * np.cos(angle), dy * np.cos(angle) - dx * np.sin(angle)
    depth = 1.0 - np.sqrt((u / long) ** 2 + (v / short) ** 2)  # 1 at the centre, 0 at the rim
    cover = np.clip(0.5 + depth * short / (1.1 * pixel), 0.0, 1.0)
    stamps = np.stack([cover * dark * (1.0 - clearing * np.clip(1.6 * depth, 0.0, 1.0)), cover], axis=1)
    border = 2 * half + math.ceil(MARGIN / pixel) + 1
    canvas = np.zeros((2, size + 2 * border, size + 2 * border))
    for stamp, (row, column) in zip(stamps, corner + border - half):
        window = canvas[:, row : row + 2 * half + 1, column : column + 2 * half + 1]
        np.maximum(window, stamp, out=window)
    return canvas[0, border:-border, border:-border], canvas[1, border:-border, border:-border]


def noise(rng: np.random.Generator, size: int, scale: float, angle: float = 0.0, stretch: float = 1.0) -> Map:
    """Gaussian noise of unit variance, smooth over `scale` micrometres, `stretch` times as far along `angle`."""
    return noises(rng, size, (scale, angle, stretch))[0]


def noises(rng: np.random.Generator, size: int, *smoothed: tuple[float, float, float]) -> Float64[np.ndarray, "n h w"]:
    """`noise` for each (scale, angle, stretch), all in one transform."""
    from scipy.fft import irfft2, rfft2

    padded = size + size // 2  # the transform is periodic: what would wrap round is cut off
    spectra = rfft2(rng.standard_normal((len(smoothed), padded, padded)))
    for spectrum, (scale, angle, stretch) in zip(spectra, smoothed):
        spectrum *= _smoothing(padded, scale * size / FIELD, angle, stretch)
    return irfft2(spectra, s=(padded, padded), overwrite_x=True)[:, :size, :size]


@lru_cache(maxsize=64)
def _smoothing(size: int, scale: float, angle: float, stretch: float) -> Map:
    """Transfer function of a Gaussian filter (scale in pixels), normalised to keep unit variance."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :]
    along, across = fy * math.sin(angle) + fx * math.cos(angle), fy * math.cos(angle) - fx * math.sin(angle)
    gain = np.exp(-2.0 * (math.pi * scale) ** 2 * ((stretch * along) ** 2 + across**2))
    return (gain / np.sqrt((gain**2).mean()))[:, : size // 2 + 1]
